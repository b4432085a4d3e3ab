// Package hls puts a stream token on the URIs of an HLS playlist, so that the
// request for a segment says which stream, and so which origin, it belongs to.
//
//	#EXTM3U                                   #EXTM3U
//	#EXT-X-MAP:URI="a/init.mp4"       ──▶     #EXT-X-MAP:URI="a/init.mp4?spbhid=T"
//	#EXTINF:2.0,                              #EXTINF:2.0,
//	a-7.m4s?hls_ctx=x                         a-7.m4s?hls_ctx=x&spbhid=T
//	http://cdn.example/ad.m4s                 http://cdn.example/ad.m4s
//
// It is no playlist parser: it finds URIs by line and by attribute (RFC 8216
// sections 4.1 and 4.2) and leaves every other byte as it was, tags that it does
// not know, line ends and blanks included. Pure code: no sockets, no state.
package hls

import (
	"bytes"
	"errors"
	"strings"
)

// ErrNotPlaylist says that the text does not begin with #EXTM3U (RFC 8216
// section 4.3.1.1), so that none of its lines may be taken for a URI.
var ErrNotPlaylist = errors.New("not an HLS playlist: no #EXTM3U at the start")

// Rewriter knows which stream a playlist belongs to and which absolute URLs lead
// back to it.
type Rewriter struct {
	// Token goes on every URI that leads here.
	Token string
	// Public is the authority ("host[:port]") by which the client reached the
	// proxy: absolute URLs with it (SRS's hls_entry_prefix, hls_key_url) get the token.
	Public string
	// Origin is the origin's own authority. A client may not be able to reach it and must not
	// go around the proxy: such URLs become path-absolute, and get the token.
	Origin string
}

// Rewrite returns the playlist with the token on its URIs. Doing it twice is the
// same as doing it once.
func (rw Rewriter) Rewrite(playlist []byte) ([]byte, error) {
	// RFC 8216 section 4.1 forbids a byte order mark, but files have it.
	if !bytes.HasPrefix(bytes.TrimPrefix(playlist, []byte("\ufeff")), []byte("#EXTM3U")) {
		return nil, ErrNotPlaylist
	}
	// Room for the few dozen URIs that a live window has; append takes care of more.
	out := make([]byte, 0, len(playlist)+64*(len(Param)+len(rw.Token)+2))
	first := true
	for line := range bytes.Lines(playlist) {
		body := bytes.TrimRight(line, "\r\n")
		if first { // the #EXTM3U itself, which a byte order mark would make look like a URI
			out = append(out, body...)
			first = false
		} else {
			out = rw.appendLine(out, string(body))
		}
		out = append(out, line[len(body):]...)
	}
	return out, nil
}

// appendLine adds one line without its end.
func (rw Rewriter) appendLine(out []byte, line string) []byte {
	text := strings.Trim(line, " \t")
	switch {
	case text == "":
		return append(out, line...)
	case text[0] != '#':
		at := strings.Index(line, text)
		out = append(out, line[:at]...)
		out = append(out, rw.uri(text)...)
		return append(out, line[at+len(text):]...)
	case !hasURI(text):
		return append(out, line...)
	}
	begin, end, ok := uriAttribute(line)
	if !ok {
		return append(out, line...)
	}
	out = append(out, line[:begin]...)
	out = append(out, rw.uri(line[begin:end])...)
	return append(out, line[end:]...)
}

// hasURI tells whether a tag is one whose URI attribute names something that the
// client will fetch (RFC 8216 section 4.3 and its second edition).
func hasURI(line string) bool {
	tag, _, found := strings.Cut(line, ":")
	if !found {
		return false
	}
	switch tag {
	case "#EXT-X-KEY", "#EXT-X-SESSION-KEY", "#EXT-X-MAP", "#EXT-X-MEDIA", "#EXT-X-I-FRAME-STREAM-INF",
		"#EXT-X-IMAGE-STREAM-INF", "#EXT-X-SESSION-DATA", "#EXT-X-PART", "#EXT-X-PRELOAD-HINT", "#EXT-X-RENDITION-REPORT":
		return true
	}
	return false
}

// uriAttribute finds the quoted value of the attribute URI in a tag's attribute
// list (RFC 8216 section 4.2): name=value, separated by commas, where a quoted
// value may hold commas and equals signs. A list that it can't follow has none.
func uriAttribute(line string) (begin, end int, ok bool) {
	at := strings.IndexByte(line, ':') + 1
	for at < len(line) {
		eq := strings.IndexByte(line[at:], '=')
		if eq < 0 {
			return 0, 0, false
		}
		name := strings.Trim(line[at:at+eq], " \t")
		at += eq + 1
		if at < len(line) && line[at] == '"' {
			at++
			n := strings.IndexByte(line[at:], '"')
			if n < 0 {
				return 0, 0, false
			}
			if name == "URI" {
				return at, at + n, n > 0
			}
			at += n + 1
		}
		comma := strings.IndexByte(line[at:], ',')
		if comma < 0 {
			return 0, 0, false
		}
		at += comma + 1
	}
	return 0, 0, false
}

// uri puts the token on one URI reference if it leads to the proxy.
func (rw Rewriter) uri(ref string) string {
	scheme, rest := cutScheme(ref)
	if scheme != "" && scheme != "http" && scheme != "https" {
		return ref // data:, skd: and the like are no requests
	}
	if !strings.HasPrefix(rest, "//") {
		if scheme != "" {
			return ref // "http:a.ts" means different things to different readers
		}
		return withToken(ref, rw.Token)
	}
	authority, path := cutAuthority(rest[2:])
	switch {
	case sameAuthority(scheme, authority, rw.Public):
		return withToken(ref, rw.Token)
	case sameAuthority(scheme, authority, rw.Origin) && !strings.HasPrefix(path, "//"):
		if !strings.HasPrefix(path, "/") {
			path = "/" + path
		}
		return withToken(path, rw.Token)
	}
	return ref
}

// cutScheme splits "scheme:rest" (RFC 3986 section 3.1), the scheme in lower case.
func cutScheme(ref string) (scheme, rest string) {
	for i, c := range []byte(ref) {
		switch {
		case c == ':' && i > 0:
			return strings.ToLower(ref[:i]), ref[i+1:]
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return "", ref
		}
	}
	return "", ref
}

// cutAuthority splits what follows "//" where the path, query or fragment begins.
func cutAuthority(s string) (authority, path string) {
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// sameAuthority compares "host[:port]" without the case of the host and without
// the scheme's default port, which clients leave out of the Host header.
func sameAuthority(scheme, a, b string) bool {
	if b == "" {
		return false
	}
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	return strings.EqualFold(strings.TrimSuffix(a, port), strings.TrimSuffix(b, port))
}
