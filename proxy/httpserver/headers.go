package httpserver

import (
	"net/http"
	"strings"
)

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
