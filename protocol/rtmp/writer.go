package rtmp

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Writer writes messages as chunks. Each message begins with a full header
// (fmt 0), as SRS writes them: whoever joins at a message's boundary can follow.
// Not safe for concurrent use.
type Writer struct {
	w         io.Writer
	chunkSize int
	buf       []byte
}

// NewWriter writes to w, one Write a message.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w, chunkSize: DefaultChunkSize} }

// ChunkSize is the size in force, in bytes.
func (w *Writer) ChunkSize() int { return w.chunkSize }

// WriteMessage writes a message. A SetChunkSize takes effect after it.
func (w *Writer) WriteMessage(m Message) error { return w.WriteMessages(m) }

// WriteMessages writes messages with one Write.
func (w *Writer) WriteMessages(messages ...Message) error {
	w.buf = w.buf[:0]
	chunkSize := w.chunkSize
	for _, m := range messages {
		if len(m.Payload) > maxPayload {
			return fmt.Errorf("%w: type %d of %d bytes, at most %d", ErrTooLarge, m.Type, len(m.Payload), maxPayload)
		}
		w.buf = AppendMessage(w.buf, m, chunkSize)
		if m.Type != TypeSetChunkSize {
			continue
		}
		n, err := m.Uint32()
		if err != nil {
			return err
		}
		if n < 1 || n > MaxChunkSize {
			return fmt.Errorf("%w: %d", ErrChunkSize, n)
		}
		chunkSize = int(n)
	}
	w.chunkSize = chunkSize
	_, err := w.w.Write(w.buf)
	if cap(w.buf) > 1<<20 {
		w.buf = nil // a rare large frame must not stay with every connection
	}
	return err
}

// SetChunkSize announces a chunk size, in bytes, and uses it from then on.
func (w *Writer) SetChunkSize(n int) error {
	return w.WriteMessage(ControlMessage(TypeSetChunkSize, uint32(n)))
}

// ControlMessage is a control message of one number (section 5.4): SetChunkSize,
// Abort, Acknowledgement or WindowAckSize.
func ControlMessage(messageType uint8, n uint32) Message {
	return Message{ChunkStreamID: 2, Type: messageType, Payload: binary.BigEndian.AppendUint32(nil, n)}
}

// PeerBandwidthMessage limits what the peer may send unacknowledged to n bytes,
// with limit type 2 (dynamic), as SRS does (section 5.4.5).
func PeerBandwidthMessage(n uint32) Message {
	m := ControlMessage(TypeSetPeerBandwidth, n)
	m.Payload = append(m.Payload, 2)
	return m
}

// maxPayload is what the 24-bit length of a message header can say.
const maxPayload = 1<<24 - 1

// AppendMessage appends the chunks of m to dst. The result can be sent to any
// number of peers that use this chunk size (in bytes, 1 to MaxChunkSize). A
// payload is at most 16777215 bytes.
func AppendMessage(dst []byte, m Message, chunkSize int) []byte {
	field := min(m.Timestamp, extended)
	dst = appendBasicHeader(dst, 0, m.ChunkStreamID)
	dst = appendUint24(dst, field)
	dst = appendUint24(dst, uint32(len(m.Payload)))
	dst = append(dst, m.Type)
	dst = binary.LittleEndian.AppendUint32(dst, m.StreamID)
	p := m.Payload
	for first := true; first || len(p) > 0; first = false {
		if !first {
			dst = appendBasicHeader(dst, 3, m.ChunkStreamID)
		}
		if field == extended {
			dst = binary.BigEndian.AppendUint32(dst, m.Timestamp)
		}
		n := min(len(p), chunkSize)
		dst = append(dst, p[:n]...)
		p = p[n:]
	}
	return dst
}

func appendBasicHeader(dst []byte, format uint8, csid uint32) []byte {
	switch {
	case csid < 64:
		return append(dst, format<<6|uint8(csid))
	case csid < 64+256:
		return append(dst, format<<6, uint8(csid-64))
	}
	return append(dst, format<<6|1, uint8(csid-64), uint8((csid-64)>>8))
}

func appendUint24(dst []byte, n uint32) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n))
}
