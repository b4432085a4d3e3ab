package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// gapless is the silence that a stream of another origin never shows.
const gapless = time.Second

// load is publishers and players on an instance, from new to stop.
type load struct {
	in      *instance
	pubs    []*publisher
	players []*player
	cancel  context.CancelFunc
	clients sync.WaitGroup
	clock   clock
	f       *fault // where streams that SRS splits are counted
	marked  time.Time
	session uint64 // the newest at the mark
}

func newLoad(t *testing.T, in *instance, s size, f *fault) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{in: in, cancel: cancel, f: f}
	t.Cleanup(l.stop)
	l.clients.Go(func() { l.clock.run(ctx) })
	for i := range s.publishers {
		p := &publisher{name: fmt.Sprintf("s%03d", i), addr: in.rtmp, rate: s.rate}
		l.pubs = append(l.pubs, p)
		l.clients.Go(func() { p.run(ctx) })
	}
	eventually(t, 20*time.Second, "all streams are published", func() (bool, string) {
		n := 0
		for _, p := range l.pubs {
			p.mu.Lock()
			if p.peer != nil {
				n++
			}
			p.mu.Unlock()
		}
		return n == len(l.pubs), fmt.Sprintf("%d of %d", n, len(l.pubs))
	})
	for i := range s.players {
		p := &player{name: l.pubs[i%len(l.pubs)].name, addr: in.rtmp}
		if i%4 == 3 {
			p.flv, p.addr = true, in.http
		}
		l.players = append(l.players, p)
		l.clients.Go(func() { p.run(ctx) })
	}
	l.awaitFrames(t, 20*time.Second)
	return l
}

// awaitFrames waits until every player gets frames.
func (l *load) awaitFrames(t *testing.T, within time.Duration) {
	t.Helper()
	begin := time.Now()
	mended := false
	eventually(t, within, "frames for every player", func() (bool, string) {
		if !mended && time.Since(begin) > within/2 {
			mended = true
			l.mend(l.splitSince(begin))
		}
		n, silent, name := 0, "", ""
		for _, p := range l.players {
			p.mu.Lock()
			if p.lastAt.After(begin) && p.last.session > 0 {
				n++
			} else {
				silent, name = p.kind()+" of "+p.name, p.name
			}
			p.mu.Unlock()
		}
		if n == len(l.players) {
			return true, ""
		}
		saw := fmt.Sprintf("%d of %d; silent: %s", n, len(l.players), silent)
		if time.Since(begin) > within { // the words of the failure
			saw += fmt.Sprintf("; published on %q; its sessions:\n%s", l.in.homes(name), l.in.told("live/"+name+`"`))
		}
		return false, saw
	})
}

func (l *load) stop() {
	l.cancel()
	l.clients.Wait()
}

// mark begins a round: what counts is what happens from now on.
func (l *load) mark() {
	l.marked, l.session = time.Now(), sessions.Load()
	l.clock.mark()
	for _, p := range l.pubs {
		p.mu.Lock()
		p.cut, p.starts, p.refused = nil, nil, nil
		p.mu.Unlock()
	}
	for _, p := range l.players {
		p.mark(l.marked)
	}
}

// bounds are what the streams of an origin that is hit may suffer.
type bounds struct {
	closed   time.Duration // publishers, after the fault
	accepted time.Duration // a new publish, after that
	frames   time.Duration // players, after the fault
}

// N2 of the contract.
var (
	afterDeath = bounds{closed: time.Second, accepted: time.Second, frames: 5 * time.Second}
	afterHang  = bounds{closed: 6 * time.Second, accepted: time.Second, frames: 10 * time.Second}
)

// everything is the names of all streams.
func (l *load) everything() map[string]bool {
	names := make(map[string]bool)
	for _, p := range l.pubs {
		names[p.name] = true
	}
	return names
}

// recover waits until the streams that were hit are there again, for three times as
// long as they may take, and notes how long that was.
func (l *load) recover(hit map[string]bool, b bounds, f *fault) (wrong []string) {
	var pubs []*publisher
	var players []*player
	for _, p := range l.pubs {
		if hit[p.name] {
			pubs = append(pubs, p)
		}
	}
	for _, p := range l.players {
		if hit[p.name] {
			players = append(players, p)
		}
	}
	limit := l.marked.Add(3 * max(b.frames, b.closed+b.accepted))
	for _, p := range pubs {
		cut, begun, refused := p.await(limit)
		switch {
		case cut.IsZero():
			wrong = append(wrong, fmt.Sprintf("the publisher of %s was never closed", p.name))
			continue
		case begun.IsZero():
			wrong = append(wrong, fmt.Sprintf("%s was not published again: %.300q", p.name, refused))
			continue
		}
		f.closed.add(cut.Sub(l.marked))
		f.accepted.add(begun.Sub(cut))
		if d := cut.Sub(l.marked); d > b.closed {
			wrong = append(wrong, fmt.Sprintf("the publisher of %s was closed after %s, %s are allowed", p.name, ms(d), b.closed))
		}
		if d := begun.Sub(cut); d > b.accepted {
			wrong = append(wrong, fmt.Sprintf("%s was published again %s after its end, %s are allowed; %d refusals: %.300q", p.name, ms(d), b.accepted, len(refused), refused))
		}
	}
	split := make(map[string]bool)
	defer func() { l.mend(split) }()
	for _, p := range players {
		at := p.await(l.session, l.marked.Add(max(b.frames, b.closed+b.accepted)))
		if at.IsZero() && (split[p.name] || l.in.isSplit(p.name)) {
			split[p.name] = true
			continue
		}
		if at.IsZero() {
			at = p.await(l.session, limit)
		}
		if at.IsZero() {
			wrong = append(wrong, fmt.Sprintf("a player (%s) of %s never saw frames again", p.kind(), p.name))
			continue
		}
		f.frames.add(at.Sub(l.marked))
		if d := at.Sub(l.marked); d > b.frames {
			wrong = append(wrong, fmt.Sprintf("a player (%s) of %s saw frames again after %s, %s are allowed", p.kind(), p.name, ms(d), b.frames))
		}
	}
	return wrong
}

// await returns when the session was cut and when the last one after that began.
func (p *publisher) await(limit time.Time) (cut, begun time.Time, refused []string) {
	for {
		p.mu.Lock()
		if len(p.cut) > 0 {
			cut = p.cut[0]
		}
		if len(p.starts) > 0 && p.peer != nil {
			begun = p.starts[len(p.starts)-1].at
		}
		refused = p.refused
		p.mu.Unlock()
		if !begun.IsZero() || time.Now().After(limit) {
			return cut, begun, refused
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// await returns when the first frame of a session that is newer came.
func (p *player) await(than uint64, limit time.Time) time.Time {
	for {
		p.mu.Lock()
		for _, s := range p.started {
			if s.session > than {
				p.mu.Unlock()
				return s.at
			}
		}
		p.mu.Unlock()
		if time.Now().After(limit) {
			return time.Time{}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// unharmed proves that streams other than those hit felt nothing since the mark: no
// disconnect, no frame lost, none late (N1).
func (l *load) unharmed(hit map[string]bool, f *fault) (wrong []string) {
	now := time.Now()
	late := l.clock.worst()
	f.late = max(f.late, late)
	for _, p := range l.pubs {
		p.mu.Lock()
		if !hit[p.name] && len(p.cut)+len(p.refused) > 0 {
			f.cuts++
			wrong = append(wrong, fmt.Sprintf("N1: the publisher of %s was cut %d times; refused %.200q", p.name, len(p.cut), p.refused))
		}
		p.mu.Unlock()
	}
	for _, p := range l.players {
		if hit[p.name] {
			continue
		}
		s := p.suffered(now)
		f.gap = max(f.gap, s.gap)
		f.cuts += len(s.cuts)
		f.missing += s.missing
		switch {
		case len(s.cuts) > 0:
			wrong = append(wrong, fmt.Sprintf("N1: a player (%s) of %s was cut: %.200q", p.kind(), p.name, s.cuts))
		case s.missing > 0:
			wrong = append(wrong, fmt.Sprintf("N1: a player (%s) of %s misses %d frames", p.kind(), p.name, s.missing))
		case s.gap > gapless:
			wrong = append(wrong, fmt.Sprintf("N1: a player (%s) of %s saw nothing for %s, while this process was run %s late", p.kind(), p.name, ms(s.gap), ms(late)))
		}
	}
	return wrong
}

// single proves that no stream has two live origins.
func (l *load) single() (wrong []string) {
	homes := make(map[string][]string)
	for id, names := range l.in.streams() {
		for _, n := range names {
			homes[n] = append(homes[n], id)
		}
	}
	for _, p := range l.pubs {
		if len(homes[p.name]) != 1 {
			p.mu.Lock()
			refused := p.refused
			p.mu.Unlock()
			wrong = append(wrong, fmt.Sprintf("%s is published on %q, one origin is expected; refused %.300q", p.name, homes[p.name], refused))
		}
	}
	return wrong
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// report fails the test for each thing that is wrong, the first few in words.
func report(t *testing.T, round int, wrong []string) {
	t.Helper()
	const shown = 6
	for _, w := range wrong[:min(shown, len(wrong))] {
		t.Errorf("round %d: %s", round, w)
	}
	if n := len(wrong) - shown; n > 0 {
		t.Errorf("round %d: and %d more", round, n)
	}
}
