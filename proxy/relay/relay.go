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
	"net"
	"sync"
	"time"
)

// linger is how long the other direction may go on after one has ended: enough
// for the last bytes and the peer's own close. grace is the same when a peer has
// hung up altogether and all that it had sent was passed on: long enough for the
// last bytes to arrive, short enough that the publisher of an origin that died
// is closed within a second.
const (
	linger = 5 * time.Second
	grace  = 500 * time.Millisecond
)

// Relay starts pairs; they share its pipes.
type Relay struct {
	pipes         pipePool
	linger, grace time.Duration
}

// New returns a Relay.
func New() *Relay { return &Relay{linger: linger, grace: grace} }

// Pair is one routed session.
type Pair struct {
	// Prologue, if set, runs before the origin's bytes are relayed: what the
	// protocol has to finish there while the client's already flow. It must leave
	// no byte of the origin's behind that it has read and not passed on. Its
	// waits end with an error when the pair is stopped.
	Prologue func() error

	client, origin *net.TCPConn
	up, down       direction
	linger, grace  time.Duration

	mu       sync.Mutex // guards the following fields and the deadlines of the sockets
	deadline time.Time  // of both sockets; it only ever moves nearer
	ended    *direction // that came to its end and passed it on
	hungUp   bool       // a receiver takes no more
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
		up:     direction{name: "client to origin", src: client, dst: origin, pipes: &r.pipes},
		down:   direction{name: "origin to client", src: origin, dst: client, pipes: &r.pipes},
		linger: r.linger, grace: r.grace,
	}
}

// Bytes is what has been moved so far.
func (p *Pair) Bytes() Result {
	return Result{FromClient: p.up.moved.Load(), FromOrigin: p.down.moved.Load()}
}

// Run relays until both sides have ended, one has failed, or ctx is cancelled. An
// end of one side is passed on as such (FIN), and the other then has 5 s. What a
// side had sent before it hung up is still delivered. The error is nil at a clean
// end, ctx's cause when cancelled. Deadlines that were set on the sockets before
// are cleared.
func (p *Pair) Run(ctx context.Context) error {
	_ = p.client.SetDeadline(time.Time{}) // fails only on a closed socket
	_ = p.origin.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, p.stop)
	defer stop()
	up := make(chan error, 1)
	go p.relayUp(up)
	downErr := p.relayDown()
	upErr := <-up
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return firstCause(downErr, upErr)
}

// relayUp is the goroutine of the client-to-origin direction.
func (p *Pair) relayUp(done chan<- error) { done <- p.relay(&p.up) }

func (p *Pair) relayDown() error {
	if p.Prologue != nil {
		if err := p.Prologue(); err != nil {
			p.stop()
			return classify(err)
		}
	}
	return p.relay(&p.down)
}

// relay runs one direction and then sees to the end of the other.
func (p *Pair) relay(d *direction) error {
	err := d.run()
	switch {
	case err == nil:
		p.noteEnd(d)
	case errors.Is(err, errHangup):
		// The other direction reads from the side that hung up: it delivers what
		// came before, however slowly that is taken, and then ends by itself.
		p.noteHangup()
		if d.discard() != nil {
			p.stop()
		}
	default:
		p.stop() // nothing more can come of the other direction
	}
	return err
}

func (p *Pair) noteEnd(d *direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = d
	p.endSoonLocked()
}

func (p *Pair) noteHangup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hungUp = true
	p.endSoonLocked()
}

// endSoonLocked gives the direction that is left its time.
func (p *Pair) endSoonLocked() {
	switch {
	case p.ended == nil:
	case !p.hungUp:
		p.endByLocked(time.Now().Add(p.linger))
	case p.ended.delivered():
		p.stopLocked()
	default:
		p.endByLocked(time.Now().Add(p.grace))
	}
}

// stop ends every wait on both sockets.
func (p *Pair) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopLocked()
}

func (p *Pair) stopLocked() { p.endByLocked(time.Unix(1, 0)) }

// endByLocked never moves a deadline away: a stop is not undone by a linger that
// comes at the same time.
func (p *Pair) endByLocked(t time.Time) {
	if !p.deadline.IsZero() && !t.Before(p.deadline) {
		return
	}
	p.deadline = t
	_ = p.client.SetDeadline(t) // fails only on a closed socket
	_ = p.origin.SetDeadline(t)
}

// firstCause prefers the error that says most: a hang-up is what the second
// direction sees of a socket that failed, a timeout a mere consequence of our
// deadlines.
func firstCause(errs ...error) error {
	var hangup error
	for _, err := range errs {
		switch {
		case err == nil || errors.Is(err, errTimeout):
		case !errors.Is(err, errHangup):
			return err
		case hangup == nil:
			hangup = err
		}
	}
	return hangup
}
