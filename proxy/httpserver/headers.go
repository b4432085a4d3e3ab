package httpserver

import (
	"net/http"
	"strings"
)

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
