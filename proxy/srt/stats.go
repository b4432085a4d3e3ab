package srt

import (
	"maps"
	"sync"
	"sync/atomic"

	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/udp"
)

// Stats are the server's counters.
type Stats struct {
	udp.Stats
	Sessions    int64 // now, those that wait for their origin included
	Handshaking int64 // of these, those that wait
	Opened      int64 // sessions that came to exchange data
	Refused     map[srt.Reason]int64
	Dropped     Drops
}

// Drops count datagrams that were not passed on.
type Drops struct {
	Malformed int64 // not SRT, or a handshake that has no place in a call
	Cookie    int64 // conclusions whose cookie was not given to their sender, or long ago
	Unknown   int64 // for a socket id that the sender has no session with
	Origin    int64 // of an origin, where they have no place
}

type counters struct {
	sessions, handshaking, opened      atomic.Int64
	malformed, cookie, unknown, origin atomic.Int64

	mu      sync.Mutex // guards refused
	refused map[srt.Reason]int64
}

func (c *counters) refuse(r srt.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[srt.Reason]int64)
	}
	// An origin's own reasons are few, but nothing says so.
	if _, known := c.refused[r]; !known && len(c.refused) >= maxReasons {
		r = 0
	}
	c.refused[r]++
}

const maxReasons = 64

// Stats returns the counters.
func (s *Server) Stats() Stats {
	c := &s.counters
	c.mu.Lock()
	refused := maps.Clone(c.refused)
	c.mu.Unlock()
	return Stats{
		Stats:       s.udp.Stats(),
		Sessions:    c.sessions.Load(),
		Handshaking: c.handshaking.Load(),
		Opened:      c.opened.Load(),
		Refused:     refused,
		Dropped: Drops{
			Malformed: c.malformed.Load(),
			Cookie:    c.cookie.Load(),
			Unknown:   c.unknown.Load(),
			Origin:    c.origin.Load(),
		},
	}
}
