package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newcomers are clients that come all the time, through both proxies: publishers of new
// names, some of which both proxies are asked for at once, whose streams are played through
// the other proxy; players of streams that are live; second publishers of those, which an
// origin that has the first refuses; and players of what nobody knows.
type newcomers struct {
	s    *shared
	live *crowd
	// away is Redis to these proxies, which are asked for names that nobody knows: else SRS
	// would wait for the publisher.
	away [2]atomic.Bool

	mu   sync.Mutex // guards the following
	all  []arrival
	pubs map[string]*publisher
}

// arrival is how one of them was received.
type arrival struct {
	kind    arrivalKind
	name    string
	through int // the proxy
	came    time.Time
	took    time.Duration
	err     error
}

type arrivalKind string

const (
	publishesNew  arrivalKind = "publishes a new name"
	publishesBoth arrivalKind = "publishes a name through both proxies"
	publishesLive arrivalKind = "publishes a live name"
	playsOther    arrivalKind = "plays a new name through the other proxy"
	playsRTMP     arrivalKind = "plays a live name over RTMP"
	playsFLV      arrivalKind = "plays a live name over HTTP-FLV"
	playsUnknown  arrivalKind = "plays an unknown name over HTTP-FLV"
)

func newNewcomers(s *shared, live *crowd) *newcomers {
	return &newcomers{s: s, live: live, pubs: make(map[string]*publisher)}
}

// come lets them until ctx ends, and waits for the last.
func (n *newcomers) come(ctx context.Context) {
	var names []string
	for name := range n.live.pubs {
		names = append(names, name)
	}
	slices.Sort(names)
	var all sync.WaitGroup
	for i := 0; ctx.Err() == nil; i++ {
		for p := range n.s.proxies {
			live := names[i%len(names)]
			all.Go(func() { n.publish(p, fmt.Sprintf("new%d-%d", p, i), publishesNew) })
			all.Go(func() { n.publish(p, fmt.Sprintf("both-%d", i), publishesBoth) })
			all.Go(func() { n.publish(p, live, publishesLive) })
			all.Go(func() {
				n.note(playsRTMP, p, live, func(in *instance) error { return playedRTMP(in, live, n.live.pubs[live].id) })
			})
			all.Go(func() {
				n.note(playsFLV, p, live, func(in *instance) error { return watchFLV(in, live, n.live.pubs[live].id) })
			})
			if n.away[p].Load() {
				name := fmt.Sprintf("unknown%d-%d", p, i)
				all.Go(func() {
					n.note(playsUnknown, p, name, func(in *instance) error { return watchFLV(in, name, 0) })
				})
			}
		}
		sleepFor(ctx, 500*time.Millisecond)
	}
	all.Wait()
}

func (n *newcomers) publish(through int, name string, kind arrivalKind) {
	var pub *publisher
	n.note(kind, through, name, func(in *instance) (err error) {
		pub, err = startPublisher(in.rtmp(), "rtmp://"+in.rtmp()+"/live", name)
		return err
	})
	if pub == nil {
		return
	}
	key := name
	if kind != publishesNew {
		key += fmt.Sprintf(" through %d, stamped %d", through, pub.id)
	}
	n.mu.Lock()
	n.pubs[key] = pub
	n.mu.Unlock()
	if kind == publishesNew {
		n.note(playsOther, 1-through, name, func(in *instance) error { return playedRTMP(in, name, pub.id) })
	}
}

func (n *newcomers) note(kind arrivalKind, through int, name string, do func(*instance) error) {
	a := arrival{kind: kind, name: name, through: through, came: time.Now()}
	a.err = do(n.s.proxies[through])
	a.took = time.Since(a.came)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, a)
}

// cameBefore tells whether anyone came with a name before then.
func (n *newcomers) cameBefore(name string, then time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.all, func(a arrival) bool { return a.name == name && a.came.Before(then) })
}

// playedRTMP plays a stream until a frame of it was seen.
func playedRTMP(in *instance, name string, id uint32) error {
	p, err := openPlay(in.rtmp(), "rtmp://"+in.rtmp()+"/live", name)
	if err != nil {
		return err
	}
	defer p.conn.Close()
	_ = p.conn.SetDeadline(time.Now().Add(2 * recovers))
	return untilStamp(p.media, id)
}

// checkLive proves that no publisher of a new name was cut.
func (n *newcomers) checkLive(t *testing.T) {
	t.Helper()
	lives := 0
	for name, pub := range n.pubs {
		if !strings.HasPrefix(name, "new") {
			continue // the second of two is refused by the origin
		}
		select {
		case <-pub.done:
			t.Errorf("the publisher of %s, which was accepted, was disconnected: %v", name, pub.err)
		default:
			lives++
		}
	}
	t.Logf("%d new streams live", lives)
}

func (n *newcomers) leave() {
	for _, pub := range n.pubs {
		pub.stop()
	}
}

// refusedForRedis tells whether a client heard that it is Redis that is away.
func refusedForRedis(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return strings.Contains(status.description, "state store")
	}
	return strings.Contains(err.Error(), "HTTP status 503")
}

// judge looks at all arrivals from the fault's beginning on.
func (f redisFault) judge(t *testing.T, n *newcomers, begun, ended time.Time) {
	t.Helper()
	sums := make(map[string]*struct {
		n     int
		worst time.Duration
	})
	back := [2]time.Duration{-1, -1}
	for _, a := range n.all {
		done := a.came.Add(a.took)
		var phase string
		switch {
		case done.Before(begun):
			phase = "before"
		case a.came.After(begun) && done.Before(ended):
			phase = "during"
		case a.came.After(ended.Add(recovers)):
			phase = "after"
		default:
			phase = "between"
		}
		outcome := "ok"
		switch {
		case a.err == nil:
		case a.kind == playsOther && n.s.isSplit(a.name):
			t.Logf("SRS has split %s: %v", a.name, a.err)
			continue
		default:
			outcome = "refused"
		}
		key := fmt.Sprintf("%-8s %-42s %s", phase, a.kind, outcome)
		if sums[key] == nil {
			sums[key] = new(struct {
				n     int
				worst time.Duration
			})
		}
		sums[key].n++
		sums[key].worst = max(sums[key].worst, a.took)

		if a.kind == publishesNew && a.err == nil && done.After(ended) {
			if took := done.Sub(ended); back[a.through] < 0 || took < back[a.through] {
				back[a.through] = took
			}
		}
		if why := f.wrong(a, phase); why != "" {
			t.Errorf("%s: %s through proxy %d, %s after the fault's beginning and %s before its end: %s, after %s: %v",
				why, a.kind, a.through, a.came.Sub(begun).Round(time.Millisecond), ended.Sub(a.came).Round(time.Millisecond), outcome, a.took.Round(time.Millisecond), a.err)
		}
	}
	var keys []string
	for k := range sums {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		t.Logf("%s %4d, at most %s", k, sums[k].n, sums[k].worst.Round(time.Millisecond))
	}
	for i, took := range back {
		t.Logf("proxy %d accepts a new stream %s after the fault's end", i, took.Round(time.Millisecond))
		if took < 0 || took > recovers {
			t.Errorf("proxy %d accepts a new stream %s after the fault's end, want %s", i, took, recovers)
		}
	}
}

// wrong says why an arrival was not received as it should be.
func (f redisFault) wrong(a arrival, phase string) string {
	away := f.away[a.through] && phase == "during"
	// What one proxy has placed the other one can't know, unless it reaches Redis or comes
	// to the same answer.
	meet := f.local() || f.away == [2]bool{} || phase == "before" || phase == "after"
	switch {
	case a.kind == playsUnknown && (!away || f.local()):
		// It gets to an origin: the built-in one has no such stream, SRS lets players wait for it.
	case a.kind == playsOther && f.local() && phase == "between":
		// Placed by Redis in the last moment, where the other proxy alone would not: the
		// player waits at another origin until Redis is back.
	case a.err != nil && away && a.took > refuses, a.took > recovers:
		return "waited for too long"
	case a.kind == playsRTMP || a.kind == playsFLV:
		if a.err != nil {
			return "a live stream was not to be had"
		}
	case away && !f.local() && a.kind != playsOther:
		if a.kind == publishesLive {
			break // the origin refuses
		}
		if a.err == nil {
			return "accepted without Redis"
		}
		if !refusedForRedis(a.err) {
			return "not told why"
		}
	case a.kind == publishesNew && (phase == "during" || phase == "after"), a.kind == playsOther && meet:
		if a.err != nil {
			return "a new stream was not to be had"
		}
	}
	return ""
}
