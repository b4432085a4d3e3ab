package udp

import (
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/epoll"
)

// Shard is one event loop with its sockets:
//
//	epoll ─┬ public    ─▶ Handler.FromClient
//	       ├ wildcard  ─▶ bySource ─▶ Receiver.FromOrigin
//	       ├ connected ─▶ bySocket ─▶ Receiver.FromOrigin
//	       ├ ticks     ─▶ Handler.Tick
//	       └ wake      ─▶ posted functions, the end
//
// A shard that waits holds no thread.
type Shard struct {
	server *Server
	index  int
	family int // of the public socket

	public, wildcard, ticks, wake int
	wildcardPort                  uint16
	epoll                         *epoll.Set

	counters counters

	// What follows belongs to the shard's goroutine.
	now       time.Time
	tick      time.Duration
	in        *inbox
	toClients outbox
	toOrigins outbox
	across    outbox           // toward flows of another shard
	lastPeer  Peer             // that the last of toClients is for
	lastFlow  *Flow            // that the last of toOrigins is for
	bySource  map[uint32]*Flow // by the session's address
	bySocket  map[int]*Flow
	complaint time.Time // when a panic was last logged

	mu       sync.Mutex // guards the following fields
	posted   []func()
	stopping bool
	closed   bool // the descriptors are not ours any more
}

// newShard opens everything, or nothing.
func (s *Server) newShard(index int, addr *net.UDPAddr, family, port int) (_ *Shard, err error) {
	sh := &Shard{
		server: s, index: index, tick: s.cfg.Tick, public: -1, wildcard: -1, ticks: -1, wake: -1,
		in: newInbox(), bySource: make(map[uint32]*Flow), bySocket: make(map[int]*Flow),
	}
	defer func() {
		if err != nil {
			sh.close()
		}
	}()
	if sh.public, sh.family, err = openPublic(addr, port, true); err != nil {
		return nil, err
	}
	if sh.wildcard, err = openWildcard(); err != nil {
		return nil, err
	}
	wildcardPort, err := portOf(sh.wildcard)
	if err != nil {
		return nil, err
	}
	sh.wildcardPort = uint16(wildcardPort)
	if unix.SetsockoptInt(sh.wildcard, unix.SOL_UDP, unix.UDP_SEGMENT, 0) != nil {
		sh.toClients.runs.off, sh.toOrigins.runs.off = true, true // a kernel before 4.18
	}
	if sh.ticks, err = openTimer(s.cfg.Tick); err != nil {
		return nil, err
	}
	if sh.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	if sh.epoll, err = epoll.New(); err != nil {
		return nil, err
	}
	for _, fd := range []int{sh.public, sh.wildcard, sh.ticks, sh.wake} {
		if err := sh.epoll.Add(fd, unix.EPOLLIN, fd); err != nil {
			return nil, err
		}
	}
	return sh, nil
}

func openTimer(period time.Duration) (int, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return -1, os.NewSyscallError("timerfd_create", err)
	}
	if err := setTimer(fd, period); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setTimer(fd int, period time.Duration) error {
	every := unix.NsecToTimespec(period.Nanoseconds())
	return os.NewSyscallError("timerfd_settime", unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil))
}

// TickEvery changes the period of Handler.Tick from now on: a protocol that has to
// look at something often only now and then need not wake an idle machine for it.
// Only for the shard's goroutine.
func (sh *Shard) TickEvery(period time.Duration) {
	if period <= 0 || period == sh.tick {
		return
	}
	if err := setTimer(sh.ticks, period); err != nil {
		sh.server.log.Error("period of a shard's ticks", "cause", err)
		return
	}
	sh.tick = period
}

// Index numbers the shards from 0; it is where a protocol keeps what is the shard's own.
func (sh *Shard) Index() int { return sh.index }

// Now is when the shard began with the datagrams at hand: the time to a millisecond
// or so, for free. Only for the shard's goroutine.
func (sh *Shard) Now() time.Time { return sh.now }

// Post runs f on the shard's goroutine, soon. For any goroutine; it never blocks and
// says false when the shard has stopped and f will not run.
func (sh *Shard) Post(f func()) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return false
	}
	sh.posted = append(sh.posted, f)
	sh.wakeLocked()
	return true
}

// stop ends the loop, soon.
func (sh *Shard) stop() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.closed {
		sh.stopping = true
		sh.wakeLocked()
	}
}

func (sh *Shard) wakeLocked() {
	one := [8]byte{7: 1}               // any count above 0, whatever the byte order
	_, _ = unix.Write(sh.wake, one[:]) // fails only if it is at its limit: awake
}

// run is the shard's goroutine. The set is level-triggered: what is left in a socket
// after a batch comes back in the next round, so that no socket keeps the others
// waiting.
func (sh *Shard) run() error {
	for {
		events, err := sh.epoll.Wait()
		if err != nil {
			return fmt.Errorf("UDP shard %d: %w", sh.index, err)
		}
		sh.now = time.Now()
		woken := false
		for i := range events {
			if fd := int(events[i].Fd); fd == sh.wake {
				woken = true // last, because it may close what else is ready
			} else {
				sh.serve(fd)
			}
		}
		if woken && sh.runPosted() {
			return nil
		}
	}
}

// serve handles a batch of one descriptor.
func (sh *Shard) serve(fd int) {
	defer sh.recoverBatch()
	switch fd {
	case sh.public:
		sh.readPublic()
	case sh.wildcard:
		sh.readWildcard()
	case sh.ticks:
		drain(fd)
		sh.server.handler.Tick(sh, sh.now)
	default:
		if f := sh.bySocket[fd]; f != nil {
			sh.readConnected(f)
		}
	}
	sh.flush()
}

// recoverBatch is a seat belt: a bug costs a batch, loudly, and no more.
func (sh *Shard) recoverBatch() {
	r := recover()
	if r == nil {
		return
	}
	sh.toClients.n, sh.toOrigins.n, sh.across.n = 0, 0, 0
	sh.counters.panics.Add(1)
	if sh.now.Sub(sh.complaint) >= time.Second {
		sh.complaint = sh.now
		sh.server.log.Error("panic at a datagram: please report it", "panic", r, "stack", string(debug.Stack()))
	}
}

// runPosted runs what was posted and says whether the shard is to stop.
func (sh *Shard) runPosted() bool {
	drain(sh.wake)
	sh.mu.Lock()
	posted, stopping := sh.posted, sh.stopping
	sh.posted = nil
	sh.mu.Unlock()
	for _, f := range posted {
		sh.runOne(f)
	}
	return stopping
}

func (sh *Shard) runOne(f func()) {
	defer sh.recoverBatch()
	f()
	sh.flush()
}

// drain takes the count of an eventfd or a timerfd, so that it is not ready any more.
func drain(fd int) {
	var count [8]byte
	_, _ = unix.Read(fd, count[:])
}

// close ends what the shard has, once its loop has ended or before it began.
func (sh *Shard) close() {
	sh.mu.Lock()
	posted := sh.posted
	closed := sh.closed
	sh.closed, sh.posted = true, nil
	sh.mu.Unlock()
	if closed {
		return
	}
	for _, f := range posted {
		sh.runOne(f)
	}
	for _, f := range sh.bySource {
		f.closing.Store(true)
		f.end()
	}
	for _, f := range sh.bySocket {
		f.closing.Store(true)
		f.end()
	}
	if sh.epoll != nil {
		sh.epoll.Close()
	}
	for _, fd := range []int{sh.public, sh.wildcard, sh.ticks, sh.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
