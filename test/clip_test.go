package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"srs-proxy/protocol/rtmp"
)

// clip is the media of an FLV file as RTMP messages.
type clip struct {
	path    string
	headers []rtmp.Message // metadata and sequence headers, at time 0
	frames  []rtmp.Message // in order of time
	length  uint32         // ms, from the first frame to the one that would follow
}

func readClip(path string) (*clip, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &clip{path: path}
	r := newFLVReader(f)
	for {
		m, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		switch {
		case m.Type == rtmp.TypeDataAMF0, isHeader(m):
			if len(c.frames) == 0 {
				c.headers = append(c.headers, m)
			}
		case len(m.Payload) > 5 || m.Type == rtmp.TypeAudio: // less is an end of sequence
			c.frames = append(c.frames, m)
		}
	}
	if len(c.headers) < 3 || len(c.frames) < 10 {
		return nil, fmt.Errorf("%s: %d headers and %d frames", path, len(c.headers), len(c.frames))
	}
	// The last video frame's successor comes a frame later.
	var last, before uint32
	for _, m := range c.frames {
		if m.Type == rtmp.TypeVideo {
			before, last = last, m.Timestamp
		}
	}
	c.length = max(last+(last-before), c.frames[len(c.frames)-1].Timestamp+1)
	return c, nil
}

// isHeader says that a message is a sequence header, of AVC or AAC.
func isHeader(m rtmp.Message) bool {
	return len(m.Payload) > 1 && m.Payload[1] == 0 && (m.Type == rtmp.TypeVideo && m.Payload[0]&0x0f == 7 || m.Type == rtmp.TypeAudio && m.Payload[0]>>4 == 10)
}

// flvReader reads tags (Adobe's "Video File Format Specification", annex E).
type flvReader struct {
	r     io.Reader
	begun bool
}

func newFLVReader(r io.Reader) *flvReader { return &flvReader{r: r} }

func (f *flvReader) next() (rtmp.Message, error) {
	if !f.begun {
		head := make([]byte, 9+4)
		if _, err := io.ReadFull(f.r, head); err != nil {
			return rtmp.Message{}, err
		}
		if string(head[:3]) != "FLV" {
			return rtmp.Message{}, fmt.Errorf("no FLV: it begins with %q", head)
		}
		f.begun = true
	}
	head := make([]byte, 11)
	if _, err := io.ReadFull(f.r, head); err != nil {
		return rtmp.Message{}, err
	}
	size := int(head[1])<<16 | int(head[2])<<8 | int(head[3])
	m := rtmp.Message{
		Type:      head[0] & 0x1f,
		Timestamp: uint32(head[7])<<24 | uint32(head[4])<<16 | uint32(head[5])<<8 | uint32(head[6]),
		StreamID:  1,
	}
	body := make([]byte, size+4)
	if _, err := io.ReadFull(f.r, body); err != nil {
		return rtmp.Message{}, err
	}
	if got := binary.BigEndian.Uint32(body[size:]); int(got) != size+11 {
		return rtmp.Message{}, fmt.Errorf("a tag of %d bytes is followed by the size %d", size, got)
	}
	m.Payload = body[:size]
	m.ChunkStreamID = chunkStream(m.Type)
	return m, nil
}

func chunkStream(messageType uint8) uint32 {
	switch messageType {
	case rtmp.TypeAudio:
		return 4
	case rtmp.TypeVideo:
		return 6
	}
	return 5
}

// stamp is what each video frame of ours carries besides its picture: which
// stream it is of, which frame in a row it is, and when it was sent. It is in a
// user data SEI unit, so that every decoder plays the stream.
type stamp struct {
	stream uint32
	seq    uint32
	sent   time.Time
}

// stampMark is the UUID of the SEI unit (H.264, D.1.7), and what we look for.
const stampMark = "srs-proxy-stamp!"

// stamped inserts the stamp ahead of the units of an AVC frame. Its numbers are
// written in hexadecimal: no start code can come of them.
func stamped(frame []byte, s stamp) []byte {
	body := fmt.Sprintf("%s%08x%08x%016x", stampMark, s.stream, s.seq, s.sent.UnixNano())
	unit := append([]byte{6, 5, byte(len(body))}, body...)
	unit = append(unit, 0x80)
	out := make([]byte, 0, len(frame)+4+len(unit))
	out = append(out, frame[:5]...) // the tag's header
	out = binary.BigEndian.AppendUint32(out, uint32(len(unit)))
	out = append(out, unit...)
	return append(out, frame[5:]...)
}

// findStamp reads the first stamp in some bytes.
func findStamp(b []byte) (stamp, bool) {
	i := bytes.Index(b, []byte(stampMark))
	if i < 0 || len(b) < i+len(stampMark)+32 {
		return stamp{}, false
	}
	text := string(b[i+len(stampMark):])
	stream, err1 := strconv.ParseUint(text[:8], 16, 32)
	seq, err2 := strconv.ParseUint(text[8:16], 16, 32)
	sent, err3 := strconv.ParseInt(text[16:32], 16, 64)
	return stamp{uint32(stream), uint32(seq), time.Unix(0, sent)}, errors.Join(err1, err2, err3) == nil
}

// transportPayloads are the payloads of a transport stream's packets without
// their headers, in order and by pid (ISO 13818-1, 2.4.3).
func transportPayloads(ts []byte) (map[int][]byte, error) {
	const size = 188
	if len(ts) == 0 || len(ts)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no whole number of packets", len(ts))
	}
	all := make(map[int][]byte)
	for p := ts; len(p) > 0; p = p[size:] {
		if p[0] != 0x47 {
			return nil, fmt.Errorf("a packet begins with %#x", p[0])
		}
		body := p[4:size]
		if p[3]&0x20 != 0 { // adaptation field
			body = body[min(len(body), 1+int(body[0])):]
		}
		if p[3]&0x10 != 0 {
			pid := int(p[1]&0x1f)<<8 | int(p[2])
			all[pid] = append(all[pid], body...)
		}
	}
	return all, nil
}
