package balancer

import "hash/fnv"

// What counts as much as one stream when origins are compared: a stream stands
// for its publisher's work, which is there before any measurement shows it.
const (
	playersPerStream = 100
	bitratePerStream = 50e6 // bits per second
	// A core in full use counts as 20 streams; squared, so that the noise of
	// an idle origin's few percent does not outweigh a stream.
	streamsPerCore = 20
)

// band is how much above the least load an origin may be and still be drawn.
const band = 1

func (e *entry) score() float64 {
	return Score(len(e.pins), e.players, e.Load)
}

// leastLoaded draws two origins out of those that are near the least load and
// returns the less loaded one: two choices spread picks that are made at once on
// figures that are a moment old (Mitzenmacher, "The Power of Two Choices in
// Randomized Load Balancing", 2001), the band bounds how uneven it can become.
// intn(n) draws from 0 to n-1. It returns the zero value if there are none, and
// overwrites origins.
func leastLoaded[T interface{ score() float64 }](origins []T, intn func(int) int) (none T) {
	if len(origins) == 0 {
		return none
	}
	least := origins[0].score()
	for _, e := range origins[1:] {
		least = min(least, e.score())
	}
	near := origins[:0]
	for _, e := range origins {
		if e.score() <= least+band {
			near = append(near, e)
		}
	}
	i := intn(len(near))
	if len(near) == 1 {
		return near[i]
	}
	j := (i + 1 + intn(len(near)-1)) % len(near)
	if near[j].score() < near[i].score() {
		return near[j]
	}
	return near[i]
}

// rendezvous returns the origin with the highest hash of itself and the stream
// (Thaler and Ravishankar, 1998): every proxy comes to the same answer, and when an
// origin goes only its streams move. It returns nil if there are none.
func rendezvous(origins []*entry, s Stream) *entry {
	var best *entry
	var most uint64
	for _, e := range origins {
		h := fnv.New64a()
		for _, part := range [...]string{e.ID, "\x00", s.Vhost, "/", s.App, "/", s.Name} {
			h.Write([]byte(part)) // never fails
		}
		n := mix(h.Sum64())
		if best == nil || n > most || (n == most && e.ID < best.ID) {
			best, most = e, n
		}
	}
	return best
}

// mix spreads FNV's weak high bits (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
