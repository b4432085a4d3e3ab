// Package rtmp is RTMP's wire: handshake, chunks, messages and commands ("Adobe's
// Real Time Messaging Protocol", 2012).
//
//	bytes ─▶ Reader ─▶ Message ─▶ ParseCommand ─▶ connect, publish, play ...
//	bytes ◀─ Writer ◀─ Message ◀─ Command.Message
//
// Pure code over io.Reader and io.Writer; deadlines are the caller's. The input
// is a stranger's: everything is bounded (Limits), memory grows only as bytes
// arrive, and nothing panics.
package rtmp

import (
	"errors"
	"fmt"
)

// Message types (sections 5.4, 6.2 and 7.1).
const (
	TypeSetChunkSize     = 1
	TypeAbort            = 2
	TypeAcknowledgement  = 3
	TypeUserControl      = 4
	TypeWindowAckSize    = 5
	TypeSetPeerBandwidth = 6
	TypeAudio            = 8
	TypeVideo            = 9
	TypeDataAMF3         = 15
	TypeCommandAMF3      = 17
	TypeDataAMF0         = 18
	TypeCommandAMF0      = 20
	TypeAggregate        = 22
)

// Chunk sizes, in bytes: what a connection starts with, and the most there is
// (section 5.4.1).
const (
	DefaultChunkSize = 128
	MaxChunkSize     = 1<<24 - 1
)

// Errors of reading. Each ends the connection: the chunk stream can't be
// followed any further.
var (
	ErrVersion        = errors.New("rtmp: unsupported version")
	ErrChunkSize      = errors.New("rtmp: chunk size out of range 1 to 16777215")
	ErrTooLarge       = errors.New("rtmp: message too large")
	ErrChunkStreams   = errors.New("rtmp: too many chunk streams")
	ErrChunk          = errors.New("rtmp: malformed chunk")
	ErrCommand        = errors.New("rtmp: malformed command")
	ErrControlMessage = errors.New("rtmp: malformed control message")
)

// Message is one RTMP message.
type Message struct {
	ChunkStreamID uint32
	Type          uint8
	StreamID      uint32
	Timestamp     uint32 // ms, absolute; wraps at 2^32
	// Format is the header type (fmt, 0 to 3) of the first chunk; only 0 stands
	// on its own. Set by Reader, ignored by Writer.
	Format  uint8
	Payload []byte
}

// IsCommand tells whether the message is an AMF0 or AMF3 command.
func (m Message) IsCommand() bool {
	return m.Type == TypeCommandAMF0 || m.Type == TypeCommandAMF3
}

// Uint32 is the payload of a control message that is one number: SetChunkSize,
// Abort, Acknowledgement, WindowAckSize; SetPeerBandwidth begins with one.
func (m Message) Uint32() (uint32, error) {
	if len(m.Payload) < 4 {
		return 0, fmt.Errorf("%w: type %d with %d bytes", ErrControlMessage, m.Type, len(m.Payload))
	}
	p := m.Payload
	return uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3]), nil
}

// Limits bound what a Reader takes from its peer; zero fields mean the default.
type Limits struct {
	Message      int // bytes of any message, default 8 MiB
	Command      int // bytes of a command or data message, default 64 KiB
	ChunkStreams int // chunk stream ids in use, default 64
}

func (l Limits) withDefaults() Limits {
	if l.Message == 0 {
		l.Message = 8 << 20
	}
	if l.Command == 0 {
		l.Command = 64 << 10
	}
	if l.ChunkStreams == 0 {
		l.ChunkStreams = 64
	}
	return l
}

func (l Limits) of(messageType uint8) int {
	switch messageType {
	case TypeAudio, TypeVideo, TypeAggregate:
		return l.Message
	}
	return l.Command
}
