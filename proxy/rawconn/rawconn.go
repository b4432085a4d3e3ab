// Package rawconn reads and writes TCP connections by system calls that Go's scheduler
// is not told of.
//
//	Read ─▶ recv ─ nothing there ─▶ netpoller ─▶ recv
//	Write ─▶ send ─ no room ─▶ netpoller ─▶ send the rest
//
// A call that the scheduler knows of wakes the runtime's monitor thread, if that
// sleeps, which then looks every 20 us whether some call takes longer, and takes the processor away
// from those that do, as each send of a segment does. The calls here never
// block, so there is nothing to watch. Deadlines and Close work as ever: waiting is the netpoller's.
package rawconn

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// atOnce bounds a call: garbage collection waits for its end.
const atOnce = 256 << 10

// Conn is a TCP connection.
type Conn struct {
	*net.TCPConn
	raw syscall.RawConn
}

// New returns c with other reads and writes.
func New(c *net.TCPConn) *Conn {
	raw, _ := c.SyscallConn() // fails only where there is no connection
	return &Conn{TCPConn: c, raw: raw}
}

// Read implements io.Reader, with the errors of net.TCPConn.
func (c *Conn) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	var errno syscall.Errno
	err = c.raw.Read(func(fd uintptr) bool {
		n, errno = receive(fd, b)
		return errno != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, c.failed("read", "recvfrom", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements io.Writer, with the errors of net.TCPConn.
func (c *Conn) Write(b []byte) (n int, err error) {
	var errno syscall.Errno
	err = c.raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			var m int
			m, errno = send(fd, b[n:min(len(b), n+atOnce)])
			if errno != 0 {
				return errno != unix.EAGAIN
			}
			n += m
		}
		return true
	})
	if err == nil && errno != 0 {
		err = c.failed("write", "sendto", errno)
	}
	return n, err
}

// Quiet tells whether the peer has neither sent anything nor closed.
func (c *Conn) Quiet() bool {
	quiet := false
	err := c.raw.Read(func(fd uintptr) bool {
		_, errno := call(unix.SYS_RECVFROM, fd, make([]byte, 1), unix.MSG_DONTWAIT|unix.MSG_PEEK)
		quiet = errno == unix.EAGAIN
		return true
	})
	return err == nil && quiet
}

// call does a recv or a send.
func call(trap, fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

func (c *Conn) failed(op, name string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(name, errno)}
}
