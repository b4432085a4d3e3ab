package supervisor

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// helloConn shakes hands by RTMP, like shakeHands but without ever blocking, on a
// new connection each time, as a client comes.
type helloConn struct {
	addr   unix.Sockaddr
	family int

	fd     int // -1 when closed
	unsent []byte
	got    int // bytes of S0S1S2
}

// hello is C0C1 of the simple handshake; a probe's need not be random.
func hello() []byte {
	b := make([]byte, 1+rtmpBlock)
	b[0] = rtmpVersion
	return b
}

func newHelloConn(rtmp netip.AddrPort) helloConn {
	c := helloConn{fd: -1}
	c.family, c.addr = sockaddr(rtmp)
	return c
}

// send begins a probe. It returns false when that fails for a want of ours, of
// descriptors or ports, which says nothing about the origin.
func (c *helloConn) send(hello []byte) bool {
	c.close()
	fd, err := unix.Socket(c.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	if err := unix.Connect(fd, c.addr); err != nil && err != unix.EINPROGRESS { //nolint:errorlint // a bare errno
		_ = unix.Close(fd)
		return err == unix.ECONNREFUSED //nolint:errorlint // a bare errno
	}
	c.fd, c.unsent, c.got = fd, hello, 0
	c.flush()
	return true
}

func (c *helloConn) flush() {
	if c.fd < 0 || len(c.unsent) == 0 {
		return
	}
	if n, err := unix.SendmsgN(c.fd, c.unsent, nil, nil, unix.MSG_NOSIGNAL); err == nil {
		c.unsent = c.unsent[n:]
	}
}

// receive looks whether the answer is there. answerClosed is one too: somebody
// accepted the connection and did not want it, as SRS does at max_connections.
func (c *helloConn) receive() answer {
	c.flush()
	if c.fd < 0 {
		return answerNone
	}
	var buf [4096]byte
	for {
		n, err := unix.Read(c.fd, buf[:])
		switch {
		case err == unix.EINTR: //nolint:errorlint // a bare errno
			continue
		case err == unix.EAGAIN: //nolint:errorlint // a bare errno
			return answerNone
		case err == unix.ECONNRESET || err == unix.EPIPE || err == nil && n == 0: //nolint:errorlint // a bare errno
			c.close()
			return answerClosed
		case err != nil || c.got == 0 && buf[0] != rtmpVersion:
			c.close() // nobody listens, or not for RTMP
			return answerNone
		}
		if c.got += n; c.got >= 1+2*rtmpBlock {
			c.close()
			return answerGood
		}
	}
}

func (c *helloConn) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
	c.unsent = nil
}
