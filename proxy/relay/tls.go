package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A client with TLS has two goroutines instead of a place in a loop: somebody has to
// encrypt its bytes, and would hold up the others. What a Pair promises holds here too.
//
//	client ══TLS══▶ buffer ══▶ origin      encrypted pair
//	client ◀══TLS══ buffer ◀══ origin

// recordSize is what a record of TLS holds at most, in bytes (RFC 8446 section 5.1).
const recordSize = 16 << 10

// encrypted is a Pair at work whose client speaks TLS.
type encrypted struct {
	pair     *Pair
	up, down stream

	mu       sync.Mutex // guards the following and the deadlines of the sockets
	deadline time.Time  // of both sockets; it only ever moves nearer
	ended    *stream    // that came to its end and passed it on
	hungUp   bool       // a receiver takes no more
}

// stream is one way of it.
type stream struct {
	name     string
	src      io.Reader
	dst      net.Conn
	sink     *net.TCPConn // dst's socket
	raw      *net.TCPConn // src's socket
	closeDst func() error
	moved    *atomic.Int64
}

func newEncrypted(p *Pair) *encrypted {
	e := &encrypted{pair: p}
	e.up = stream{name: p.up.String(), src: p.TLS, raw: p.client, dst: p.origin, sink: p.origin, closeDst: p.origin.CloseWrite, moved: &p.up.moved}
	e.down = stream{name: p.down.String(), src: p.origin, raw: p.origin, dst: p.TLS, sink: p.client, closeDst: func() error {
		return errors.Join(p.TLS.CloseWrite(), p.client.CloseWrite())
	}, moved: &p.down.moved}
	_ = p.client.SetDeadline(time.Time{}) // fails only on a closed socket
	_ = p.origin.SetDeadline(time.Time{})
	return e
}

// runEncrypted is the goroutine of a pair with TLS, and of its origin-to-client direction.
func (p *Pair) runEncrypted() {
	up := make(chan error, 1)
	go p.tls.runUp(up)
	downErr := p.tls.runDown()
	p.conclude(downErr, <-up)
}

// runUp is the goroutine of the client-to-origin direction.
func (e *encrypted) runUp(done chan<- error) { done <- e.run(&e.up) }

func (e *encrypted) runDown() error {
	if prologue := e.pair.Prologue; prologue != nil {
		e.pair.Prologue = nil // what it needs is free when it is over
		if err := prologue(); err != nil {
			e.stop()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return errTimeout // a mere consequence of the pair's end
			}
			return err
		}
	}
	return e.run(&e.down)
}

// run moves one way's bytes and then sees to the end of the other.
func (e *encrypted) run(s *stream) error {
	err := s.move()
	switch {
	case err == nil:
		e.note(func() { e.ended = s })
	case errors.Is(err, errHangup):
		// As in direction.flush: the other way delivers what came before. What this
		// one's source still sends is taken, encrypted or not: bytes left unread would
		// make the kernel reset the connection.
		e.note(func() { e.hungUp = true })
		if _, err := io.Copy(io.Discard, s.raw); err != nil {
			e.stop()
		}
	default:
		e.stop() // nothing more can come of the other way
	}
	return err
}

// move copies until src ends, and passes the end on.
func (s *stream) move() error {
	buf := make([]byte, recordSize)
	for {
		n, err := s.src.Read(buf)
		if n > 0 {
			m, werr := s.dst.Write(buf[:n])
			s.moved.Add(int64(m))
			if errors.Is(werr, unix.EPIPE) || errors.Is(werr, unix.ECONNRESET) {
				return fmt.Errorf("%s: %w: %w", s.name, errHangup, werr)
			}
			if werr != nil {
				return s.failed(werr)
			}
		}
		if err == io.EOF {
			_ = s.closeDst() // the peer may be gone already
			return nil
		}
		if err != nil {
			return s.failed(err)
		}
	}
}

func (s *stream) failed(err error) error {
	if isDeadline(err) {
		err = errTimeout
	}
	return fmt.Errorf("%s: %w", s.name, err)
}

// delivered is direction.delivered.
func (s *stream) delivered() bool {
	rc, err := s.sink.SyscallConn()
	if err != nil {
		return true
	}
	n := 0
	cerr := rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return errors.Join(cerr, err) != nil || n <= 1
}

// note takes what happened down, and gives the way that is left its time.
func (e *encrypted) note(what func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	what()
	switch {
	case e.ended == nil:
	case !e.hungUp:
		e.endByLocked(time.Now().Add(e.pair.relay.linger))
	case e.ended.delivered():
		e.endByLocked(time.Unix(1, 0))
	default:
		e.endByLocked(time.Now().Add(e.pair.relay.grace))
	}
}

// stop ends every wait on both sockets.
func (e *encrypted) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endByLocked(time.Unix(1, 0))
}

// endByLocked never moves a deadline away: a stop is not undone by a linger that comes
// at the same time.
func (e *encrypted) endByLocked(t time.Time) {
	if !e.deadline.IsZero() && !t.Before(e.deadline) {
		return
	}
	e.deadline = t
	_ = e.pair.client.SetDeadline(t) // fails only on a closed socket
	_ = e.pair.origin.SetDeadline(t)
}
