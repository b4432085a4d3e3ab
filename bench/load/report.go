package load

import (
	"fmt"
	"slices"
	"time"
)

// Report is what a window showed.
type Report struct {
	Publishers, Players int
	// Running are those that have begun and not ended.
	RunningPublishers, RunningPlayers int
	// Errors counts sessions that failed, by what they said.
	Errors map[string]int

	// Published counts frames, and bytes of them, that publishers sent in the window;
	// Expected what all players should have got of these, Delivered what they got.
	Published, Expected, Delivered Volume
	// Disordered frames came twice or after later ones, damaged ones have not the size
	// that they say; foreign ones are of nobody here.
	Disordered, Damaged, Foreign uint64
	// All is the bytes of media that players got since they began.
	All uint64

	// Age is how old a frame was when a player had all of it. Late is how much behind
	// its time a publisher was: what the load itself adds.
	Age, Late Histogram
	// First is the time from a player's connect to its first frame, Prelude to the
	// server's acceptance.
	First, Prelude Histogram
}

// Volume is an amount of media.
type Volume struct{ Frames, Bytes uint64 }

// Lost is how many frames did not arrive.
func (r *Report) Lost() uint64 {
	if r.Delivered.Frames >= r.Expected.Frames {
		return 0
	}
	return r.Expected.Frames - r.Delivered.Frames
}

// Loss is the share of the expected frames that did not arrive, 0 to 1.
func (r *Report) Loss() float64 {
	if r.Expected.Frames == 0 {
		return 0
	}
	return float64(r.Lost()) / float64(r.Expected.Frames)
}

// Failed is the number of sessions that failed.
func (r *Report) Failed() int {
	n := 0
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// Report sums up the window. What is still under way counts as lost: see Drain.
func (l *Load) Report() *Report {
	r := &Report{Errors: map[string]int{}}
	type sent struct{ frames, bytes uint64 }
	of := map[*Publisher]sent{}
	l.publishing.do(func() {
		for _, p := range l.allPublishers() {
			r.Publishers++
			if p.begun.Load() {
				r.RunningPublishers++
			}
			r.fail("publish", p.err)
			r.Published.Frames += p.frames
			r.Published.Bytes += p.bytes
			of[p] = sent{p.frames, p.bytes}
			r.Late.Merge(&p.late)
		}
	})
	l.playing.do(func() {
		r.Age = l.age
		for _, p := range l.allPlayers() {
			r.Players++
			if p.begun.Load() && !p.closed {
				r.RunningPlayers++
			}
			r.fail("play", p.err)
			r.Expected.Frames += of[p.stream].frames
			r.Expected.Bytes += of[p.stream].bytes
			r.Delivered.Frames += p.tally.frames
			r.Delivered.Bytes += p.tally.bytes
			r.Disordered += p.tally.disordered
			r.Damaged += p.tally.damaged
			r.Foreign += p.foreign
			r.All += p.all
			if p.first > 0 {
				r.First.Record(p.first)
			}
			if p.prelude > 0 {
				r.Prelude.Record(p.prelude)
			}
		}
	})
	for _, p := range l.allPollers() {
		r.addPoller(p)
	}
	return r
}

func (r *Report) addPoller(p *Poller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Players++
	if p.begun && p.err == nil {
		r.RunningPlayers++
	}
	r.fail("poll", p.err)
	r.Expected.Frames += p.tally.segments + p.tally.missed
	r.Expected.Bytes += p.tally.bytes
	r.Delivered.Frames += p.tally.segments
	r.Delivered.Bytes += p.tally.bytes
	r.Age.Merge(&p.tally.fetch)
	if p.first > 0 {
		r.First.Record(p.first)
	}
}

func (r *Report) fail(what string, err error) {
	if err != nil {
		r.Errors[what+": "+err.Error()]++
	}
}

// Preludes is how long some players took until the server accepted them.
func (l *Load) Preludes(players []*Player) (h Histogram) {
	l.playing.do(func() {
		for _, p := range players {
			if p.prelude > 0 {
				h.Record(p.prelude)
			}
		}
	})
	return h
}

// ReleasePollers ends pollers and forgets them.
func (l *Load) ReleasePollers(pollers []*Poller) {
	for _, p := range pollers {
		p.Stop()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pollers = without(l.pollers, pollers)
}

// Release ends sessions and forgets them.
func (l *Load) Release(publishers []*Publisher, players []*Player) {
	l.playing.do(func() {
		for _, p := range players {
			p.close(errEnded)
		}
	})
	l.publishing.do(func() {
		for _, p := range publishers {
			p.carry.close(errEnded)
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	// New slices: a loop may be walking the old ones.
	l.players = without(l.players, players)
	l.publishers = without(l.publishers, publishers)
}

func without[T comparable](all, gone []T) []T {
	drop := make(map[T]bool, len(gone))
	for _, x := range gone {
		drop[x] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return drop[x] })
}

// String is the report in one line.
func (r *Report) String() string {
	return fmt.Sprintf("%d of %d publishers, %d of %d players; %d of %d frames, %d lost, %d disordered, %d damaged; age p50 %v p99 %v; first frame p50 %v p99 %v; late p99 %v; errors %v",
		r.RunningPublishers, r.Publishers, r.RunningPlayers, r.Players, r.Delivered.Frames, r.Expected.Frames, r.Lost(), r.Disordered, r.Damaged,
		r.Age.Quantile(.5).Round(time.Microsecond), r.Age.Quantile(.99).Round(time.Microsecond), r.First.Quantile(.5).Round(time.Microsecond),
		r.First.Quantile(.99).Round(time.Microsecond), r.Late.Quantile(.99).Round(time.Microsecond), r.Errors)
}
