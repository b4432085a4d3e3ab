package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// session is what a protocol makes of a connection. Its methods are called by the
// connection's loop.
type session interface {
	opened()
	// received takes what has arrived at now; b is valid during the call.
	received(b []byte, now int64) error
	// ended is told once why the connection is closed.
	ended(err error)
}

// conn is a non-blocking TCP connection of a loop, or a UDP socket with one peer, of
// which the session receives one datagram each time.
type conn struct {
	loop    *loop
	udp     bool
	fd      int
	session session
	out     []byte // what the socket did not take yet
	mask    uint32
	open    bool // the connect has succeeded
	closed  bool
}

// connect begins a TCP connection; the session hears how it went.
func (l *loop) connect(to netip.AddrPort, s session) *conn {
	c := &conn{loop: l, fd: -1, session: s}
	if err := c.dial(to); err != nil {
		c.close(fmt.Errorf("connect to %s: %w", to, err))
	}
	return c
}

func (c *conn) dial(to netip.AddrPort) (err error) {
	family, addr := sockaddr(to)
	c.fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	if err := unix.Connect(c.fd, addr); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return c.register(unix.EPOLLOUT)
}

// dialUDP makes the connection a UDP socket of one peer.
func (c *conn) dialUDP(to netip.AddrPort) (err error) {
	family, addr := sockaddr(to)
	c.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(c.fd, addr); err != nil {
		return err
	}
	return c.adopt()
}

// register has the loop watch the descriptor.
func (c *conn) register(mask uint32) error {
	c.mask = mask
	ev := unix.EpollEvent{Events: mask, Fd: int32(c.fd)}
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	c.loop.conns[int32(c.fd)] = c
	return nil
}

// adopt watches a descriptor of UDP that is there already.
func (c *conn) adopt() error { return c.register(unix.EPOLLIN) }

// abandon forgets the descriptor without closing it.
func (c *conn) abandon() {
	if c.closed {
		return
	}
	c.closed = true
	delete(c.loop.conns, int32(c.fd))
	_ = unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_DEL, c.fd, nil) // it is closed soon
}

func sockaddr(to netip.AddrPort) (family int, addr unix.Sockaddr) {
	if ip := to.Addr().Unmap(); ip.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4(), Port: int(to.Port())}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
}

func (c *conn) ready(events uint32) {
	if !c.open {
		if code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			c.close(fmt.Errorf("connect: %w", unix.Errno(code)))
			return
		}
		c.open = true
		c.session.opened()
		c.watch()
		return
	}
	if events&unix.EPOLLOUT != 0 && !c.closed {
		c.flush()
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 && !c.closed {
		c.read()
	}
}

// Datagrams come in bursts: several are read in one turn, and the kernel keeps more.
const (
	datagramsATurn = 32
	udpBuffer      = 1 << 20
)

func (c *conn) read() {
	if !c.udp {
		c.readStream()
		return
	}
	for range datagramsATurn {
		n, err := unix.Read(c.fd, c.loop.buf)
		if err == unix.EAGAIN || err == unix.EINTR {
			return
		}
		if err == unix.ECONNREFUSED {
			continue // ICMP said that nobody listens: the session's own timers decide
		}
		if err == nil {
			err = c.session.received(c.loop.buf[:n], c.loop.now())
		}
		if err != nil {
			c.close(err)
		}
		if c.closed {
			return
		}
	}
}

func (c *conn) readStream() {
	n, err := unix.Read(c.fd, c.loop.buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil:
		c.close(fmt.Errorf("read: %w", err))
	case n == 0:
		c.close(io.EOF)
	default:
		if err := c.session.received(c.loop.buf[:n], c.loop.now()); err != nil {
			c.close(err)
		}
	}
}

// send writes b, and keeps what the socket does not take.
func (c *conn) send(b []byte) {
	if c.closed {
		return
	}
	if c.udp {
		_, _ = unix.Write(c.fd, b) // what the kernel does not take is lost, as on any network
		return
	}
	if len(c.out) == 0 {
		n, err := unix.Write(c.fd, b)
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			c.close(fmt.Errorf("write: %w", err))
			return
		}
		b = b[max(n, 0):]
	}
	if len(b) > 0 {
		c.out = append(c.out, b...)
	}
	c.watch()
}

func (c *conn) flush() {
	n, err := unix.Write(c.fd, c.out)
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		c.close(fmt.Errorf("write: %w", err))
		return
	}
	c.out = append(c.out[:0], c.out[max(n, 0):]...)
	c.watch()
}

// watch has the epoll look for what the connection waits for.
func (c *conn) watch() {
	mask := uint32(unix.EPOLLIN)
	if len(c.out) > 0 || !c.open {
		mask |= unix.EPOLLOUT
	}
	if c.closed || mask == c.mask {
		return
	}
	c.mask = mask
	ev := unix.EpollEvent{Events: mask, Fd: int32(c.fd)}
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev); err != nil {
		c.close(fmt.Errorf("epoll: %w", err))
	}
}

// close ends the connection; the session hears why, once.
func (c *conn) close(why error) {
	if c.closed {
		return
	}
	c.closed = true
	if c.fd >= 0 {
		delete(c.loop.conns, int32(c.fd))
		unix.Close(c.fd)
	}
	c.session.ended(why)
}

// resolve takes "host:port"; a missing port is def.
func resolve(hostport string, def int) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(hostport)
	if ae := (*net.AddrError)(nil); errors.As(err, &ae) && ae.Err == "missing port in address" {
		host, port = hostport, fmt.Sprint(def)
	} else if err != nil {
		return netip.AddrPort{}, err
	}
	addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return netip.AddrPort{}, err
	}
	ap := addr.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}
