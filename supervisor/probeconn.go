package supervisor

import (
	"bytes"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// probeConn asks /api/v1/versions again and again over one connection, without
// ever blocking. It is a bare descriptor: in Go's poller each answer would wake a
// goroutine and, on an idle machine, a thread.
//
// SRS answers with "Connection: Close" and keeps the connection open
// (SrsHttpConn::process_requests goes by the request alone), so that header is
// ignored; whoever does close is dialled again.
type probeConn struct {
	addr    unix.Sockaddr
	family  int
	request []byte
	pid     []byte // "1234", quoted as SRS writes it

	fd      int // -1 when closed
	unsent  bool
	reply   []byte // what came of the answer so far
	retried bool   // this probe was sent a second time
}

type answer int

const (
	answerNone answer = iota
	answerGood
	answerClosed
)

// maxReply is much more than the answer has.
const maxReply = 16 << 10

func newProbeConn(api netip.AddrPort, pid int) probeConn {
	c := probeConn{
		fd:      -1,
		request: []byte(getRequest(api, "/api/v1/versions", "keep-alive")),
		pid:     []byte(strconv.Quote(strconv.Itoa(pid))),
	}
	c.family, c.addr = sockaddr(api)
	return c
}

func sockaddr(a netip.AddrPort) (family int, addr unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// send begins a probe; what keeps it from leaving shows as a missing answer.
func (c *probeConn) send() {
	c.retried = false
	c.resend()
}

// resend sends a probe whose connection was lost once more.
func (c *probeConn) resend() {
	c.reply, c.unsent = c.reply[:0], true
	if c.fd < 0 {
		c.dial()
	}
	c.flush()
}

func (c *probeConn) dial() {
	fd, err := unix.Socket(c.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	if err := unix.Connect(fd, c.addr); err != nil && err != unix.EINPROGRESS { //nolint:errorlint // a bare errno
		_ = unix.Close(fd)
		return
	}
	c.fd = fd
}

// flush writes the request, which fits any socket buffer, once it is connected.
func (c *probeConn) flush() {
	if c.fd < 0 || !c.unsent {
		return
	}
	if sendNow(c.fd, c.request) == len(c.request) {
		c.unsent = false
	}
}

// sendNow writes to a nonblocking socket and returns how much it took. Go's
// scheduler is not told: over loopback the call lasts until the origin is awake,
// and the scheduler would wake a thread each time to go on with.
func sendNow(fd int, b []byte) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))),
		uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// receive looks whether the answer is there.
func (c *probeConn) receive() answer {
	c.flush()
	if c.fd < 0 {
		return answerNone
	}
	var buf [2048]byte
	for {
		n, err := unix.Read(c.fd, buf[:])
		switch {
		case err == unix.EINTR: //nolint:errorlint // a bare errno
			continue
		case err == unix.EAGAIN: //nolint:errorlint // a bare errno
			return answerNone
		case err != nil || n == 0 || len(c.reply)+n > maxReply:
			return c.lost()
		}
		c.reply = append(c.reply, buf[:n]...)
		complete, good := readReply(c.reply, c.pid)
		if !complete {
			continue
		}
		if !good {
			// An answer, but not by ours: as good as none.
			c.close()
			return answerNone
		}
		c.reply = c.reply[:0]
		return answerGood
	}
}

// lost drops a connection that failed. Once a probe that is an expected end of
// a kept connection, more often it is a missing answer.
func (c *probeConn) lost() answer {
	c.close()
	if c.retried {
		return answerNone
	}
	c.retried = true
	return answerClosed
}

func (c *probeConn) close() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
		c.fd = -1
	}
	c.reply, c.unsent = c.reply[:0], false
}

// readReply looks at what came of a reply: whether it is all, and whether it is a
// 200 that names the pid. Without a length it has to be chunked, and is complete
// with the last chunk.
func readReply(reply, pid []byte) (complete, good bool) {
	head, body, found := bytes.Cut(reply, []byte("\r\n\r\n"))
	if !found {
		return false, false
	}
	ok := bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) || bytes.HasPrefix(head, []byte("HTTP/1.0 200 "))
	named := ok && bytes.Contains(body, pid)
	length := contentLength(head)
	if length < 0 {
		return bytes.HasSuffix(body, []byte("0\r\n\r\n")), named
	}
	return len(body) >= length, named
}

// contentLength is the header's number, -1 without one.
func contentLength(head []byte) int {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if n, err := strconv.Atoi(string(bytes.TrimSpace(value))); err == nil && n >= 0 {
				return n
			}
		}
	}
	return -1
}
