// Package relay moves the bytes of a routed session: two sockets and nothing else.
//
//	            ┌ loop: epoll ──▶ ready sockets ┐
//	client ══splice══▶ pipe ══splice══▶ origin  │ one thread, many pairs
//	client ◀══splice══ pipe ◀══splice══ origin  │
//	            └───────────────────────────────┘
//
// The bytes stay in the kernel: nothing is looked at, changed or inserted. A pair is
// two descriptors and a record, no goroutine; pipes are shared, and their number is
// bounded. It can be stopped at any time; what a direction had taken and not yet
// delivered is in its pipe (the residue) and nowhere else.
package relay

import (
	"cmp"
	"time"
)

// linger is how long the other direction may go on after one has ended: enough
// for the last bytes and the peer's own close. grace is the same when a peer has
// hung up altogether and all that it had sent was passed on: long enough for the
// last bytes to arrive, short enough that the publisher of an origin that died
// is closed within a second.
const (
	linger = 5 * time.Second
	grace  = 500 * time.Millisecond
)

// Mode is how bytes move.
type Mode string

// Auto is Splice, the cheaper one at every frame size that was measured
// (docs/RELAY.md). Copy reads and writes, for kernels and sandboxes without splice(2).
const (
	Auto   Mode = "auto"
	Splice Mode = "splice"
	Copy   Mode = "copy"
)

// Config of a Relay. Zero fields mean the defaults.
type Config struct {
	// Loops is how many threads relay; 0 means 1. Each serves a few thousand
	// sessions at media rates; one for each CPU of the proxy's own is right.
	Loops int
	Mode  Mode
	// Pipes is how many pipes there may be, of two descriptors each; 0 means 1,024. More
	// directions that have to wait for room at once than that hold their bytes, at most
	// 64 KiB each, in our memory.
	Pipes int
}

const defaultPipes = 1024

// Relay starts pairs, which share its loops.
type Relay struct {
	loops         []*loop
	linger, grace time.Duration
}

// New returns a Relay. It uses neither descriptors nor threads before its first
// pair, and no threads while it has none.
func New(cfg Config) *Relay {
	r := &Relay{linger: linger, grace: grace}
	loops := max(1, cfg.Loops)
	pipes := max(1, cmp.Or(cfg.Pipes, defaultPipes)/loops)
	if cfg.Mode == Copy {
		pipes = 0
	}
	for range loops {
		r.loops = append(r.loops, &loop{pipes: pipePool{most: pipes}})
	}
	return r
}

// Close gives back the descriptors that are kept for coming pairs, once the last
// pair has ended.
func (r *Relay) Close() {
	for _, l := range r.loops {
		l.close()
	}
}

// quietest is the loop with the fewest pairs.
func (r *Relay) quietest() *loop {
	best := r.loops[0]
	for _, l := range r.loops[1:] {
		if l.pairs.Load() < best.pairs.Load() {
			best = l
		}
	}
	return best
}

// Result is what a pair moved, in bytes.
type Result struct {
	FromClient, FromOrigin int64
}
