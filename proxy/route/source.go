package route

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/source"
)

// takeSource gives a session an address that names its client to the origin at addr,
// if there is a use for one: of HTTP, X-Forwarded-For says it, and only an origin on
// this machine can be reached from such an address. The zero Addr is none.
func (r *Router) takeSource(req Request, addr string) netip.Addr {
	if r.cfg.Sources == nil || req.Proto != RTMP && req.Proto != RTC || !req.Client.IsValid() {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().Is4() || !ap.Addr().IsLoopback() {
		return netip.Addr{}
	}
	ip, err := r.cfg.Sources.Take(req.Client)
	if err != nil {
		r.sourceless(err)
	}
	return ip
}

func (r *Router) releaseSource(ip netip.Addr) {
	if ip.IsValid() {
		r.cfg.Sources.Release(ip)
	}
}

// dialFrom dials from an address of the pool. Where that cannot be (a machine whose
// loopback has been made smaller), the session goes without: the origin then takes
// the proxy for its client.
func (r *Router) dialFrom(ctx context.Context, from netip.Addr, addr string) (net.Conn, error) {
	if !from.IsValid() {
		return r.dial(ctx, &r.dialer, addr)
	}
	d := r.dialer
	d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
	d.Control = controlBound
	nc, err := r.dial(ctx, &d, addr)
	if cannotBind(err) {
		r.sourceless(err)
		return r.dial(ctx, &r.dialer, addr)
	}
	return nc, err
}

// DialRTC connects a client to an origin's endpoint of WebRTC over TCP, without a
// lease: its session has one already. The caller closes the Conn.
func (r *Router) DialRTC(ctx context.Context, client netip.AddrPort, addr string) (*Conn, error) {
	from := r.takeSource(Request{Proto: RTC, Client: client}, addr)
	nc, err := r.dialFrom(ctx, from, addr)
	if err != nil {
		r.releaseSource(from)
		return nil, err
	}
	return &Conn{TCPConn: nc.(*net.TCPConn), router: r, source: from}, nil
}

// sourceless says once that origins do not learn who their clients are.
func (r *Router) sourceless(err error) {
	if r.toldSourceless.CompareAndSwap(false, true) {
		r.log.Warn("origins do not see the addresses of clients: no loopback address to speak from", "range", source.Range, "cause", err)
	}
}

// cannotBind tells a local address that the machine does not have from a failure of
// the origin's.
func cannotBind(err error) bool {
	var se *os.SyscallError
	return errors.As(err, &se) && se.Syscall == "bind" || errors.Is(err, unix.EADDRNOTAVAIL)
}

// controlBound is control for a socket with an address of its own. Its port is left to
// connect, when the kernel knows the peer: a port that bind chose would be taken on
// that address for every peer.
func controlBound(network, address string, rc syscall.RawConn) error {
	var err error
	cerr := rc.Control(func(fd uintptr) {
		err = errors.Join(listener.SetTimeouts(int(fd)), unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1))
	})
	return errors.Join(cerr, err)
}
