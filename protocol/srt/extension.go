package srt

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// ExtensionType is the kind of a handshake extension (section 3.2.1, table 5).
type ExtensionType uint16

// Extension types.
const (
	ExtensionHSReq      ExtensionType = 1
	ExtensionHSRsp      ExtensionType = 2
	ExtensionKMReq      ExtensionType = 3
	ExtensionKMRsp      ExtensionType = 4
	ExtensionStreamID   ExtensionType = 5
	ExtensionCongestion ExtensionType = 6
	ExtensionFilter     ExtensionType = 7
	ExtensionGroup      ExtensionType = 8
)

// MaxStreamID is the greatest length of a stream id in bytes, that of libsrt.
const MaxStreamID = 512

// Errors of extensions.
var (
	ErrExtension      = errors.New("SRT handshake extension ends beyond the packet")
	ErrStreamIDLength = errors.New("SRT stream id is empty or longer than 512 bytes")
)

// Extension is one block of a handshake. Content is a multiple of four bytes.
type Extension struct {
	Type    ExtensionType
	Content []byte
}

// NextExtension cuts the first block off b, which is what follows HandshakeSize in a
// packet. Bytes that are no whole word end the list, as in libsrt.
func NextExtension(b []byte) (e Extension, rest []byte, err error) {
	size := 4 + 4*int(binary.BigEndian.Uint16(b[2:]))
	if size > len(b) {
		return Extension{}, nil, ErrExtension
	}
	e.Type = ExtensionType(binary.BigEndian.Uint16(b))
	e.Content = b[4:size]
	return e, b[size:], nil
}

// ConclusionStreamID is the stream id that a conclusion carries, "" for none. Of several
// it is the last, as in libsrt.
func ConclusionStreamID(p Packet, h Handshake) (string, error) {
	if h.Version < Version5 {
		return "", nil
	}
	id := ""
	for rest := p[HandshakeSize:]; len(rest) >= 4; {
		e, next, err := NextExtension(rest)
		if err != nil {
			return "", err
		}
		rest = next
		if e.Type != ExtensionStreamID || h.Extensions&FlagConfig == 0 {
			continue
		}
		if len(e.Content) == 0 || len(e.Content) > MaxStreamID {
			return "", ErrStreamIDLength
		}
		id = swapWords(e.Content)
	}
	return id, nil
}

// swapWords gives each word's bytes the order in which they are text, and ends at the
// first NUL: the wire has the string's words in network order (section 3.2.1.3).
func swapWords(b []byte) string {
	text := make([]byte, len(b))
	for i := 0; i+4 <= len(b); i += 4 {
		binary.LittleEndian.PutUint32(text[i:], binary.BigEndian.Uint32(b[i:]))
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	return string(text)
}

// AppendStreamID appends a stream id as an extension, as a caller does. The id has 1
// to MaxStreamID bytes.
func AppendStreamID(b []byte, id string) []byte {
	words := (len(id) + 3) / 4
	b = binary.BigEndian.AppendUint16(b, uint16(ExtensionStreamID))
	b = binary.BigEndian.AppendUint16(b, uint16(words))
	text := make([]byte, 4*words)
	copy(text, id)
	for i := 0; i < len(text); i += 4 {
		b = binary.BigEndian.AppendUint32(b, binary.LittleEndian.Uint32(text[i:]))
	}
	return b
}
