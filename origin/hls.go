package origin

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// hlsWindow keeps the last segments of one stream in memory, so there is no file
// to clean up, no disk to fill and nothing to recover.
//
// It is our own for a hundred lines because the sequence has to go on over a
// republish, with a discontinuity, because HEVC and MP3 belong in it, and because
// the packets are those that HTTP-TS players get. Guarded by its stream's mutex.
type hlsWindow struct {
	name     string // of the stream, as it is written in a URL
	fragment int64  // ms
	window   int64  // ms

	segments      []*segment // offered by the playlist, oldest first
	retired       []*segment // no longer offered, still served
	current       *segment
	next          uint64 // sequence number
	discontinuity bool   // before the next segment
	gone          int    // discontinuities that left the playlist
	longest       int64  // ms
	changed       chan struct{}
}

type segment struct {
	seq           uint64
	start         int64 // ms
	duration      int64 // ms
	discontinuity bool
	chunks        [][]byte
	size          int
}

// Bounds of one segment: without a keyframe it can't be cut, and memory must end
// somewhere. A segment that hits them is cut all the same.
const (
	segmentMaxBytes = 64 << 20
	segmentMaxMs    = 120_000
)

// retiredSegments stay for players that have read an older playlist (RFC 8216
// section 6.2.2 asks for about the length of the playlist).
const retiredSegments = 3

func newHLSWindow(name string, fragment, window time.Duration) *hlsWindow {
	return &hlsWindow{
		name:     url.PathEscape(name),
		fragment: fragment.Milliseconds(),
		window:   window.Milliseconds(),
		// Numbers begin with the clock: a stream that moves to another origin, or an
		// origin that restarts, never goes back in the sequence, and no cache
		// has an old segment of that name.
		next:    uint64(time.Now().Unix()),
		changed: make(chan struct{}),
	}
}

// add takes packets; ms is their decoding time, key tells that a segment can
// begin with them.
func (h *hlsWindow) add(packets []byte, ms int64, key bool) {
	if c := h.current; c != nil {
		full := c.size > segmentMaxBytes || ms-c.start > segmentMaxMs
		if key && ms-c.start >= h.fragment || full {
			h.cut(ms)
		}
	}
	if h.current == nil {
		if !key {
			return
		}
		h.current = &segment{seq: h.next, start: ms, discontinuity: h.discontinuity}
		h.next++
		h.discontinuity = false
	}
	h.current.chunks = append(h.current.chunks, packets)
	h.current.size += len(packets)
}

// cut ends the current segment at ms and offers it.
func (h *hlsWindow) cut(ms int64) {
	c := h.current
	if c == nil {
		return
	}
	h.current = nil
	c.duration = max(1, ms-c.start)
	h.longest = max(h.longest, c.duration)
	h.segments = append(h.segments, c)
	for len(h.segments) > 3 && h.sum()-h.segments[0].duration >= h.window {
		h.retire()
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// interrupt ends the current segment, and says that what follows does not continue it.
func (h *hlsWindow) interrupt(ms int64) {
	h.cut(ms)
	h.discontinuity = len(h.segments) > 0
}

func (h *hlsWindow) retire() {
	s := h.segments[0]
	if s.discontinuity {
		h.gone++
	}
	h.segments = append(h.segments[:0], h.segments[1:]...)
	if h.retired = append(h.retired, s); len(h.retired) > retiredSegments {
		h.retired = append(h.retired[:0], h.retired[1:]...)
	}
}

func (h *hlsWindow) sum() (ms int64) {
	for _, s := range h.segments {
		ms += s.duration
	}
	return ms
}

// playlist is the media playlist (RFC 8216 section 4.3); query goes behind each
// segment's name.
func (h *hlsWindow) playlist(query string) string {
	var b strings.Builder
	b.WriteString("#EXTM3U\n#EXT-X-VERSION:3\n")
	fmt.Fprintf(&b, "#EXT-X-MEDIA-SEQUENCE:%d\n", h.segments[0].seq)
	if h.gone > 0 {
		fmt.Fprintf(&b, "#EXT-X-DISCONTINUITY-SEQUENCE:%d\n", h.gone)
	}
	target := math.Ceil(float64(max(h.longest, h.fragment)) / 1000)
	fmt.Fprintf(&b, "#EXT-X-TARGETDURATION:%d\n", int(target))
	for _, s := range h.segments {
		if s.discontinuity {
			b.WriteString("#EXT-X-DISCONTINUITY\n")
		}
		fmt.Fprintf(&b, "#EXTINF:%.3f, no desc\n%s-%d.ts%s\n", float64(s.duration)/1000, h.name, s.seq, query)
	}
	return b.String()
}

// find returns a segment that is offered, or was until a moment ago.
func (h *hlsWindow) find(seq uint64) *segment {
	for _, list := range [][]*segment{h.segments, h.retired} {
		for _, s := range list {
			if s.seq == seq {
				return s
			}
		}
	}
	return nil
}

// segmentName splits "name-7" into the stream's name and the sequence number.
func segmentName(s string) (name string, seq uint64, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i <= 0 {
		return "", 0, false
	}
	seq, err := strconv.ParseUint(s[i+1:], 10, 64)
	return s[:i], seq, err == nil
}
