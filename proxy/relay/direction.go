package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	// errTimeout says that a direction was stopped, or outlived its linger time.
	errTimeout = errors.New("stopped")
	// errHangup says that the receiver takes no more.
	errHangup = errors.New("receiver hung up")
)

// direction moves bytes one way.
type direction struct {
	name     string
	src, dst *net.TCPConn
	pipes    *pipePool
	moved    atomic.Int64
}

// run moves bytes until src ends, and then shuts dst's write side down.
func (d *direction) run() error {
	src, err := d.src.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	dst, err := d.dst.SyscallConn()
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	in, out := filler{pipes: d.pipes}, drainer{}
	fill, drain := in.fill, out.drain // one closure each, not one a wake-up
	for {
		if err := in.wait(src, fill); err != nil {
			if err == io.EOF {
				_ = d.dst.CloseWrite() // the peer may be gone already
				return nil
			}
			return fmt.Errorf("%s: %w", d.name, classify(err))
		}
		out.pipe = in.pipe
		n := in.pipe.held
		err := out.wait(dst, drain)
		d.moved.Add(int64(n - in.pipe.held))
		d.pipes.put(in.pipe)
		in.pipe = nil
		if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return fmt.Errorf("%s: %w: %w", d.name, errHangup, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, classify(err))
		}
	}
}

// discard takes what src still sends when dst takes no more. Bytes that are left
// unread when src is closed would make the kernel reset it, and what src has yet
// to receive would be lost.
func (d *direction) discard() error {
	_, err := io.Copy(io.Discard, d.src)
	return err
}

// delivered tells whether dst's peer has all that was sent to it; the FIN, which
// counts as a byte, may be on its way.
func (d *direction) delivered() bool {
	rc, err := d.dst.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	cerr := rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return errors.Join(cerr, err) != nil || n <= 1
}

// classify tells our own deadline from the kernel's ETIMEDOUT (a dead peer),
// which is a cause like any other.
func classify(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errTimeout
	}
	return err
}

// filler takes bytes from a socket into a pipe that it borrows for them.
type filler struct {
	pipes *pipePool
	pipe  *pipe
	err   error
}

func (f *filler) wait(rc syscall.RawConn, fill func(uintptr) bool) error {
	f.err = nil
	if err := rc.Read(fill); err != nil {
		return err
	}
	return f.err
}

// fill is called when the socket may be readable; false waits for more.
func (f *filler) fill(fd uintptr) bool {
	f.pipe = f.pipes.get()
	n, err := f.pipe.fill(int(fd))
	if n > 0 {
		return true
	}
	f.pipes.put(f.pipe)
	f.pipe = nil
	if err == unix.EAGAIN { // nothing there: wait without holding a pipe
		return false
	}
	if f.err = err; err == nil {
		f.err = io.EOF
	}
	return true
}

// drainer delivers what is in a pipe.
type drainer struct {
	pipe *pipe
	err  error
}

func (d *drainer) wait(rc syscall.RawConn, drain func(uintptr) bool) error {
	d.err = nil
	if err := rc.Write(drain); err != nil {
		return err
	}
	return d.err
}

// drain is called when the socket may be writable; false waits for more room.
func (d *drainer) drain(fd uintptr) bool {
	for d.pipe.held > 0 {
		if err := d.pipe.drain(int(fd)); err != nil {
			d.err = err
			if err == unix.EAGAIN {
				d.err = nil
				return false
			}
			return true
		}
	}
	return true
}
