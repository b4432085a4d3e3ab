package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel reads and writes beside a payload. The structs are laid out as the
// system call wants them (cmsg(3): a header, then the data, padded to a long).
type (
	pktinfo4 struct {
		header unix.Cmsghdr
		info   unix.Inet4Pktinfo
	}
	pktinfo6 struct {
		header unix.Cmsghdr
		info   unix.Inet6Pktinfo
	}
)

const (
	lenPktinfo4 = unix.SizeofCmsghdr + unix.SizeofInet4Pktinfo
	lenPktinfo6 = unix.SizeofCmsghdr + unix.SizeofInet6Pktinfo
)

// envelope has the addresses of one datagram, for a socket of either family.
type envelope struct {
	name    unix.RawSockaddrInet6 // or a RawSockaddrInet4
	control pktinfo6              // or a pktinfo4
}

func (e *envelope) name4() *unix.RawSockaddrInet4 {
	return (*unix.RawSockaddrInet4)(unsafe.Pointer(&e.name))
}
func (e *envelope) control4() *pktinfo4 { return (*pktinfo4)(unsafe.Pointer(&e.control)) }

// toPeer addresses a datagram to a client and sets the address that it comes from.
func (e *envelope) toPeer(family int, to Peer, m *unix.Msghdr) {
	m.Name = (*byte)(unsafe.Pointer(&e.name))
	m.Control = (*byte)(unsafe.Pointer(&e.control))
	if family == unix.AF_INET {
		e.name4().Family = unix.AF_INET
		setPort(&e.name4().Port, to.Addr.Port())
		e.name4().Addr = to.Addr.Addr().As4()
		m.Namelen = unix.SizeofSockaddrInet4
		e.control4().from(to.Local)
		m.SetControllen(lenPktinfo4)
		return
	}
	e.name.Family = unix.AF_INET6
	setPort(&e.name.Port, to.Addr.Port())
	e.name.Addr = to.Addr.Addr().As16() // IPv4 becomes v4-in-v6
	e.name.Scope_id = to.Interface
	m.Namelen = unix.SizeofSockaddrInet6
	e.control.header = unix.Cmsghdr{Len: lenPktinfo6, Level: unix.IPPROTO_IPV6, Type: unix.IPV6_PKTINFO}
	e.control.info = unix.Inet6Pktinfo{Addr: to.Local.As16(), Ifindex: to.Interface}
	m.SetControllen(lenPktinfo6)
}

func (p *pktinfo4) from(local netip.Addr) {
	p.header = unix.Cmsghdr{Len: lenPktinfo4, Level: unix.IPPROTO_IP, Type: unix.IP_PKTINFO}
	p.info = unix.Inet4Pktinfo{Spec_dst: local.As4()}
}

// peer is who sent a datagram to a socket of the family; false if the kernel did not
// say so in the way that it was asked to.
func (e *envelope) peer(family int) (Peer, bool) {
	if family == unix.AF_INET {
		return Peer{Addr: e.from4(), Local: e.local4()}, e.has4()
	}
	p := Peer{
		Addr:  netip.AddrPortFrom(netip.AddrFrom16(e.name.Addr).Unmap(), port(&e.name.Port)),
		Local: netip.AddrFrom16(e.control.info.Addr).Unmap(),
	}
	if p.Addr.Addr().IsLinkLocalUnicast() {
		p.Interface = e.name.Scope_id
	}
	h := &e.control.header
	return p, h.Len == lenPktinfo6 && h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO
}

func (e *envelope) has4() bool {
	h := &e.control4().header
	return h.Len == lenPktinfo4 && h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO
}

func (e *envelope) from4() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(e.name4().Addr), port(&e.name4().Port))
}

// local4 is our address that an answer comes from: that which the datagram was sent
// to, unless that was a broadcast.
func (e *envelope) local4() netip.Addr { return netip.AddrFrom4(e.control4().info.Spec_dst) }

// sentTo is the destination in the datagram's header, as a number.
func (e *envelope) sentTo() uint32 { return binary.BigEndian.Uint32(e.control4().info.Addr[:]) }

// Ports are in network order in a sockaddr.
func setPort(p *uint16, v uint16) { binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(p))[:], v) }
func port(p *uint16) uint16       { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }
