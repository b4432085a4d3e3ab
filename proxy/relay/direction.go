package relay

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var (
	// errTimeout says that a direction was stopped, or outlived its linger time.
	errTimeout = errors.New("stopped")
	// errHangup says that the receiver takes no more.
	errHangup = errors.New("receiver hung up")
)

// state is what a direction waits for.
type state int

const (
	flowing    state = iota // its source
	held                    // its release, after the prologue
	blocked                 // room at its destination, with bytes in its pipe
	discarding              // the end of its source; its destination takes no more
	ended
)

// direction moves bytes one way.
type direction struct {
	src, dst *end
	state    state
	pipe     *pipe // the residue, while blocked
	moved    atomic.Int64
	err      error
}

func (d *direction) String() string {
	if d == &d.src.pair.up {
		return "client to origin"
	}
	return "origin to client"
}

// pump moves what the source has.
func (d *direction) pump(pipes *pipePool) {
	p := pipes.get()
	n, err := p.fill(d.src.fd)
	switch {
	case n > 0:
		d.pipe = p
		d.flush(pipes)
		return
	case err == unix.EAGAIN:
	case err != nil:
		d.fail(err)
	default:
		_ = unix.Shutdown(d.dst.fd, unix.SHUT_WR) // the peer may be gone already
		d.state = ended
		d.src.pair.noteEnd(d)
	}
	pipes.put(p)
}

// flush delivers what is in the pipe, and gives the pipe back once it is empty.
func (d *direction) flush(pipes *pipePool) {
	had := d.pipe.held
	var err error
	for err == nil && d.pipe.held > 0 {
		err = d.pipe.drain(d.dst.fd)
	}
	d.moved.Add(int64(had - d.pipe.held))
	if err == unix.EAGAIN {
		d.state = blocked
		d.pipe = pipes.shelve(d.pipe)
		return
	}
	pipes.put(d.pipe)
	d.pipe = nil
	switch err {
	case nil:
		d.state = flowing
	case unix.EPIPE, unix.ECONNRESET:
		// The other direction reads from the side that hung up: it delivers what
		// came before, however slowly that is taken, and then ends by itself.
		d.state = discarding
		d.err = fmt.Errorf("%s: %w: %w", d, errHangup, err)
		d.src.pair.noteHangup()
	default:
		d.fail(err)
	}
}

// discard takes what the source still sends when the destination takes no more.
// Bytes that are left unread when it is closed would make the kernel reset it, and
// what it has yet to receive would be lost.
func (d *direction) discard(buf []byte) {
	n, err := receive(d.src.fd, buf)
	switch {
	case n > 0 || err == unix.EAGAIN:
	case err != nil:
		d.src.pair.stop()
	default:
		d.state = ended
	}
}

// fail ends the pair: nothing more can come of the other direction.
func (d *direction) fail(err error) {
	d.err = fmt.Errorf("%s: %w", d, err)
	d.state = ended
	d.src.pair.stop()
}

func (d *direction) stop() {
	if d.state == ended {
		return
	}
	d.state = ended
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", d, errTimeout)
	}
}

// delivered tells whether the destination's peer has all that was sent to it; the
// FIN, which counts as a byte, may be on its way.
func (d *direction) delivered() bool {
	n, err := unix.IoctlGetInt(d.dst.fd, unix.SIOCOUTQ)
	return err != nil || n <= 1
}

func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
