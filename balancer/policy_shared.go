package balancer

import "time"

// What other implementations of Balancer share with Memory, so that all place alike.

// Score is how loaded an origin is: in streams, what else it does weighed against
// them. The least loaded gets the next stream.
func Score(streams, players int, l Load) float64 {
	return float64(streams) + float64(players)/playersPerStream + l.Bitrate/bitratePerStream + streamsPerCore*l.CPU*l.CPU
}

// scored is an origin of which only the score counts.
type scored struct {
	index int
	value float64
}

func (s scored) score() float64 { return s.value }

// LeastLoaded is what Memory picks of origins with these scores: the index of one, or -1
// if there are none. intn(n) draws from 0 to n-1.
func LeastLoaded(scores []float64, intn func(int) int) int {
	if len(scores) == 0 {
		return -1
	}
	origins := make([]scored, len(scores))
	for i, s := range scores {
		origins[i] = scored{i, s}
	}
	return leastLoaded(origins, intn).index
}

// Rendezvous is the origin with the highest hash of itself and the stream, which is
// the same on every proxy that knows the same origins. It reports false if there are none.
func Rendezvous(origins []Origin, s Stream) (Origin, bool) {
	entries := make([]*entry, len(origins))
	for i, o := range origins {
		entries[i] = &entry{Origin: o}
	}
	e := rendezvous(entries, s)
	if e == nil {
		return Origin{}, false
	}
	return e.Origin, true
}

// Ejection is what dial failures made of an origin. The zero value is one without any.
type Ejection struct{ e ejection }

// Active tells whether the origin is to be left alone.
func (e *Ejection) Active(now time.Time) bool { return e.e.active(now) }

// Until is when the ejection ends, or ended.
func (e *Ejection) Until() time.Time { return e.e.until }

// Failed counts a failure; allowed tells whether enough other origins would be left.
func (e *Ejection) Failed(now time.Time, allowed bool) { e.e.failed(now, allowed) }
