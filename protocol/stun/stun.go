// Package stun reads as much of STUN (RFC 8489) as it takes to know whose a
// connectivity check of ICE is (RFC 8445, section 7.2), and whether it is genuine.
//
//	0        2        4                8                         20
//	| type   | length | cookie 2112A442| transaction id          | attributes ...
//	                    USERNAME "ufrag of the receiver:of the sender"
//	                    MESSAGE-INTEGRITY  HMAC-SHA1 over all that is before it
//
// It writes no messages, keeps no state and takes nothing from who sends that it has
// not measured first: at most MaxSize bytes and MaxAttributes attributes.
package stun

import (
	"encoding/binary"
	"errors"
)

// Bounds of a message. A check of ICE has about 100 bytes and 7 attributes; 1,280
// bytes is the least that any IPv6 path carries.
const (
	MaxSize       = 1280
	MaxAttributes = 32
)

// Errors of Parse.
var (
	// ErrNotSTUN says that the header is not that of STUN.
	ErrNotSTUN = errors.New("not a STUN message")
	// ErrLength says that a length, of the message or of an attribute, is not that
	// of what is there.
	ErrLength = errors.New("a length in the STUN message is wrong")
	// ErrTooLarge says that the message exceeds MaxSize or MaxAttributes.
	ErrTooLarge = errors.New("the STUN message is too large")
	// ErrAmbiguous says that two readers could take the message for two things: it
	// has two USERNAMEs, or attributes after MESSAGE-INTEGRITY that it does not
	// cover. RFC 8489 has a receiver ignore those; SRS takes the last USERNAME,
	// wherever it is, so such a message must not be passed on.
	ErrAmbiguous = errors.New("the STUN message has attributes that are not covered or are there twice")
)

const (
	headerSize    = 20
	attrSize      = 4 // type and length, before the value
	integritySize = 20
	cookie        = 0x2112A442

	typeBindingRequest = 0x0001

	attrUsername          = 0x0006
	attrIntegrity         = 0x0008
	attrIntegritySHA256   = 0x001C
	attrUseCandidate      = 0x0025
	attrFingerprint       = 0x8028
	maskTypeLeadingZeroes = 0xC000
)

// Message is a STUN message that was parsed. It refers to the bytes that were given to
// Parse and is valid as long as they are.
type Message struct {
	raw          []byte
	kind         uint16
	username     []byte
	integrity    int // where the MESSAGE-INTEGRITY attribute begins; 0 for none
	useCandidate bool
}

// Is tells STUN from DTLS, SRTP and SRTCP on one port by the first byte (RFC 7983).
// Only Parse tells whether it really is STUN.
func Is(b []byte) bool { return len(b) > 0 && b[0] < 4 }

// Parse reads a message, which must be all of b.
func Parse(b []byte) (Message, error) {
	m := Message{raw: b}
	switch {
	case len(b) > MaxSize:
		return m, ErrTooLarge
	case len(b) < headerSize || binary.BigEndian.Uint32(b[4:]) != cookie:
		return m, ErrNotSTUN
	}
	m.kind = binary.BigEndian.Uint16(b)
	length := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case m.kind&maskTypeLeadingZeroes != 0:
		return m, ErrNotSTUN
	case length != len(b)-headerSize || length%4 != 0:
		return m, ErrLength
	}
	return m, m.parseAttributes()
}

func (m *Message) parseAttributes() error {
	at := headerSize
	for n := 0; at < len(m.raw); n++ {
		if n == MaxAttributes {
			return ErrTooLarge
		}
		rest := m.raw[at:] // 4 bytes at least, because all lengths are multiples of it
		kind, length := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		padded := (length + 3) &^ 3
		if padded > len(rest)-attrSize {
			return ErrLength
		}
		if err := m.note(kind, at, rest[attrSize:attrSize+length]); err != nil {
			return err
		}
		at += attrSize + padded
	}
	return nil
}

// note keeps what matters of an attribute that begins at an offset.
func (m *Message) note(kind uint16, at int, value []byte) error {
	if m.integrity > 0 && kind != attrFingerprint && kind != attrIntegritySHA256 {
		return ErrAmbiguous
	}
	switch kind {
	case attrUsername:
		if m.username != nil {
			return ErrAmbiguous
		}
		m.username = value
	case attrIntegrity:
		if len(value) != integritySize {
			return ErrLength
		}
		m.integrity = at
	case attrUseCandidate:
		m.useCandidate = true
	}
	return nil
}

// IsBindingRequest says that the message is a connectivity check.
func (m *Message) IsBindingRequest() bool { return m.kind == typeBindingRequest }

// Username is the value of USERNAME: in a check that a client sends, the ufrag of the
// answer, a colon, and that of the offer. It is empty if there is none.
func (m *Message) Username() []byte { return m.username }

// UseCandidate says that the check nominates its path (RFC 8445, section 7.1.2).
func (m *Message) UseCandidate() bool { return m.useCandidate }
