package balancer

import "time"

// What other implementations of Balancer share with Memory, so that all place alike.

// Score is how loaded an origin is: in streams, what else it does weighed against
// them. The least loaded gets the next stream.
func Score(streams, players int, l Load) float64 {
	return float64(streams) + float64(players)/playersPerStream + l.Bitrate/bitratePerStream + streamsPerCore*l.CPU*l.CPU
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
