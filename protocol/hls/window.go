package hls

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// Window is where a media playlist stands in its stream.
type Window struct {
	// First and Last are the media sequence numbers of the first and the last segment
	// listed (RFC 8216 section 3).
	First, Last int64
	// Target is the longest that a segment lasts, in whole seconds; 0 if it is not said.
	Target time.Duration
}

// maxTarget bounds Target: an hour is no segment any more.
const maxTarget = 3600

// ParseWindow reads a playlist's window. ok is false for what lists no segments, such as
// a master playlist, and for what is no playlist or breaks the rules for numbers.
func ParseWindow(playlist []byte) (w Window, ok bool) {
	if !bytes.HasPrefix(bytes.TrimPrefix(playlist, []byte("\ufeff")), []byte("#EXTM3U")) {
		return Window{}, false
	}
	var segments int64
	for line := range bytes.Lines(playlist) {
		if len(line) < 4 || line[0] != '#' || line[1] != 'E' {
			continue
		}
		line = bytes.TrimRight(line, "\r\n \t")
		if bytes.HasPrefix(line, []byte("#EXTINF:")) {
			segments++
		} else if v, is := bytes.CutPrefix(line, []byte("#EXT-X-MEDIA-SEQUENCE:")); is {
			n, err := strconv.ParseInt(string(v), 10, 64)
			if err != nil || n < 0 || n > math.MaxInt64/2 {
				return Window{}, false
			}
			w.First = n
		} else if v, is := bytes.CutPrefix(line, []byte("#EXT-X-TARGETDURATION:")); is {
			n, err := strconv.ParseInt(string(v), 10, 64)
			if err != nil || n < 0 {
				return Window{}, false
			}
			w.Target = time.Duration(min(n, maxTarget)) * time.Second
		}
	}
	w.Last = w.First + segments - 1
	return w, segments > 0
}

// Find finds the segment whose path ends with name, as it is written in the playlist: whole,
// behind the last slash of its URI. n is its place, 0 for the first.
func Find(playlist []byte, name string) (n int, ok bool) {
	if name == "" {
		return 0, false
	}
	for at := 0; ; {
		i := bytes.Index(playlist[at:], []byte(name))
		if i < 0 {
			return 0, false
		}
		begin := at + i
		at = begin + len(name)
		begins := begin > 0 && (playlist[begin-1] == '/' || playlist[begin-1] == '\n')
		ends := at == len(playlist) || bytes.IndexByte([]byte("?#\r\n"), playlist[at]) >= 0
		if begins && ends {
			n = bytes.Count(playlist[:begin], []byte("\n#EXTINF:")) - 1
			return n, n >= 0
		}
	}
}
