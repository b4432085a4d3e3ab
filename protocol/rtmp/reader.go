package rtmp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// extended is the value of a 24-bit timestamp field that says: the real one
// follows in 32 bits (section 5.3.1.3).
const extended = 0xffffff

// What a payload may take before its bytes are here: as much as the peer's
// largest message so far, between these bounds. Stream headers alone thus cost
// little, and a peer that sends large frames has them in one allocation.
const (
	reserveLeast = 4 << 10
	reserveMost  = 64 << 10
)

// Reader reads messages from chunks. It acts on SetChunkSize and Abort itself
// and still returns them. Not safe for concurrent use.
type Reader struct {
	br        *bufio.Reader
	limits    Limits
	chunkSize uint32
	reserve   uint32
	streams   map[uint32]*chunkStream
	partial   int   // chunk streams with an unfinished message
	consumed  int64 // bytes decoded
	chunkAt   int64 // where the chunk being read began
	startedAt int64 // where the last message returned began
	scratch   [11]byte
}

// chunkStream is the decoder's state of one chunk stream id.
type chunkStream struct {
	length    uint32
	typ       uint8
	streamID  uint32
	timestamp uint32
	delta     uint32
	// extended tells that the last header had an extended timestamp, ext its value:
	// the chunks that continue a message (fmt 3) repeat it.
	extended bool
	ext      uint32

	reading bool // a message has begun
	began   int64
	format  uint8
	payload []byte
}

// NewReader reads from r, through a buffer unless r is a *bufio.Reader.
func NewReader(r io.Reader, l Limits) *Reader {
	br, ok := r.(*bufio.Reader)
	if !ok {
		br = bufio.NewReaderSize(r, 4096)
	}
	return &Reader{
		br: br, limits: l.withDefaults(),
		chunkSize: DefaultChunkSize, reserve: reserveLeast,
		streams: make(map[uint32]*chunkStream, 8),
	}
}

// ChunkSize is what the peer's last SetChunkSize said, in bytes.
func (r *Reader) ChunkSize() int { return int(r.chunkSize) }

// Start is the offset of the first byte of the last message returned, in bytes
// from the beginning of the source.
func (r *Reader) Start() int64 { return r.startedAt }

// AtBoundary tells whether no message is half read: the next byte begins a
// message on whatever chunk stream it is.
func (r *Reader) AtBoundary() bool { return r.partial == 0 }

// Buffered returns what was read from the source and not yet decoded. The slice
// is valid until the next read.
func (r *Reader) Buffered() []byte {
	b, _ := r.br.Peek(r.br.Buffered())
	return b
}

// ReadMessage returns the next whole message. Its payload belongs to the caller.
// Errors are those of the source or of this package; io.EOF only at a chunk's
// boundary.
func (r *Reader) ReadMessage() (Message, error) {
	for {
		m, done, err := r.readChunk()
		if err != nil {
			return Message{}, err
		}
		if !done {
			continue
		}
		if err := r.act(m); err != nil {
			return Message{}, err
		}
		return m, nil
	}
}

// act follows the messages that change how chunks are read.
func (r *Reader) act(m Message) error {
	switch m.Type {
	case TypeSetChunkSize:
		n, err := m.Uint32()
		if err != nil {
			return err
		}
		if n < 1 || n > MaxChunkSize {
			return fmt.Errorf("%w: %d", ErrChunkSize, n)
		}
		r.chunkSize = n
	case TypeAbort:
		csid, err := m.Uint32()
		if err != nil {
			return err
		}
		if s := r.streams[csid]; s != nil && s.reading {
			s.reading, s.payload = false, nil
			r.partial--
		}
	}
	return nil
}

// readChunk reads one chunk; done tells that it completed m.
func (r *Reader) readChunk() (m Message, done bool, err error) {
	r.chunkAt = r.consumed
	format, csid, err := r.basicHeader()
	if err != nil {
		return m, false, err
	}
	s, err := r.stream(csid, format)
	if err != nil {
		return m, false, err
	}
	if err := r.messageHeader(s, format, csid); err != nil {
		return m, false, unexpected(err)
	}
	if !s.reading {
		if max := r.limits.of(s.typ); int(s.length) > max {
			return m, false, fmt.Errorf("%w: type %d of %d bytes, at most %d", ErrTooLarge, s.typ, s.length, max)
		}
		s.reading, s.format, s.began = true, format, r.chunkAt
		s.payload = make([]byte, 0, min(s.length, r.reserve))
		r.partial++
	}
	if err := r.appendPayload(s); err != nil {
		return m, false, unexpected(err)
	}
	if uint32(len(s.payload)) < s.length {
		return m, false, nil
	}
	r.reserve = min(max(r.reserve, s.length), reserveMost)
	m = Message{ChunkStreamID: csid, Type: s.typ, StreamID: s.streamID, Timestamp: s.timestamp, Format: s.format, Payload: s.payload}
	s.reading, s.payload = false, nil
	r.partial--
	r.startedAt = s.began
	return m, true, nil
}

// basicHeader is section 5.3.1.1: ids 2 to 63 in one byte, to 319 in two, to
// 65599 in three.
func (r *Reader) basicHeader() (format uint8, csid uint32, err error) {
	b, err := r.readByte()
	if err != nil {
		return 0, 0, err
	}
	format, csid = b>>6, uint32(b&0x3f)
	if csid > 1 {
		return format, csid, nil
	}
	low, err := r.readByte()
	if err != nil {
		return 0, 0, unexpected(err)
	}
	if csid == 0 {
		return format, 64 + uint32(low), nil
	}
	high, err := r.readByte()
	if err != nil {
		return 0, 0, unexpected(err)
	}
	return format, 64 + uint32(low) + uint32(high)<<8, nil
}

func (r *Reader) stream(csid uint32, format uint8) (*chunkStream, error) {
	if s := r.streams[csid]; s != nil {
		return s, nil
	}
	// A first chunk has no header to inherit from. librtmp begins with fmt 1 on
	// some ids; SRS takes that, and so does this.
	if format > 1 {
		return nil, fmt.Errorf("%w: fmt %d is the first on chunk stream %d", ErrChunk, format, csid)
	}
	if len(r.streams) >= r.limits.ChunkStreams {
		return nil, fmt.Errorf("%w: more than %d", ErrChunkStreams, r.limits.ChunkStreams)
	}
	s := &chunkStream{}
	r.streams[csid] = s
	return s, nil
}

// messageHeader is section 5.3.1.2.
func (r *Reader) messageHeader(s *chunkStream, format uint8, csid uint32) error {
	size := [4]int{11, 7, 3, 0}[format]
	if format == 3 {
		return r.inheritHeader(s)
	}
	h := r.scratch[:size]
	if err := r.readFull(h); err != nil {
		return err
	}
	field := uint24(h[0:])
	s.extended = field == extended
	if format <= 1 {
		length, typ := uint24(h[3:]), h[6]
		if s.reading && (format == 0 || length != s.length || typ != s.typ) {
			return fmt.Errorf("%w: new header inside a message of chunk stream %d", ErrChunk, csid)
		}
		s.length, s.typ = length, typ
	}
	if format == 0 {
		s.streamID = binary.LittleEndian.Uint32(h[7:])
	}
	if s.extended {
		if err := r.readExtended(s); err != nil {
			return err
		}
		field = s.ext
	}
	switch {
	case s.reading: // a continuation with a needless header: the time is known
	case format == 0:
		s.timestamp, s.delta = field, field
	default:
		s.timestamp, s.delta = s.timestamp+field, field
	}
	return nil
}

// inheritHeader is fmt 3: the continuation of a message, or a new one that is
// like the last.
func (r *Reader) inheritHeader(s *chunkStream) error {
	if s.reading {
		return r.skipExtended(s)
	}
	if s.extended {
		// A new message has its own: the delta, as ffmpeg sends and reads it.
		if err := r.readExtended(s); err != nil {
			return err
		}
		s.delta = s.ext
	}
	s.timestamp += s.delta
	return nil
}

func (r *Reader) readExtended(s *chunkStream) error {
	if err := r.readFull(r.scratch[:4]); err != nil {
		return err
	}
	s.ext = binary.BigEndian.Uint32(r.scratch[:4])
	return nil
}

// skipExtended takes the extended timestamp that a continuation repeats. Some
// encoders leave it out; SRS tells by its value, and so does this. It looks at no
// byte after the first that differs: what is left of the message may be shorter
// than a timestamp, with nothing behind it yet.
func (r *Reader) skipExtended(s *chunkStream) error {
	if !s.extended {
		return nil
	}
	for i := range 4 {
		b, err := r.br.Peek(i + 1)
		if err != nil {
			return err
		}
		if b[i] != byte(s.ext>>(24-8*i)) {
			return nil
		}
	}
	n, err := r.br.Discard(4)
	r.consumed += int64(n)
	return err
}

func (r *Reader) appendPayload(s *chunkStream) error {
	n := min(s.length-uint32(len(s.payload)), r.chunkSize)
	for n > 0 {
		if cap(s.payload) == len(s.payload) {
			grown := make([]byte, len(s.payload), min(int(s.length), 2*cap(s.payload)))
			copy(grown, s.payload)
			s.payload = grown
		}
		step := min(int(n), cap(s.payload)-len(s.payload))
		at := len(s.payload)
		s.payload = s.payload[:at+step]
		if err := r.readFull(s.payload[at:]); err != nil {
			return err
		}
		n -= uint32(step)
	}
	return nil
}

func (r *Reader) readByte() (byte, error) {
	b, err := r.br.ReadByte()
	if err == nil {
		r.consumed++
	}
	return b, err
}

func (r *Reader) readFull(b []byte) error {
	n, err := io.ReadFull(r.br, b)
	r.consumed += int64(n)
	return err
}

// unexpected turns an end inside a chunk into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
