package relay

import (
	"sync"

	"golang.org/x/sys/unix"
)

// pipeSize is what a pipe holds, in bytes: its 256 slots take as many socket
// buffers, however small, per system call. pipesKept bounds the idle ones.
const (
	pipeSize  = 1 << 20
	pipesKept = 64
)

// pipe is where bytes stay between two sockets. Directions borrow one only while
// they move bytes, so there are as many pipes as busy directions, not as sessions.
type pipe struct {
	r, w int
	held int // bytes inside
}

type pipePool struct {
	mu   sync.Mutex // guards free
	free []*pipe
}

func (p *pipePool) get() (*pipe, error) {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		pp := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return pp, nil
	}
	p.mu.Unlock()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	// Refused over the user's limit of pipe memory; the default 64 KiB works too.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: fds[0], w: fds[1]}, nil
}

// put takes a pipe back. One with bytes inside can't serve anyone else.
func (p *pipePool) put(pp *pipe) {
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
