package load

import (
	"encoding/binary"
	"fmt"

	"srs-proxy/protocol/rtmp"
)

// chunks follows RTMP's chunk stream as its bytes come, whatever their cuts, and keeps
// of each message only its beginning. protocol/rtmp's Reader waits for whole messages
// and owns their memory, which is one goroutine and one allocation too many for a
// player among hundreds.
type chunks struct {
	size    int // the peer's chunk size
	streams map[uint32]*chunkStream
	header  [3 + 11 + 4]byte
	have    int // bytes of the header
	current *chunkStream
	left    int // bytes of payload before the next header
}

// chunkStream is what a chunk stream's headers said, and the message on its way.
type chunkStream struct {
	kind     uint8
	streamID uint32
	length   int
	extended bool
	got      int
	head     []byte
}

// Bounds: a whole command is kept, and of anything else what a frame says of itself.
const (
	maxCommand      = 4 << 10
	maxChunkStreams = 64
	maxMessage      = 16 << 20
)

// message is the beginning of a message whose last byte has come.
type message struct {
	kind     uint8
	streamID uint32
	length   int
	head     []byte // valid until the next message
}

func newChunks() *chunks {
	return &chunks{size: rtmp.DefaultChunkSize, streams: map[uint32]*chunkStream{}}
}

// feed takes bytes and gives each message to got as it ends.
func (c *chunks) feed(b []byte, got func(message) error) error {
	for len(b) > 0 {
		if c.current == nil {
			n, err := c.feedHeader(b)
			if err != nil {
				return err
			}
			b = b[n:]
			if c.current == nil || c.left > 0 {
				continue
			}
		}
		n := min(len(b), c.left)
		c.keep(b[:n])
		b = b[n:]
		if c.left > 0 {
			continue
		}
		s := c.current
		c.current = nil
		if s.got < s.length {
			continue
		}
		m := message{kind: s.kind, streamID: s.streamID, length: s.length, head: s.head}
		s.got = 0
		if err := c.control(m); err != nil {
			return err
		}
		if err := got(m); err != nil {
			return err
		}
		s.head = s.head[:0]
	}
	return nil
}

func (c *chunks) keep(b []byte) {
	s := c.current
	limit := headSize
	if s.kind == rtmp.TypeCommandAMF0 || s.kind == rtmp.TypeCommandAMF3 {
		limit = maxCommand
	}
	if room := limit - len(s.head); room > 0 {
		s.head = append(s.head, b[:min(room, len(b))]...)
	}
	s.got += len(b)
	c.left -= len(b)
}

// control acts on SetChunkSize.
func (c *chunks) control(m message) error {
	if m.kind != rtmp.TypeSetChunkSize {
		return nil
	}
	if m.length < 4 {
		return fmt.Errorf("rtmp: SetChunkSize of %d bytes", m.length)
	}
	c.size = int(binary.BigEndian.Uint32(m.head))
	if c.size < 1 || c.size > rtmp.MaxChunkSize {
		return rtmp.ErrChunkSize
	}
	return nil
}

// feedHeader takes a header's bytes until it is whole, and says how many it took.
func (c *chunks) feedHeader(b []byte) (int, error) {
	taken := 0
	for {
		need, s, err := c.headerSize()
		if err != nil {
			return taken, err
		}
		if c.have >= need {
			c.begin(s)
			return taken, nil
		}
		n := copy(c.header[c.have:need], b[taken:])
		if n == 0 {
			return taken, nil
		}
		c.have += n
		taken += n
	}
}

// headerSize is how many bytes the header has, as far as those that are there tell.
func (c *chunks) headerSize() (int, *chunkStream, error) {
	if c.have == 0 {
		return 1, nil, nil
	}
	basic, csid := 1, uint32(c.header[0]&0x3f)
	switch csid {
	case 0:
		basic = 2
	case 1:
		basic = 3
	}
	if c.have < basic {
		return basic, nil, nil
	}
	switch basic {
	case 2:
		csid = 64 + uint32(c.header[1])
	case 3:
		csid = 64 + uint32(c.header[1]) + uint32(c.header[2])<<8
	}
	s := c.streams[csid]
	format := c.header[0] >> 6
	if s == nil {
		if len(c.streams) >= maxChunkStreams || format == 3 {
			return 0, nil, fmt.Errorf("%w: format %d on the new chunk stream %d", rtmp.ErrChunk, format, csid)
		}
		s = &chunkStream{}
		c.streams[csid] = s
	}
	size := basic + [4]int{11, 7, 3, 0}[format]
	if c.have < size {
		return size, s, nil
	}
	extended := s.extended
	if format < 3 {
		extended = c.header[basic] == 0xff && c.header[basic+1] == 0xff && c.header[basic+2] == 0xff
	}
	if extended {
		size += 4
	}
	if c.have < size {
		return size, s, nil
	}
	s.extended = extended
	if format < 2 {
		h := c.header[basic:]
		s.length, s.kind = int(h[3])<<16|int(h[4])<<8|int(h[5]), h[6]
		if s.length > maxMessage {
			return 0, nil, rtmp.ErrTooLarge
		}
		if format == 0 {
			s.streamID = binary.LittleEndian.Uint32(h[7:])
		}
	}
	return size, s, nil
}

// begin starts a chunk's payload.
func (c *chunks) begin(s *chunkStream) {
	c.have, c.current = 0, s
	c.left = min(c.size, s.length-s.got)
}
