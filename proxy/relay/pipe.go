package relay

import (
	"sync"

	"golang.org/x/sys/unix"
)

// pipeSize is what a pipe holds, in bytes: its 256 slots take as many socket
// buffers, however small, per system call. pipesKept bounds the idle ones.
// bufferSize is what a buffer holds that stands in for a pipe.
const (
	pipeSize   = 1 << 20
	pipesKept  = 64
	bufferSize = 64 << 10
)

// pipe is where bytes stay between two sockets. Directions borrow one only while
// they move bytes, so there are as many pipes as busy directions, not as sessions.
type pipe struct {
	r, w int
	// buf stands in for the kernel's pipe when the process is out of descriptors:
	// that may turn new sessions away, but must not end those that run.
	buf  []byte
	held int // bytes inside
}

// fill takes what a socket has; the pipe is empty before. 0 is the end of the
// stream.
func (p *pipe) fill(fd int) (int, error) {
	n, err := retryEINTR(func() (int, error) {
		if p.buf != nil {
			p.buf = p.buf[:cap(p.buf)]
			return unix.Read(fd, p.buf)
		}
		n, err := unix.Splice(fd, nil, p.w, nil, pipeSize, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		return int(n), err
	})
	if err != nil {
		return 0, err
	}
	if p.buf != nil {
		p.buf = p.buf[:n]
	}
	p.held = n
	return n, nil
}

// drain gives a socket what it takes.
func (p *pipe) drain(fd int) error {
	n, err := retryEINTR(func() (int, error) {
		if p.buf != nil {
			return unix.Write(fd, p.buf[len(p.buf)-p.held:])
		}
		n, err := unix.Splice(p.r, nil, fd, nil, p.held, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		return int(n), err
	})
	if err != nil {
		return err
	}
	p.held -= n
	return nil
}

func retryEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}

type pipePool struct {
	mu   sync.Mutex // guards free
	free []*pipe
}

func (p *pipePool) get() *pipe {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		pp := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return pp
	}
	p.mu.Unlock()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return &pipe{buf: make([]byte, bufferSize)}
	}
	// Refused over the user's limit of pipe memory; the default 64 KiB works too.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: fds[0], w: fds[1]}
}

// put takes a pipe back. One with bytes inside can't serve anyone else.
func (p *pipePool) put(pp *pipe) {
	if pp.buf != nil {
		return
	}
	p.mu.Lock()
	if pp.held == 0 && len(p.free) < pipesKept {
		p.free = append(p.free, pp)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	unix.Close(pp.r)
	unix.Close(pp.w)
}
