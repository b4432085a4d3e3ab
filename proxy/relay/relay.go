// Package relay moves the bytes of a routed session: two sockets and nothing else.
//
//	client ══splice══▶ pipe ══splice══▶ origin
//	client ◀══splice══ pipe ◀══splice══ origin
//
// The bytes stay in the kernel: nothing is looked at, changed or inserted. A pair
// can be stopped at any time; what a direction had taken and not yet delivered is
// in its pipe (the residue) and nowhere else.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// linger is how long the other direction may go on after one has ended: enough
// for the last bytes and the peer's own close.
const linger = 5 * time.Second

// Relay starts pairs; they share its pipes.
type Relay struct {
	pipes pipePool
}

// New returns a Relay.
func New() *Relay { return &Relay{} }

// Pair is one routed session.
type Pair struct {
	// Prologue, if set, runs before the origin's bytes are relayed: what the
	// protocol has to finish there while the client's already flow. It must leave
	// no byte of the origin's behind that it has read and not passed on. Its
	// waits end with an error when the pair is stopped.
	Prologue func() error

	client, origin *net.TCPConn
	up, down       direction
	woken          atomic.Bool
}

// Result is what a pair moved, in bytes.
type Result struct {
	FromClient, FromOrigin int64
}

// Pair prepares the relaying between two connections. The caller closes them
// after Run.
func (r *Relay) Pair(client, origin *net.TCPConn) *Pair {
	return &Pair{
		client: client, origin: origin,
		up:   direction{name: "client to origin", src: client, dst: origin, pipes: &r.pipes},
		down: direction{name: "origin to client", src: origin, dst: client, pipes: &r.pipes},
	}
}

// Bytes is what has been moved so far.
func (p *Pair) Bytes() Result {
	return Result{FromClient: p.up.moved.Load(), FromOrigin: p.down.moved.Load()}
}

// Run relays until both sides have ended, one has failed, or ctx is cancelled. An
// end of one side is passed on as such (FIN), and the other then has 5 s. The
// error is nil at a clean end, ctx's cause when cancelled.
func (p *Pair) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.wake)
	defer stop()
	up := make(chan error, 1)
	go p.relayUp(up)
	err := p.relayDown()
	if err != nil {
		p.wake() // nothing more can be delivered: end the other direction too
	} else {
		p.expire()
	}
	upErr := <-up
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return firstCause(err, upErr)
}

func (p *Pair) relayDown() error {
	if p.Prologue != nil {
		if err := p.Prologue(); err != nil {
			return err
		}
	}
	return p.down.run()
}

// relayUp is the goroutine of the client-to-origin direction.
func (p *Pair) relayUp(done chan<- error) {
	err := p.up.run()
	if err != nil {
		p.wake()
	} else {
		p.expire()
	}
	done <- err
}

// wake ends every wait on both sockets.
func (p *Pair) wake() {
	p.woken.Store(true)
	p.setDeadline(time.Unix(1, 0))
}

// expire gives the direction that is left its linger time.
func (p *Pair) expire() {
	p.setDeadline(time.Now().Add(linger))
	if p.woken.Load() { // a wake that came between must not be undone
		p.wake()
	}
}

func (p *Pair) setDeadline(t time.Time) {
	_ = p.client.SetDeadline(t) // fails only on a closed socket
	_ = p.origin.SetDeadline(t)
}

// firstCause prefers the error that is not a mere consequence of wake or expire.
func firstCause(errs ...error) error {
	for _, err := range errs {
		if err != nil && !errors.Is(err, errTimeout) {
			return err
		}
	}
	return nil
}

// errTimeout says that a direction was woken, or outlived its linger time.
var errTimeout = errors.New("stopped")

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
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, classify(err))
		}
	}
}

func classify(err error) error {
	var nerr net.Error
	if errors.As(err, &nerr) && nerr.Timeout() {
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
	if f.pipe == nil {
		if f.pipe, f.err = f.pipes.get(); f.err != nil {
			return true
		}
	}
	n, err := retryEINTR(int(fd), f.pipe.w, pipeSize)
	switch {
	case err == unix.EAGAIN: // nothing there: wait without holding a pipe
		f.release()
		return false
	case err != nil:
		f.release()
		f.err = err
	case n == 0:
		f.release()
		f.err = io.EOF
	default:
		f.pipe.held = n
	}
	return true
}

func (f *filler) release() {
	f.pipes.put(f.pipe)
	f.pipe = nil
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

func (d *drainer) drain(fd uintptr) bool {
	for d.pipe.held > 0 {
		n, err := retryEINTR(d.pipe.r, int(fd), d.pipe.held)
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			d.err = err
			return true
		}
		d.pipe.held -= n
	}
	return true
}

func retryEINTR(in, out, most int) (int, error) {
	for {
		n, err := unix.Splice(in, nil, out, nil, most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int(n), err
		}
	}
}
