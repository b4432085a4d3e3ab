package relay

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/epoll"
)

// end is one socket of a pair.
type end struct {
	pair    *Pair
	fd      int
	in, out *direction // what is read from it, and written to it
	index   int        // its name in the epoll
	mask    uint32     // what the epoll watches
}

// want is what the epoll shall watch. Level-triggered: what one splice leaves behind
// is reported again, and costs no read into EAGAIN.
func (e *end) want() uint32 {
	var m uint32
	if e.in.state == flowing || e.in.state == discarding {
		m |= unix.EPOLLIN
	}
	if e.out.state == blocked {
		m |= unix.EPOLLOUT
	}
	if m == 0 {
		m = unix.EPOLLET // a hang-up can't be masked: tell it once
	}
	return m
}

// loop serves its pairs on one goroutine, which runs while there are any.
type loop struct {
	pairs atomic.Int64

	mu      sync.Mutex // guards the following; epoll and wake do not change once made
	running bool
	orders  []order
	made    bool // there are epoll and wake
	closed  bool // they go with the last pair
	epoll   *epoll.Set
	wake    int // an eventfd: there are orders

	// The following belong to the goroutine.
	ends    []*end // by index; 0 stands for wake
	free    []int  // indexes
	freed   []int  // since the last wait: the events at hand may still name them
	closing map[*Pair]struct{}
	next    time.Time // of the deadlines of closing
	alarm   time.Time // the deadline of epoll
	pipes   pipePool
	trash   []byte
}

type order struct {
	pair *Pair
	do   func(*loop, *Pair)
}

// add takes a pair on.
func (l *loop) add(p *Pair) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.made {
		if err := l.make(); err != nil {
			return err
		}
	}
	l.pairs.Add(1)
	l.orderLocked(p, (*loop).attach)
	if !l.running {
		l.running = true
		go l.run()
	}
	return nil
}

// order has the loop do something with a pair, unless the pair has ended with the loop.
func (l *loop) order(p *Pair, do func(*loop, *Pair)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		l.orderLocked(p, do)
	}
}

func (l *loop) orderLocked(p *Pair, do func(*loop, *Pair)) {
	l.orders = append(l.orders, order{p, do})
	if len(l.orders) == 1 {
		one := [8]byte{1} // of either byte order: what counts is that it is not 0
		_, _ = unix.Write(l.wake, one[:])
	}
}

func (l *loop) make() (err error) {
	if l.epoll, err = epoll.New(); err != nil {
		return err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		l.epoll.Close()
		return fmt.Errorf("eventfd: %w", err)
	}
	if err = l.epoll.Add(l.wake, unix.EPOLLIN, 0); err != nil {
		l.epoll.Close()
		unix.Close(l.wake)
		return err
	}
	l.made = true
	l.ends = []*end{nil}
	l.closing = map[*Pair]struct{}{}
	return nil
}

func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.made && !l.running {
		l.closeLocked()
	}
}

func (l *loop) closeLocked() {
	l.epoll.Close()
	unix.Close(l.wake)
	l.made = false
	l.pipes.close()
}

func (l *loop) run() {
	for {
		for _, ev := range l.wait() {
			if e := l.ends[ev.Fd]; e != nil {
				l.serve(e, ev.Events)
			}
		}
		if !l.next.IsZero() {
			l.expire(time.Now())
		}
		if !l.obey() {
			return
		}
	}
}

// wait returns the events, none when a deadline is over.
func (l *loop) wait() []unix.EpollEvent {
	if l.alarm != l.next {
		l.alarm = l.next
		_ = l.epoll.SetDeadline(l.alarm) // fails only on a closed one
	}
	events, _ := l.epoll.Wait() // the deadline's error is news to nobody
	return events
}

// obey carries out the orders. It reports whether the loop goes on.
func (l *loop) obey() bool {
	for {
		l.mu.Lock()
		orders := l.orders
		l.orders = nil
		if len(orders) == 0 {
			l.free = append(l.free, l.freed...)
			l.freed = l.freed[:0]
			l.running = l.pairs.Load() > 0
			if l.closed && !l.running {
				l.closeLocked()
			}
			running := l.running
			l.mu.Unlock()
			return running
		}
		var count [8]byte
		_, _ = unix.Read(l.wake, count[:])
		l.mu.Unlock()
		for _, o := range orders {
			o.do(l, o.pair)
		}
	}
}

// attach begins with a pair.
func (l *loop) attach(p *Pair) {
	for i := range p.ends {
		e := &p.ends[i]
		if n := len(l.free); n > 0 {
			e.index = l.free[n-1]
			l.free = l.free[:n-1]
			l.ends[e.index] = e
		} else {
			e.index = len(l.ends)
			l.ends = append(l.ends, e)
		}
		e.mask = e.want()
		if err := l.epoll.Add(e.fd, e.mask, e.index); err != nil {
			e.in.fail(err)
		}
	}
	l.settle(p)
}

// release lets the origin's bytes flow.
func (l *loop) release(p *Pair) {
	p.client, p.origin = nil, nil // closed
	if p.down.state == held {
		p.down.state = flowing
		l.settle(p)
	}
}

// stop ends a pair.
func (l *loop) stop(p *Pair) {
	p.stop()
	l.settle(p)
}

// serve does what a socket is ready for.
func (l *loop) serve(e *end, events uint32) {
	const gone = unix.EPOLLHUP | unix.EPOLLERR
	if events&(unix.EPOLLIN|gone) != 0 {
		switch e.in.state {
		case flowing:
			e.in.pump(&l.pipes)
		case discarding:
			if l.trash == nil {
				l.trash = make([]byte, bufferSize)
			}
			e.in.discard(l.trash)
		}
	}
	if events&(unix.EPOLLOUT|gone) != 0 && e.out.state == blocked {
		e.out.flush(&l.pipes)
	}
	l.settle(e.pair)
}

// settle sees to what changed of a pair.
func (l *loop) settle(p *Pair) {
	if p.finished {
		return
	}
	if p.up.state == ended && p.down.state == ended {
		l.finish(p)
		return
	}
	for i := range p.ends {
		e := &p.ends[i]
		if want := e.want(); want != e.mask {
			e.mask = want
			if err := l.epoll.Change(e.fd, want, e.index); err != nil {
				e.in.fail(err)
				l.finish(p)
				return
			}
		}
	}
	if !p.deadline.IsZero() {
		l.closing[p] = struct{}{}
		if l.next.IsZero() || p.deadline.Before(l.next) {
			l.next = p.deadline
		}
	}
}

// expire stops the pairs whose time is up.
func (l *loop) expire(now time.Time) {
	if now.Before(l.next) {
		return
	}
	l.next = time.Time{}
	for p := range l.closing {
		switch {
		case !now.Before(p.deadline):
			l.stop(p)
		case l.next.IsZero() || p.deadline.Before(l.next):
			l.next = p.deadline
		}
	}
}

// finish gives everything of a pair back.
func (l *loop) finish(p *Pair) {
	p.finished = true
	for _, d := range []*direction{&p.up, &p.down} {
		if d.pipe != nil {
			l.pipes.put(d.pipe)
			d.pipe = nil
		}
	}
	for i := range p.ends {
		e := &p.ends[i]
		l.ends[e.index] = nil
		l.freed = append(l.freed, e.index)
		// While the prologue runs, the connection keeps the socket in the epoll.
		_ = l.epoll.Remove(e.fd)
	}
	p.closeSockets()
	delete(l.closing, p)
	if p.left.Load() > 1 && p.client != nil { // a prologue's waits end; it fails on a socket that was let go
		_ = p.client.SetDeadline(time.Unix(1, 0))
		_ = p.origin.SetDeadline(time.Unix(1, 0))
	}
	l.pairs.Add(-1)
	p.leave()
}
