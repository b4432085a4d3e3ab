package udp

import "sync/atomic"

// Stats are counters of datagrams, over all shards, since Listen.
type Stats struct {
	FromClients, ToClients int64
	FromOrigins, ToOrigins int64
	Flows                  int64 // open now

	// Dropped: longer than MaxDatagram; sent to a flow by who is not its origin, or
	// to no flow; not taken by a socket's buffer or by the route to the receiver.
	TooLong, Strangers, Unsent int64
	// Panics counts bugs that a shard has survived.
	Panics int64
}

// counters are a shard's; only its goroutine writes, all may read.
type counters struct {
	fromClients, toClients     atomic.Int64
	fromOrigins, toOrigins     atomic.Int64
	flows                      atomic.Int64
	tooLong, strangers, unsent atomic.Int64
	panics                     atomic.Int64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	var sum Stats
	for _, sh := range s.shards {
		c := &sh.counters
		sum.FromClients += c.fromClients.Load()
		sum.ToClients += c.toClients.Load()
		sum.FromOrigins += c.fromOrigins.Load()
		sum.ToOrigins += c.toOrigins.Load()
		sum.Flows += c.flows.Load()
		sum.TooLong += c.tooLong.Load()
		sum.Strangers += c.strangers.Load()
		sum.Unsent += c.unsent.Load()
		sum.Panics += c.panics.Load()
	}
	return sum
}
