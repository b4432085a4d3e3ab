package webrtc

import (
	"sync/atomic"
	"time"

	"srs-proxy/protocol/stun"
	"srs-proxy/proxy/udp"
)

// shard is what one event loop has for itself.
type shard struct {
	byAddress map[udp.Peer]*session // only its goroutine's
	prover    *prover               // as well
	addresses atomic.Int64          // len(byAddress)
	drops     dropCounters
}

// FromClient implements udp.Handler.
func (s *Server) FromClient(sh *udp.Shard, payload []byte, from udp.Peer) {
	st := &s.shards[sh.Index()]
	switch {
	case stun.Is(payload):
		s.onSTUN(st, sh, payload, from)
	case isMedia(payload):
		s.onMedia(st, sh, payload, from)
	default:
		st.drops.malformed.Add(1)
	}
}

// Tick implements udp.Handler. Sessions are swept by a goroutine that is in no
// datagram's way.
func (s *Server) Tick(*udp.Shard, time.Time) {}

// isMedia tells DTLS and RTP or RTCP from what no session has a use for (RFC 7983,
// section 7).
func isMedia(b []byte) bool {
	return len(b) > 0 && (b[0] >= 20 && b[0] <= 63 || b[0] >= 128 && b[0] <= 191)
}

// onMedia passes on what comes from an address that was proved.
func (s *Server) onMedia(st *shard, sh *udp.Shard, payload []byte, from udp.Peer) {
	se := st.byAddress[from]
	if se == nil {
		st.drops.unbound.Add(1)
		return
	}
	s.toOrigin(st, se, sh, payload)
}

// onSTUN proves whose an address is. The username says which session, whatever the
// address was before; without its password nothing happens at all. The origin checks
// no integrity itself, so each request is verified, not only the first.
func (s *Server) onSTUN(st *shard, sh *udp.Shard, payload []byte, from udp.Peer) {
	m, err := stun.Parse(payload)
	if err != nil {
		st.drops.malformed.Add(1)
		return
	}
	if !m.IsBindingRequest() { // a keepalive (RFC 8445, section 11), without username
		s.onMedia(st, sh, payload, from)
		return
	}
	se, err := s.prove(st.prover, &m, from.Addr, sh.Now())
	if err != nil {
		st.drops.count(err)
		return
	}
	if st.byAddress[from] != se {
		s.bind(st, sh, se, from)
	}
	se.moveTo(from)
	if se.flow.Load() == nil {
		se.openFlow(sh, from)
	}
	s.toOrigin(st, se, sh, payload)
}

func (s *Server) toOrigin(st *shard, se *session, sh *udp.Shard, payload []byte) {
	flow := se.flow.Load()
	if flow == nil {
		st.drops.noFlow.Add(1)
		return
	}
	se.heard.Store(s.since(sh.Now()))
	se.datagramsIn.Add(1)
	se.bytesIn.Add(int64(len(payload)))
	flow.ToOrigin(sh, payload)
}

// FromOrigin implements udp.Receiver: what the origin sends goes to where the client
// was last proved to be.
func (se *session) FromOrigin(sh *udp.Shard, payload []byte) {
	to := se.client.Load()
	if to == nil {
		se.server.shards[sh.Index()].drops.homeless.Add(1)
		return
	}
	se.answered.Store(se.server.since(sh.Now()))
	se.datagramsOut.Add(1)
	se.bytesOut.Add(int64(len(payload)))
	sh.ToClient(*to, payload)
}

// bind makes a proved address the session's. If it was another's, that client is gone
// (its port was reused), and what its origin still sends must not reach this one. Both
// met this shard, because the kernel goes by the address.
func (s *Server) bind(st *shard, sh *udp.Shard, se *session, from udp.Peer) {
	oldest, ok := se.addPath(path{sh, from})
	if !ok {
		return // it has ended
	}
	if old := st.byAddress[from]; old != nil {
		old.losePath(path{sh, from})
	} else {
		st.addresses.Add(1)
	}
	st.byAddress[from] = se
	if oldest.shard != nil {
		s.forget(se, oldest)
	}
}

// forget takes an address off the table of its shard, unless it is another's by then.
func (s *Server) forget(se *session, p path) {
	p.shard.Post(func() { // a shard that has stopped serves no address any more
		st := &s.shards[p.shard.Index()]
		if st.byAddress[p.peer] == se {
			delete(st.byAddress, p.peer)
			st.addresses.Add(-1)
		}
	})
}

// since is a time that no adjustment of the clock changes, in nanoseconds.
func (s *Server) since(t time.Time) int64 { return int64(t.Sub(s.started)) }
