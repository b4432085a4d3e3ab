// Package srt is the wire of SRT as far as a proxy has to read it: packet headers,
// handshakes with their extensions, and stream ids.
//
//	16 bytes header │ 48 bytes handshake │ extension │ extension │ ...
//	 type, dest. id │ stage, cookie, ids │ type, length in words, content
//
// Pure code: no sockets, no state. Slices that are returned are part of the packet
// and valid as long as its buffer is. Sections are those of
// draft-sharabayko-srt-01; where it is silent, libsrt 1.5 is the reference. Payload,
// loss lists and key material are not read: they pass a proxy as they are.
package srt

import (
	"encoding/binary"
	"errors"
)

// HeaderSize is the length of every packet's header, in bytes (section 3).
const HeaderSize = 16

// ErrShort says that a datagram ends before what it has to contain.
var ErrShort = errors.New("SRT packet is too short")

// ControlType is the kind of a control packet (section 3.2).
type ControlType uint16

// Control types.
const (
	ControlHandshake         ControlType = 0x0000
	ControlKeepAlive         ControlType = 0x0001
	ControlACK               ControlType = 0x0002
	ControlNAK               ControlType = 0x0003
	ControlCongestionWarning ControlType = 0x0004
	ControlShutdown          ControlType = 0x0005
	ControlACKACK            ControlType = 0x0006
	ControlDropRequest       ControlType = 0x0007
	ControlPeerError         ControlType = 0x0008
	ControlUserDefined       ControlType = 0x7FFF
)

// Packet is a datagram with a whole header. It refers to the buffer that it was
// parsed from.
type Packet []byte

// Parse looks at a datagram. The error is ErrShort.
func Parse(b []byte) (Packet, error) {
	if len(b) < HeaderSize {
		return nil, ErrShort
	}
	return Packet(b), nil
}

// Control is the type of a control packet; ok is false for a data packet.
func (p Packet) Control() (t ControlType, ok bool) {
	v := binary.BigEndian.Uint16(p)
	return ControlType(v &^ 0x8000), v&0x8000 != 0
}

// Is tells whether p is a control packet of type t.
func (p Packet) Is(t ControlType) bool {
	return binary.BigEndian.Uint16(p) == 0x8000|uint16(t)
}

// Timestamp is in microseconds since the sender's socket began, and wraps after
// 71 minutes.
func (p Packet) Timestamp() uint32 { return binary.BigEndian.Uint32(p[8:]) }

// SetTimestamp writes a timestamp in microseconds.
func (p Packet) SetTimestamp(us uint32) { binary.BigEndian.PutUint32(p[8:], us) }

// Destination is the socket id of the receiver; 0 in a request for a connection.
func (p Packet) Destination() uint32 { return binary.BigEndian.Uint32(p[12:]) }

// SetDestination writes the receiver's socket id.
func (p Packet) SetDestination(id uint32) { binary.BigEndian.PutUint32(p[12:], id) }

// AppendShutdown appends a packet that ends the connection of the socket id dest
// (section 3.2.7). It has four bytes of nothing after the header, as libsrt sends it.
func AppendShutdown(b []byte, dest, timestamp uint32) []byte {
	b = binary.BigEndian.AppendUint32(b, (0x8000|uint32(ControlShutdown))<<16)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, timestamp)
	b = binary.BigEndian.AppendUint32(b, dest)
	return binary.BigEndian.AppendUint32(b, 0)
}
