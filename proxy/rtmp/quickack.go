package rtmp

import (
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// quickack is a connection that acknowledges at once what it reads. The peer's
// Nagle algorithm holds a small message back until the last one is acknowledged,
// and the kernel delays acknowledgements by 40 ms: a prelude of several small
// messages each way would take that long every time. The kernel leaves the mode
// by itself, so it is set before each read (tcp(7), TCP_QUICKACK).
type quickack struct {
	io.ReadWriter
	socket *net.TCPConn // below it
}

func (q quickack) Read(b []byte) (int, error) {
	if rc, err := q.socket.SyscallConn(); err == nil {
		// A hint: without it reading is slower, not wrong.
		_ = rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
		})
	}
	return q.ReadWriter.Read(b)
}
