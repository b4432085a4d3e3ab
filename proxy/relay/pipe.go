package relay

import (
	"bytes"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pipeSize is what a pipe holds, in bytes: its 256 slots take as many socket
// buffers, however small, per system call. pipesKept bounds the idle ones of a
// loop. bufferSize is what a buffer holds that stands in for a pipe.
const (
	pipeSize   = 1 << 20
	pipesKept  = 64
	bufferSize = 64 << 10
)

// pipe is where bytes stay between two sockets. A direction has one only while it
// moves bytes, so there are as many pipes as blocked directions, not as sessions.
type pipe struct {
	r, w int
	// buf stands in for the kernel's pipe in Copy mode, when there are as many pipes as
	// may be, and when the process is out of descriptors: that may turn new sessions
	// away, but must not end those that run.
	buf  []byte
	held int // bytes inside
}

// fill takes what a socket has; the pipe is empty before. 0 is the end of the
// stream.
func (p *pipe) fill(fd int) (n int, err error) {
	if p.buf != nil {
		p.buf = p.buf[:cap(p.buf)]
		n, err = receive(fd, p.buf)
		p.buf = p.buf[:max(n, 0)]
	} else {
		n, err = splice(fd, p.w, pipeSize)
	}
	p.held = max(n, 0)
	return n, err
}

// drain gives a socket what it takes.
func (p *pipe) drain(fd int) (err error) {
	var n int
	if p.buf != nil {
		n, err = send(fd, p.residue())
	} else {
		n, err = splice(p.r, fd, p.held)
	}
	if n > 0 {
		p.held -= n
	}
	return err
}

// residue is what a buffer has yet to deliver.
func (p *pipe) residue() []byte { return p.buf[len(p.buf)-p.held:] }

// The system calls are raw: they do not block, and at a few thousand a second the
// scheduler's bookkeeping around each one would be a tenth of the cost.

func splice(from, to, size int) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

func receive(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

func send(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// pipePool has the pipes of one loop.
type pipePool struct {
	most   int // pipes that there may be; whoever comes then copies
	made   int // pipes that there are
	free   []*pipe
	buffer *pipe // an idle one
}

func (p *pipePool) get() *pipe {
	if n := len(p.free); n > 0 {
		pp := p.free[n-1]
		p.free = p.free[:n-1]
		return pp
	}
	var fds [2]int
	if p.made >= p.most || unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		if pp := p.buffer; pp != nil {
			p.buffer = nil
			return pp
		}
		return &pipe{r: -1, w: -1, buf: make([]byte, bufferSize)}
	}
	p.made++
	// Refused over the user's limit of pipe memory; the default 64 KiB works too.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: fds[0], w: fds[1]}
}

// shelve is for a pipe whose bytes have to wait, for long perhaps: those of a buffer get
// one of their own size.
func (p *pipePool) shelve(pp *pipe) *pipe {
	if pp.buf == nil || pp.held > cap(pp.buf)/2 {
		return pp
	}
	small := &pipe{r: -1, w: -1, buf: bytes.Clone(pp.residue()), held: pp.held}
	p.put(pp)
	return small
}

// put takes a pipe back. One with bytes inside can't serve anyone else.
func (p *pipePool) put(pp *pipe) {
	switch {
	case pp.buf != nil:
		if cap(pp.buf) == bufferSize {
			pp.held = 0
			p.buffer = pp
		}
	case pp.held == 0 && len(p.free) < pipesKept:
		p.free = append(p.free, pp)
	default:
		p.made--
		pp.close()
	}
}

func (p *pipePool) close() {
	for _, pp := range p.free {
		pp.close()
	}
	p.made -= len(p.free)
	p.free, p.buffer = nil, nil
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}
