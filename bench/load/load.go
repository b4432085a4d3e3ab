// Package load makes publishers and players, many on few goroutines, and measures
// exactly what arrives.
//
//	Publisher ──frame: stream, number, clock──▶ server under test ──▶ Player
//	    │ frames sent in the window                                     │ frames of the window,
//	    └────────────────────────▶ Report ◀─────────────────────────────┘ their age, gaps
//
// Publishers and players live in one process, so that one monotonic clock stamps a
// frame and reads its age. A frame carries its number: what was published and did not
// arrive is known to the frame, whatever a server merges, caches or drops. Nothing is
// allocated for a frame, and a loop of one goroutine serves all sockets of its kind:
// what a load costs is not to disturb what it measures.
package load

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Load owns sessions. The zero value is not usable; see New.
type Load struct {
	run   uint64 // tells our frames from those of others
	start time.Time
	// from and to bound the window, in nanoseconds of the clock. They are set
	// before the window begins, so that whoever stamps or reads a frame agrees.
	from, to atomic.Int64

	publishing, playing *loop
	age                 Histogram // of frames of the window; belongs to playing

	// ctx ends the goroutines beside the loops, of which asides waits for the end.
	ctx    context.Context
	cancel context.CancelFunc
	asides sync.WaitGroup
	// certificate is made when the first session of WebRTC wants it.
	certificate func() (tls.Certificate, error)

	mu         sync.Mutex // guards the following
	over       bool       // no more asides
	named      uint32     // publishers so far
	publishers []*Publisher
	players    []*Player
	pollers    []*Poller
}

// New makes a load; Run serves it.
func New() (*Load, error) {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("run id: %w", err)
	}
	l := &Load{run: binary.BigEndian.Uint64(id[:]), start: time.Now(), certificate: sync.OnceValues(certificate)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.from.Store(math.MaxInt64)
	l.to.Store(math.MaxInt64)
	var err error
	if l.publishing, err = newLoop(l.now); err != nil {
		return nil, err
	}
	if l.playing, err = newLoop(l.now); err != nil {
		l.publishing.close()
		return nil, err
	}
	return l, nil
}

// Run serves the sessions until the context ends, then closes them all.
func (l *Load) Run(ctx context.Context) error {
	done := make(chan error, 2)
	for _, lo := range []*loop{l.publishing, l.playing} {
		go func() { done <- lo.run(ctx) }()
	}
	err := errors.Join(<-done, <-done)
	l.Release(l.allPublishers(), l.allPlayers()) // also those that the loops have no sockets of
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.cancel()
	l.asides.Wait()
	return err
}

// aside runs what has to wait beside the loops. After the end it does nothing.
func (l *Load) aside(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.asides.Go(f)
}

// now is the clock of frames, in nanoseconds.
func (l *Load) now() int64 { return int64(time.Since(l.start)) }

// Window says that the frames published from `after` from now on, for as long as
// `length`, are those to measure. It returns when the window begins and when it ends.
// Frames of an earlier window are forgotten.
func (l *Load) Window(after, length time.Duration) (begins, ends time.Time) {
	for {
		l.to.Store(math.MinInt64) // nobody is within while the counters are cleared
		l.clear()
		from := l.now() + int64(after)
		l.from.Store(from)
		l.to.Store(from + int64(length))
		if l.now() < from {
			begins = l.start.Add(time.Duration(from))
			return begins, begins.Add(length)
		}
		// We did not run for so long that frames were sent after the beginning that
		// publishers did not know of, and players would.
		after *= 2
	}
}

// EndWindow closes the window before its time, and says when that is.
func (l *Load) EndWindow() (ends time.Time) {
	// A moment from now: frames that were counted already have older stamps.
	to := l.now() + int64(50*time.Millisecond)
	l.to.Store(min(to, l.to.Load()))
	return l.start.Add(time.Duration(l.to.Load()))
}

func (l *Load) clear() {
	l.publishing.do(func() {
		for _, p := range l.allPublishers() {
			p.frames, p.bytes, p.late = 0, 0, Histogram{}
		}
	})
	l.playing.do(func() {
		l.age = Histogram{}
		for _, p := range l.allPlayers() {
			p.tally.clear()
		}
	})
	for _, p := range l.allPollers() {
		p.mu.Lock()
		p.tally = pollTally{}
		p.mu.Unlock()
	}
}

// within says whether a frame with that stamp is to be measured.
func (l *Load) within(stamp int64) bool { return stamp >= l.from.Load() && stamp < l.to.Load() }

func (l *Load) allPublishers() []*Publisher {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.publishers
}

func (l *Load) allPlayers() []*Player {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.players
}

// Drain waits until every player has seen a frame from after the window, or until
// the time is up: what did not arrive by then is lost.
func (l *Load) Drain(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		waiting := false
		l.playing.do(func() {
			for _, p := range l.allPlayers() {
				waiting = waiting || !p.closed && p.stream != nil && p.tally.newest < l.to.Load()
			}
		})
		if !waiting {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *Load) allPollers() []*Poller {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pollers
}

// Sleep waits, unless the context ends first: then it says so.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
