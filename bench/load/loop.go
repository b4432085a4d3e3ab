package load

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A loop serves sockets and timers on one goroutine.
type loop struct {
	now   func() int64
	epoll int
	wake  int // an eventfd: there are orders

	mu     sync.Mutex // guards the following
	orders []func()
	ended  bool

	// The following belong to the goroutine of run.
	conns  map[int32]*conn
	timers timers
	events []unix.EpollEvent
	buf    []byte
}

// eventBatch and readSize bound one turn: so much is read of one socket before the
// next one has its turn.
const (
	eventBatch = 256
	readSize   = 256 << 10
)

// timer is work that comes again.
type timer struct {
	at   int64
	tick func(now int64) (next int64) // 0 for never again
}

// timers is a heap, the first one due on top.
type timers []*timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(*timer)) } //nolint:errcheck // heap.Push is given timers alone
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}

func newLoop(now func() int64) (*loop, error) {
	l := &loop{now: now, conns: map[int32]*conn{}, events: make([]unix.EpollEvent, eventBatch), buf: make([]byte, readSize)}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(l.epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.wake)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, l.wake, &ev); err != nil {
		l.close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return l, nil
}

func (l *loop) close() {
	unix.Close(l.epoll)
	unix.Close(l.wake)
}

// order has the loop's goroutine do something soon. A loop that has ended does nothing.
func (l *loop) order(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.orders = append(l.orders, f)
	one := [8]byte{1}
	_, _ = unix.Write(l.wake, one[:]) // it is readable already if this fails
	return true
}

// orderOr orders f, or does otherwise at once when the loop has ended.
func (l *loop) orderOr(f, otherwise func()) {
	if !l.order(f) {
		otherwise()
	}
}

// do has the loop's goroutine do something and waits for it. After the loop's end it
// does it itself: nobody else touches the loop's state any more.
func (l *loop) do(f func()) {
	done := make(chan struct{})
	if !l.order(func() { f(); close(done) }) {
		f()
		return
	}
	<-done
}

// run serves until the context ends and closes what is open.
func (l *loop) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.order(func() {}) })
	defer stop()
	var err error
	for err == nil && ctx.Err() == nil {
		err = l.turn()
	}
	l.mu.Lock()
	l.ended = true
	rest := l.orders
	l.orders = nil
	l.mu.Unlock()
	for _, f := range rest {
		f()
	}
	for _, c := range l.conns {
		c.close(errEnded)
	}
	l.close()
	return err
}

// errEnded closes the sessions that are open when the load ends.
var errEnded = errors.New("the load has ended")

// turn waits for events and timers, and serves those that are there.
func (l *loop) turn() error {
	n, err := unix.EpollWait(l.epoll, l.events, l.patience())
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, ev := range l.events[:max(n, 0)] {
		if ev.Fd == int32(l.wake) {
			l.obey()
		} else if c := l.conns[ev.Fd]; c != nil {
			c.ready(ev.Events)
		}
	}
	for len(l.timers) > 0 && l.timers[0].at <= l.now() {
		t := l.timers[0]
		if t.at = t.tick(l.now()); t.at == 0 {
			heap.Pop(&l.timers)
		} else {
			heap.Fix(&l.timers, 0)
		}
	}
	return nil
}

// patience is how long to wait for events, in milliseconds, -1 for ever.
func (l *loop) patience() int {
	if len(l.timers) == 0 {
		return -1
	}
	wait := l.timers[0].at - l.now()
	return int(max(0, (wait+int64(time.Millisecond)-1)/int64(time.Millisecond)))
}

func (l *loop) obey() {
	var count [8]byte
	_, _ = unix.Read(l.wake, count[:]) // level-triggered: a failure comes again
	l.mu.Lock()
	orders := l.orders
	l.orders = nil
	l.mu.Unlock()
	for _, f := range orders {
		f()
	}
}

// every calls tick at a time and then whenever it asks for.
func (l *loop) every(at int64, tick func(now int64) int64) {
	heap.Push(&l.timers, &timer{at: at, tick: tick})
}
