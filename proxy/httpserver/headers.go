package httpserver

import (
	"net/http"
	"net/netip"
	"strings"
)

// hopByHop are the headers between two neighbours (RFC 9110 section 7.6.1), and
// those that a request without a body has no use for.
func hopByHop() []string {
	return []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}
}

// dropHopByHop deletes them from h, those that Connection names included.
func dropHopByHop(h http.Header) {
	for _, name := range connectionNames(h) {
		h.Del(name)
	}
	for _, name := range hopByHop() {
		h.Del(name)
	}
}

// connectionNames are the headers that Connection declares hop-by-hop.
func connectionNames(h http.Header) []string {
	var names []string
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// originHeader is the client's header as the origin gets it. SRS believes
// X-Forwarded-For and X-Real-IP, so what a client claims there is replaced.
func originHeader(r *http.Request) http.Header {
	h := r.Header.Clone()
	dropHopByHop(h)
	h.Del("Content-Length")
	h.Del("Expect")
	h.Del("Forwarded") // the standard's X-Forwarded-For, and as easily forged
	ip := clientIP(r)
	h.Set("X-Forwarded-For", ip)
	h.Set("X-Real-Ip", ip)
	return h
}

// client is the address and port of the TCP peer.
func client(r *http.Request) netip.AddrPort {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr) // net/http's own words
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// clientIP is the address of the TCP peer.
func clientIP(r *http.Request) string {
	if ap := client(r); ap.IsValid() {
		return ap.Addr().String()
	}
	return r.RemoteAddr
}

// cors is what SRS says to a request with an Origin header. We say it to every
// request, so that a cache in front can serve one answer to all pages.
func cors() [][2]string {
	return [][2]string{
		{"Access-Control-Allow-Origin", "*"},
		{"Access-Control-Allow-Methods", "*"},
		{"Access-Control-Allow-Headers", "*"},
		{"Access-Control-Expose-Headers", "*"},
	}
}

// addCORS adds the headers unless the origin has its own policy.
func addCORS(h http.Header) {
	if _, own := h["Access-Control-Allow-Origin"]; own {
		return
	}
	for _, kv := range cors() {
		h.Set(kv[0], kv[1])
	}
}

// preflight answers OPTIONS itself: the answer is the same for every path, and an
// origin need not be up for it.
func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Allow", "GET, HEAD, OPTIONS")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "*")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked) // "*" does not cover Authorization
		h.Set("Vary", "Access-Control-Request-Headers")
	}
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}

// fixContentType gives a successful answer the type of its extension if the origin
// gave none, or the text/plain that a web server gives what it does not know.
func fixContentType(h http.Header, status int, ext string) {
	if status != http.StatusOK && status != http.StatusPartialContent {
		return
	}
	got := h.Get("Content-Type")
	if got != "" && !strings.HasPrefix(got, "text/plain") {
		return
	}
	if want := contentType(ext); want != "" {
		h.Set("Content-Type", want)
	}
}

func contentType(ext string) string {
	switch ext {
	case ".m3u8":
		return "application/vnd.apple.mpegurl" // RFC 8216 section 4
	case ".ts":
		return "video/mp2t"
	case ".m4s":
		return "video/iso.segment"
	case ".mp4":
		return "video/mp4"
	case ".mpd":
		return "application/dash+xml"
	case ".key":
		return "application/octet-stream"
	case ".vtt":
		return "text/vtt"
	case ".flv":
		return "video/x-flv"
	case ".aac":
		return "audio/aac"
	case ".mp3":
		return "audio/mpeg"
	}
	return ""
}
