package httpserver

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"srs-proxy/balancer"
	"srs-proxy/protocol/hls"
	"srs-proxy/protocol/streamurl"
)

// kind is how a request is served.
type kind int

const (
	other    kind = iota // a page, a script, crossdomain.xml: any origin
	live                 // a session that may last for ever
	file                 // a segment, an init segment, a key, a manifest without rewriting
	playlist             // an HLS playlist
)

// target is where a request goes and how.
type target struct {
	kind   kind
	stream streamurl.Stream
	ext    string
	// segmentOf is set where the name of a live request looks like that of a
	// segment (name-7.ts): the stream it would be a segment of.
	segmentOf *streamurl.Stream
	tokened   bool // a playlist named it: the stream is its token's
	// path and query are as the client sent them, less the token.
	path, query string
}

var errBadPath = errors.New("the path has control characters")

// parseTarget reads a request. Errors are the client's.
func parseTarget(r *http.Request) (target, error) {
	t := target{path: r.URL.EscapedPath()}
	if strings.HasPrefix(r.RequestURI, "/") { // else it is absolute, as to a forward proxy
		t.path, _, _ = strings.Cut(r.RequestURI, "?")
	}
	if t.path == "" {
		t.path = "/"
	}
	if strings.ContainsFunc(r.URL.Path, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
		return target{}, errBadPath
	}
	var token string
	var tokened bool
	t.query, token, tokened = hls.CutQuery(r.URL.RawQuery)

	s, ext, err := streamurl.ParseHTTP(r.Host, r.URL.Path, t.query)
	if errors.Is(err, streamurl.ErrTooLong) {
		return target{}, err
	}
	t.ext = ext
	if err != nil || s.App == "" {
		// No stream: any origin will do, the same one each time.
		t.stream = streamurl.Stream{Vhost: balancer.DefaultVhost, App: "-", Name: r.URL.Path}
		return t, nil
	}
	t.stream = s
	if tokened && ext != ".flv" { // no playlist names an .flv
		v, app, name, err := hls.ParseToken(token)
		if err != nil {
			return target{}, fmt.Errorf("%s: %w", hls.Param, err)
		}
		if ext != ".m3u8" {
			t.kind, t.tokened, t.stream = file, true, streamurl.Stream{Vhost: v, App: app, Name: name}
			return t, nil
		}
		// A playlist's own path names its stream: a master may list other streams,
		// which may live on other origins. Only its vhost is lost in a relative URI.
		t.stream.Vhost = v
	}
	switch ext {
	case ".m3u8":
		t.kind = playlist
	case ".flv":
		t.kind = live
	case ".ts", ".aac", ".mp3":
		t.kind = live
		if name, ok := cutSequence(s.Name); ok {
			t.segmentOf = &streamurl.Stream{Vhost: s.Vhost, App: s.App, Name: name}
		}
	case ".m4s", ".key", ".vtt", ".mp4":
		t.kind = file
		t.stream = streamOfFile(s, ext)
	case ".mpd":
		t.kind = file
	}
	return t, nil
}

// streamOfFile finds the stream of a file that has no token, by SRS's layouts:
//
//	[app]/[stream]-[seq].m4s, .key, .vtt   HLS
//	[app]/[stream]/init.mp4                HLS in fMP4
//	[app]/[stream]/video-[n].m4s           DASH, audio alike, and video-init.mp4
//	[app]/[stream].mp4                     anything else
//
// DASH names segments by template, so that there is no URI to put a token on.
func streamOfFile(s streamurl.Stream, ext string) streamurl.Stream {
	base, numbered := cutSequence(s.Name)
	inDir := ext == ".m4s" && numbered && (base == "video" || base == "audio") ||
		ext == ".mp4" && (s.Name == "init" || s.Name == "video-init" || s.Name == "audio-init")
	if i := strings.LastIndexByte(s.App, '/'); inDir && i > 0 && i < len(s.App)-1 {
		s.App, s.Name = s.App[:i], s.App[i+1:]
		if dot := strings.LastIndexByte(s.Name, '.'); dot > 0 { // as the rest of SRS drops it
			s.Name = s.Name[:dot]
		}
		return s
	}
	if numbered && ext != ".mp4" { // a recording's number is its own
		s.Name = base
	}
	return s
}

// cutSequence cuts the "-7" off "name-7".
func cutSequence(name string) (base string, ok bool) {
	i := strings.LastIndexByte(name, '-')
	if i <= 0 || i == len(name)-1 {
		return name, false
	}
	for _, c := range []byte(name[i+1:]) {
		if c < '0' || c > '9' {
			return name, false
		}
	}
	return name[:i], true
}

// uri is the request target for the origin.
func (t target) uri() string {
	if t.query == "" {
		return t.path
	}
	return t.path + "?" + t.query
}
