package srt

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/udp"
)

// upstream is a session's way to one origin: the handshake with it, and if the origin
// accepts, all that it sends. It speaks in the caller's name, with its socket id,
// sequence number and extensions.
type upstream struct {
	session *session
	flow    *udp.Flow
	// The origin's ID and process.
	originID, service string

	concluding bool       // the origin has given its cookie
	request    srt.Packet // what was sent last,
	sent       time.Time  // and when
	deadline   time.Time
	result     chan<- error // where try waits; nil after it was told
}

// errNoAnswer says that an origin did not answer a handshake.
var errNoAnswer = errors.New("no answer to the SRT handshake")

// refusedError is an origin's refusal, of which the caller has been told.
type refusedError struct{ reason srt.Reason }

func (e *refusedError) Error() string { return fmt.Sprintf("the origin refused: %s", e.reason) }

// errHungUp is the refusal of an origin that has no reason to give.
var errHungUp = &refusedError{srt.ReasonPeer}

// repeatAfter is when a request without an answer is sent again, as libsrt does.
const repeatAfter = 250 * time.Millisecond

// call begins the handshake with an origin. The result tells its outcome, once.
func (s *session) call(origin balancer.Origin, addr netip.AddrPort, result chan<- error) {
	if s.ended != nil {
		result <- s.ended
		return
	}
	t := s.table
	u := &upstream{session: s, originID: origin.ID, service: origin.Service, result: result}
	flow, err := t.sh.Open(addr, s.peer.Addr, u)
	if err != nil {
		result <- route.Retry(err)
		return
	}
	now := t.sh.Now()
	u.flow, u.deadline = flow, now.Add(t.server.cfg.DialTimeout)
	s.up = u
	t.handshaking[s] = struct{}{}
	t.sh.TickEvery(tick)
	induction := s.request.Induction()
	u.send(induction.Append(nil, 0, 0), now)
}

// timestamp is that of the caller's conclusion, had it been sent now. It is what the
// origin counts the times of the caller's data from, so the time that has gone by
// here must not seem to be that of the network: it would be added to the latency.
func (s *session) timestamp(now time.Time) uint32 {
	return s.sent + microseconds(now.Sub(s.began))
}

// send sends a copy: the shard may still have the one of before.
func (u *upstream) send(p srt.Packet, now time.Time) {
	p = bytes.Clone(p)
	p.SetTimestamp(u.session.timestamp(now))
	u.request, u.sent = p, now
	u.flow.ToOrigin(u.session.table.sh, p)
}

// tick repeats what was not answered.
func (u *upstream) tick(now time.Time) {
	switch {
	case now.After(u.deadline):
		u.fail(route.Retry(errNoAnswer))
	case now.Sub(u.sent) >= repeatAfter:
		u.send(u.request, now)
	}
}

// FromOrigin takes a datagram of the origin; see udp.Receiver.
func (u *upstream) FromOrigin(_ *udp.Shard, payload []byte) {
	s := u.session
	p, err := srt.Parse(payload)
	if err != nil || s.up != u || s.ended != nil || p.Destination() != s.request.SocketID {
		s.table.server.counters.origin.Add(1)
		return
	}
	if !s.open {
		u.answer(p)
		return
	}
	if h, err := srt.ParseHandshake(p); err == nil {
		s.publish(p, h) // the answer once more
	}
	s.toClient(p)
}

// answer takes a step of the handshake.
func (u *upstream) answer(p srt.Packet) {
	s := u.session
	h, err := srt.ParseHandshake(p)
	reason, refused := h.Stage.Refused()
	switch {
	case err != nil && u.concluding && p.Is(srt.ControlShutdown):
		s.table.sh.ToClient(s.peer, p)
		u.fail(errHungUp)
	case err != nil:
		s.table.server.counters.origin.Add(1)
	case refused:
		s.table.server.counters.refuse(reason)
		s.table.sh.ToClient(s.peer, p)
		u.fail(&refusedError{reason})
	case h.Stage == srt.StageInduction && !u.concluding:
		u.concluding = true
		conclusion := s.request
		conclusion.Cookie = h.Cookie
		p := srt.Packet(bytes.Clone(s.packet))
		conclusion.Put(p)
		u.send(p, s.table.sh.Now())
	case h.Stage == srt.StageConclusion && u.concluding:
		delete(s.table.handshaking, s)
		u.request = nil
		s.accept(p, h)
		u.tell(nil)
	default: // a second answer to the induction, most likely
		s.table.server.counters.origin.Add(1)
	}
}

// fail gives up on the origin; another one may be tried.
func (u *upstream) fail(err error) {
	u.session.up = nil
	u.close(err)
}

// close ends the flow. If there is a try that waits for it, it hears why.
func (u *upstream) close(cause error) {
	delete(u.session.table.handshaking, u.session)
	u.flow.Close()
	u.tell(cause)
}

func (u *upstream) tell(err error) {
	if u.result != nil {
		u.result <- err
		u.result = nil
	}
}
