package webrtc

import (
	"errors"
	"sync/atomic"

	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/udp"
)

// Stats are the server's counters.
type Stats struct {
	Sessions  int64 // now
	Addresses int64 // of clients, that are bound to a session now
	Added     int64 // = Sessions + Ended
	Ended     int64
	Moves     int64 // a session's client was proved at another address
	Panics    int64 // TCP sessions that were ended by a bug; those of UDP are UDP.Panics
	UDP       udp.Stats
	TCP       listener.Stats
	Dropped
}

// Dropped counts what was not passed on, by reason: datagrams, and TCP clients by
// their first frame.
type Dropped struct {
	Malformed    int64 // neither STUN, DTLS, RTP nor RTCP, or beyond the STUN parser's bounds
	Unknown      int64 // no session has the username, or not yet
	BadIntegrity int64 // MESSAGE-INTEGRITY is missing or wrong
	Unbound      int64 // no STUN, from an address that proved nothing
	NoFlow       int64 // no way to the origin could be made
	Homeless     int64 // from the origin, with nowhere to go: the client's address was taken over by another
}

type dropCounters struct {
	malformed, unknown, badIntegrity, unbound, noFlow, homeless atomic.Int64
}

// count counts what prove refused.
func (d *dropCounters) count(err error) {
	if errors.Is(err, errIntegrity) {
		d.badIntegrity.Add(1)
		return
	}
	d.unknown.Add(1)
}

func (d *dropCounters) addTo(sum *Dropped) {
	sum.Malformed += d.malformed.Load()
	sum.Unknown += d.unknown.Load()
	sum.BadIntegrity += d.badIntegrity.Load()
	sum.Unbound += d.unbound.Load()
	sum.NoFlow += d.noFlow.Load()
	sum.Homeless += d.homeless.Load()
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	st := Stats{
		Added: s.added.Load(), Ended: s.ended.Load(), Moves: s.moves.Load(), Panics: s.panics.Load(), UDP: s.udp.Stats(),
	}
	s.mu.RLock()
	st.Sessions = int64(len(s.sessions))
	s.mu.RUnlock()
	if s.tcp != nil {
		st.TCP = s.tcp.Stats()
	}
	for i := range s.shards {
		st.Addresses += s.shards[i].addresses.Load()
		s.shards[i].drops.addTo(&st.Dropped)
	}
	return st
}
