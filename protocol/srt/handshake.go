package srt

import (
	"encoding/binary"
	"net/netip"
)

// HandshakeSize is the length of a handshake packet without extensions, header
// included, in bytes.
const HandshakeSize = HeaderSize + 48

// Versions of a handshake. A caller begins with Version4 whatever it speaks: that of
// its conclusion is the true one, and Version4 there means an SRT before 1.3, which
// has no extensions and so no stream id.
const (
	Version4 = 4
	Version5 = 5
)

// Stage is the handshake type: the step of the handshake that a packet is, or the
// reason of a refusal (section 3.2.1, tables 4 and 7).
type Stage uint32

// Stages. A caller sends induction and conclusion, and gets the same back; wave-a-hand
// and agreement belong to the rendezvous mode.
const (
	StageWaveAHand  Stage = 0
	StageInduction  Stage = 1
	StageConclusion Stage = 0xFFFFFFFF
	StageAgreement  Stage = 0xFFFFFFFE
)

// Values of the fields that mean several things: what a version 4 handshake has in
// the place of the extension flags, and how a listener shows in its answer to an
// induction that it speaks version 5.
const (
	typeDatagram   = 2
	inductionMagic = 0x4A17
)

// Flags of Handshake.Extensions in a conclusion (table 6).
const (
	FlagHSReq  = 1
	FlagKMReq  = 2
	FlagConfig = 4 // stream id, congestion control, packet filter, group
)

// Handshake is the content of a handshake control packet (section 3.2.1).
type Handshake struct {
	Version    uint32
	Encryption uint16 // advertised key length
	Extensions uint16 // flags
	Sequence   uint32 // of the first data packet
	MTU        uint32 // bytes
	FlowWindow uint32 // packets
	Stage      Stage
	SocketID   uint32 // of the sender
	Cookie     uint32
	PeerIP     [16]byte
}

// ParseHandshake reads a handshake packet's fixed part. The error is ErrShort, for
// other packets too.
func ParseHandshake(p Packet) (Handshake, error) {
	if len(p) < HandshakeSize || !p.Is(ControlHandshake) {
		return Handshake{}, ErrShort
	}
	b := p[HeaderSize:]
	h := Handshake{
		Version:    binary.BigEndian.Uint32(b),
		Encryption: binary.BigEndian.Uint16(b[4:]),
		Extensions: binary.BigEndian.Uint16(b[6:]),
		Sequence:   binary.BigEndian.Uint32(b[8:]),
		MTU:        binary.BigEndian.Uint32(b[12:]),
		FlowWindow: binary.BigEndian.Uint32(b[16:]),
		Stage:      Stage(binary.BigEndian.Uint32(b[20:])),
		SocketID:   binary.BigEndian.Uint32(b[24:]),
		Cookie:     binary.BigEndian.Uint32(b[28:]),
	}
	copy(h.PeerIP[:], b[32:48])
	return h, nil
}

// Put writes h over the fixed part of a handshake packet of at least HandshakeSize
// bytes; header and extensions stay.
func (h *Handshake) Put(p Packet) {
	b := p[HeaderSize:HandshakeSize]
	binary.BigEndian.PutUint32(b, h.Version)
	binary.BigEndian.PutUint16(b[4:], h.Encryption)
	binary.BigEndian.PutUint16(b[6:], h.Extensions)
	binary.BigEndian.PutUint32(b[8:], h.Sequence)
	binary.BigEndian.PutUint32(b[12:], h.MTU)
	binary.BigEndian.PutUint32(b[16:], h.FlowWindow)
	binary.BigEndian.PutUint32(b[20:], uint32(h.Stage))
	binary.BigEndian.PutUint32(b[24:], h.SocketID)
	binary.BigEndian.PutUint32(b[28:], h.Cookie)
	copy(b[32:], h.PeerIP[:])
}

// Append appends a handshake packet without extensions, for the socket id dest.
func (h *Handshake) Append(b []byte, dest, timestamp uint32) []byte {
	at := len(b)
	b = append(b, make([]byte, HandshakeSize)...)
	p := Packet(b[at:])
	binary.BigEndian.PutUint16(p, 0x8000|uint16(ControlHandshake))
	p.SetTimestamp(timestamp)
	p.SetDestination(dest)
	h.Put(p)
	return b
}

// Challenge is a listener's answer to an induction: version 5 and its magic, and a
// cookie that the caller has to return (section 4.3.1.1).
func (h Handshake) Challenge(cookie uint32) Handshake {
	h.Version, h.Encryption, h.Extensions = Version5, 0, inductionMagic
	h.Cookie = cookie
	return h
}

// Induction is what a caller sent before its conclusion h.
func (h Handshake) Induction() Handshake {
	h.Version, h.Encryption, h.Extensions = Version4, 0, typeDatagram
	h.Stage, h.Cookie = StageInduction, 0
	return h
}

// Refusal is a listener's answer to h that tells why it takes no connection.
func (h Handshake) Refusal(r Reason) Handshake {
	h.Stage = StageRefused + Stage(r)
	return h
}

// PeerIP is an address in the form of Handshake.PeerIP: an IPv4 address in the first
// word, each word in little endian, as libsrt writes it.
func PeerIP(a netip.Addr) (ip [16]byte) {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		copy(ip[:], b[:])
	} else {
		ip = a.As16()
	}
	for i := 0; i < len(ip); i += 4 {
		binary.LittleEndian.PutUint32(ip[i:], binary.BigEndian.Uint32(ip[i:]))
	}
	return ip
}
