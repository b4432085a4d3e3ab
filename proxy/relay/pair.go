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

	client, origin *net.TCPConn
	relay          *Relay
	loop           *loop
	// left is how many of the loop and Start are still at work; who ends last calls
	// conclude.
	left     atomic.Int32
	conclude func()
	failed   error // of the prologue

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
	p.up = direction{name: "client to origin", src: c, dst: o}
	p.down = direction{name: "origin to client", src: o, dst: c}
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
func (p *Pair) Start(ctx context.Context, after func(error)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if p.TLS != nil {
		go func() { after(p.runEncrypted(ctx)) }()
		return nil
	}
	if err := p.takeSockets(); err != nil {
		return err
	}
	prologue := p.Prologue
	p.Prologue = nil // what it needs is free when it is over
	if prologue == nil {
		p.letGo()
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
	stop := context.AfterFunc(ctx, func() { p.loop.order(p, (*loop).stop) })
	p.conclude = func() {
		stop()
		after(p.result(ctx))
	}
	if prologue != nil {
		if p.failed = prologue(); p.failed != nil {
			p.loop.order(p, (*loop).stop)
		} else {
			p.letGo()
			p.loop.order(p, (*loop).release)
		}
	}
	p.leave()
	return nil
}

// leave is called by the loop and Start when they are through with the pair.
func (p *Pair) leave() {
	if p.left.Add(-1) == 0 {
		go p.conclude()
	}
}

func (p *Pair) result(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	failed := p.failed
	if errors.Is(failed, errTimeout) || isDeadline(failed) {
		failed = nil // a mere consequence of the pair's end
	}
	return firstCause(failed, p.down.err, p.up.err)
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
// once more, which does no harm.
func (p *Pair) letGo() {
	p.client.Close()
	p.origin.Close()
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
