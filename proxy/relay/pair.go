package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Pair is one routed session.
type Pair struct {
	// Prologue, if set, runs before the origin's bytes are relayed: what the
	// protocol has to finish there while the client's already flow. It must leave
	// no byte of the origin's behind that it has read and not passed on. Its
	// waits end with an error when the pair is stopped.
	Prologue func() error
	// TLS, if set, is what the client speaks over its socket.
	TLS *tls.Conn
	// Group, if set, ends the pair with others.
	Group *Group
	// Taken, if set, is called before Start returns, once both connections are closed
	// because their sockets are the loop's: who holds them may forget them. With TLS it
	// is not called.
	Taken func()

	client, origin *net.TCPConn // nil once they are of no use
	relay          *Relay
	loop           *loop
	// left is how many of the loop and Start are still at work; who ends last calls
	// conclude.
	left   atomic.Int32
	after  func(error)
	failed error // of the prologue

	cause   atomic.Pointer[error] // of Stop
	started atomic.Bool           // there is something to stop
	tls     *encrypted            // what it is, if TLS is set

	// The following belong to the loop until it is through with the pair.
	ends     [2]end // the client's and the origin's
	up, down direction
	deadline time.Time  // when it is stopped; it only ever moves nearer
	ended    *direction // that came to its end and passed it on
	hungUp   bool       // a receiver takes no more
	finished bool
}

// Pair prepares the relaying between two connections. The caller closes them
// after Run; it must not use them meanwhile.
func (r *Relay) Pair(client, origin *net.TCPConn) *Pair {
	p := &Pair{client: client, origin: origin, relay: r, loop: r.quietest()}
	c, o := &p.ends[0], &p.ends[1]
	p.up = direction{src: c, dst: o}
	p.down = direction{src: o, dst: c}
	*c = end{pair: p, in: &p.up, out: &p.down}
	*o = end{pair: p, in: &p.down, out: &p.up}
	return p
}

// Bytes is what has been moved so far.
func (p *Pair) Bytes() Result {
	return Result{FromClient: p.up.moved.Load(), FromOrigin: p.down.moved.Load()}
}

// Run relays until both sides have ended, one has failed, or ctx is cancelled. An
// end of one side is passed on as such (FIN), and the other then has 5 s. What a
// side had sent before it hung up is still delivered. The error is nil at a clean
// end, ctx's cause when cancelled.
func (p *Pair) Run(ctx context.Context) error {
	ended := make(chan error, 1)
	if err := p.Start(ctx, func(err error) { ended <- err }); err != nil {
		return err
	}
	return <-ended
}

// Start is Run that returns when the prologue is over: what follows needs no goroutine.
// Run's error is then given to after, on a goroutine of its own, unless Start itself
// fails.
func (p *Pair) Start(ctx context.Context, after func(error)) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.after = after
	if ctx.Done() != nil { // a context that can end costs more than all else of a pair
		unwatch := context.AfterFunc(ctx, func() { p.Stop(context.Cause(ctx)) })
		p.after = func(err error) {
			if !unwatch() {
				err = context.Cause(ctx)
			}
			after(err)
		}
		defer func() {
			if err != nil {
				unwatch()
			}
		}()
	}
	if p.Group != nil {
		if err := p.Group.add(p); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				p.Group.remove(p)
			}
		}()
	}
	if p.TLS != nil {
		p.tls = newEncrypted(p)
		go p.runEncrypted()
		p.begun()
		return nil
	}
	if err := p.takeSockets(); err != nil {
		return err
	}
	prologue := p.Prologue
	p.Prologue = nil // what it needs is free when it is over
	if prologue == nil {
		p.letGo()
		p.client, p.origin = nil, nil
	} else {
		p.down.state = held
		_ = p.client.SetDeadline(time.Time{}) // fails only on a closed socket
		_ = p.origin.SetDeadline(time.Time{})
	}
	p.left.Store(2)
	if err := p.loop.add(p); err != nil {
		p.closeSockets()
		return err
	}
	p.begun()
	if prologue != nil {
		if p.failed = prologue(); p.failed != nil {
			p.halt()
		} else {
			p.letGo()
			p.loop.order(p, (*loop).release)
		}
	}
	p.leave()
	return nil
}

// Stop ends the pair with a cause, which is Run's error then. Before Start, it ends as
// soon as it has started; after its end, nothing happens. Of two calls the first counts.
func (p *Pair) Stop(cause error) {
	if p.cause.CompareAndSwap(nil, &cause) && p.started.Load() {
		p.halt()
	}
}

// begun is called when there is something to stop. Either it sees the cause of a Stop
// at the same time, or that sees that there is.
func (p *Pair) begun() {
	p.started.Store(true)
	if p.cause.Load() != nil {
		p.halt()
	}
}

func (p *Pair) halt() {
	if p.tls != nil {
		p.tls.stop()
	} else {
		p.loop.order(p, (*loop).stop)
	}
}

// leave is called by the loop and Start when they are through with the pair.
func (p *Pair) leave() {
	if p.left.Add(-1) == 0 {
		failed := p.failed
		if errors.Is(failed, errTimeout) || isDeadline(failed) {
			failed = nil // a mere consequence of the pair's end
		}
		go p.conclude(failed, p.down.err, p.up.err)
	}
}

// conclude tells how the pair ended.
func (p *Pair) conclude(errs ...error) {
	if p.Group != nil {
		p.Group.remove(p)
	}
	if cause := p.cause.Load(); cause != nil {
		p.after(*cause)
		return
	}
	p.after(firstCause(errs...))
}

// takeSockets makes descriptors of the loop's own. Those of the connections are in
// the epoll of Go's runtime: as long as they are, each packet wakes it up too.
func (p *Pair) takeSockets() error {
	for i, c := range []*net.TCPConn{p.client, p.origin} {
		p.ends[i].fd = -1
		rc, err := c.SyscallConn()
		if err == nil {
			cerr := rc.Control(func(fd uintptr) { p.ends[i].fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
			err = errors.Join(cerr, err)
		}
		if err != nil {
			if i == 1 {
				unix.Close(p.ends[0].fd)
			}
			return fmt.Errorf("take over a socket: %w", err)
		}
	}
	return nil
}

// letGo closes the connections: the loop has the sockets. Their owner closes them
// once more, which does no harm, or forgets them.
func (p *Pair) letGo() {
	p.client.Close()
	p.origin.Close()
	if p.Taken != nil {
		p.Taken()
		p.Taken = nil
	}
}

func (p *Pair) closeSockets() {
	for i := range p.ends {
		unix.Close(p.ends[i].fd)
	}
}

func (p *Pair) noteEnd(d *direction) {
	p.ended = d
	p.endSoon()
}

func (p *Pair) noteHangup() {
	p.hungUp = true
	p.endSoon()
}

// endSoon gives the direction that is left its time.
func (p *Pair) endSoon() {
	switch {
	case p.ended == nil:
	case !p.hungUp:
		p.endBy(time.Now().Add(p.relay.linger))
	case p.ended.delivered():
		p.stop()
	default:
		p.endBy(time.Now().Add(p.relay.grace))
	}
}

// stop ends both directions where they are.
func (p *Pair) stop() {
	p.up.stop()
	p.down.stop()
}

// endBy never moves a deadline away.
func (p *Pair) endBy(t time.Time) {
	if p.deadline.IsZero() || t.Before(p.deadline) {
		p.deadline = t
	}
}

// firstCause prefers the error that says most: a hang-up is what the second
// direction sees of a socket that failed, a timeout a mere consequence of a stop.
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
