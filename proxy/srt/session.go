package srt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/udp"
)

// session is one call, from a conclusion with a good cookie to its end. Its shard's
// goroutine alone touches it.
//
//	waiting for an origin ─▶ handshake with it (up) ─▶ open ─▶ ended
//	        ▲                        │
//	        └── it does not answer ──┘
type session struct {
	table  *table
	peer   udp.Peer
	role   balancer.Role
	stream balancer.Stream
	id     uint64 // of its lines in the log
	began  time.Time

	request srt.Handshake // the caller's conclusion,
	packet  srt.Packet    // as it came, until the session is open,
	sent    uint32        // and its timestamp

	up   *upstream // nil while there is no origin to speak to
	open bool
	held *route.Held // the lease, a moment after open
	// ended is why the session is over.
	ended error

	publicID uint32 // the caller sends to it
	originID uint32 // the origin knows it as this
	// answer is the origin's, kept until the caller shows that it has it.
	answer   srt.Packet
	answered time.Time

	lastClient, lastOrigin time.Time // something came from there
	bytesIn, bytesOut      int64     // from the caller, from the origin
}

// Why sessions end.
var (
	errClientClosed = errors.New("the client closed")
	errOriginClosed = errors.New("the origin closed")
	errClientSilent = errors.New("nothing came from the client")
	errOriginSilent = errors.New("nothing came from the origin")
	errOriginDead   = errors.New("the origin died")
	errReplaced     = errors.New("the client called again")
)

// placeTimeout is how long a call may wait for an origin, over all tries. Callers
// wait 3 s (libsrt's default) or what they were told to.
const placeTimeout = 10 * time.Second

func newSession(t *table, p srt.Packet, h srt.Handshake, from udp.Peer, role balancer.Role, stream balancer.Stream) *session {
	sv, now := t.server, t.sh.Now()
	s := &session{
		table: t, peer: from, role: role, stream: stream, began: now,
		request: h, packet: bytes.Clone(p), sent: p.Timestamp(), lastClient: now, lastOrigin: now,
		id: sv.ids.Add(1),
	}
	t.byCaller[s.callerKey()] = s
	sv.counters.sessions.Add(1)
	sv.counters.handshaking.Add(1)
	return s
}

func (s *session) callerKey() key { return key{s.peer.Addr, s.request.SocketID} }
func (s *session) publicKey() key { return key{s.peer.Addr, s.publicID} }

// place finds an origin that takes the session, on a goroutine of its own: the
// balancer may be far away. What it tells comes back to the shard.
func (s *session) place() {
	sv, sh := s.table.server, s.table.sh
	sv.placing.Go(func() {
		ctx, cancel := context.WithTimeout(sv.running, placeTimeout)
		defer cancel()
		held, err := sv.router.Hold(ctx, s.routed(), s.try)
		if err == nil && s.role == balancer.Publish {
			held.Publishes(s.peer.Addr.Addr())
		}
		if err == nil {
			s.log(slog.LevelInfo, "session open", "origin", held.Lease.Origin.ID)
		}
		told := sh.Post(func() {
			sv.counters.handshaking.Add(-1)
			s.placed(held, err)
		})
		if !told {
			sv.counters.handshaking.Add(-1)
			if held != nil {
				held.Close()
			}
		}
	})
}

func (s *session) routed() route.Request {
	return route.Request{Stream: s.stream, Role: s.role, Proto: route.SRT, Client: s.peer.Addr, Moved: func() {
		s.table.sh.Post(func() {
			if s.ended == nil {
				s.shutdown(route.ErrMoved)
			}
		})
	}}
}

// try does the handshake with one origin. It runs on place's goroutine.
func (s *session) try(ctx context.Context, lease balancer.Lease) error {
	addr, err := netip.ParseAddrPort(lease.Origin.Endpoints.SRT)
	if err != nil {
		return route.Retry(fmt.Errorf("SRT endpoint: %w", err))
	}
	result := make(chan error, 1)
	if !s.table.sh.Post(func() { s.call(lease.Origin, addr, result) }) {
		return errShutdown
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// placed takes the outcome of place.
func (s *session) placed(held *route.Held, err error) {
	switch {
	case s.ended != nil && held != nil:
		s.release(held)
	case s.ended != nil:
	case held != nil:
		s.held = held
	case s.open: // the origin accepted when place had just given up
		s.shutdown(err)
	default:
		s.refuse(err)
	}
}

// refuse ends a session that has found no origin. If one has refused it, the caller
// has been told so by that one.
func (s *session) refuse(err error) {
	var refused *refusedError
	if !errors.As(err, &refused) {
		why := reasonOf(err)
		s.table.refuse(s.packet, s.request, s.peer, why)
	}
	s.end(err)
}

// reasonOf is what a caller is told of an error.
func reasonOf(err error) srt.Reason {
	switch {
	case errors.Is(err, route.ErrBusy), errors.Is(err, balancer.ErrTooManyStreams):
		return srt.ReasonOverload
	case errors.Is(err, access.ErrDenied):
		return srt.ReasonForbidden
	case errors.Is(err, route.ErrNoEndpoint):
		return srt.ReasonUnsupported
	case errors.Is(err, balancer.ErrOwnerUnreachable), errors.Is(err, errNoAnswer):
		return srt.ReasonGateway
	}
	return srt.ReasonDown
}

// accept opens the session with the origin's answer.
func (s *session) accept(p srt.Packet, h srt.Handshake) {
	t := s.table
	s.open = true
	s.originID = h.SocketID
	// Origins choose their ids without knowing of each other.
	for s.publicID = s.originID; s.publicID == 0 || t.byPublic[s.publicKey()] != nil; s.publicID++ {
	}
	t.byPublic[s.publicKey()] = s
	s.packet = nil
	s.publish(p, h)
	s.answer, s.answered = bytes.Clone(p), t.sh.Now()
	s.lastClient = s.answered
	t.server.counters.opened.Add(1)
	s.toClient(p)
}

// publish gives an answer of the origin the caller's view of it.
func (s *session) publish(p srt.Packet, h srt.Handshake) {
	h.SocketID = s.publicID
	h.PeerIP = srt.PeerIP(s.peer.Addr.Addr())
	h.Put(p)
}

// repeat takes a conclusion that has been taken before: the caller has not got the
// answer. Before there is one, it will get it in any case.
func (s *session) repeat() {
	now := s.table.sh.Now()
	s.lastClient = now
	if s.answer == nil {
		return
	}
	// The time of the answer is the base of all that the origin sends after it.
	again := srt.Packet(bytes.Clone(s.answer))
	again.SetTimestamp(s.answer.Timestamp() + microseconds(now.Sub(s.answered)))
	s.table.sh.ToClient(s.peer, again)
}

// microseconds wraps as timestamps do.
func microseconds(d time.Duration) uint32 { return uint32(d.Microseconds()) }

// fromClient takes a datagram for the session's socket id.
func (s *session) fromClient(p srt.Packet) {
	s.lastClient = s.table.sh.Now()
	s.bytesIn += int64(len(p))
	s.answer = nil
	p.SetDestination(s.originID)
	s.up.flow.ToOrigin(s.table.sh, p)
	if p.Is(srt.ControlShutdown) {
		s.end(errClientClosed)
	}
}

// toClient takes a datagram of the origin to the caller.
func (s *session) toClient(p srt.Packet) {
	s.lastOrigin = s.table.sh.Now()
	s.bytesOut += int64(len(p))
	s.table.sh.ToClient(s.peer, p)
	if p.Is(srt.ControlShutdown) {
		s.end(errOriginClosed)
	}
}

// expire ends a session of which a side is gone.
func (s *session) expire(now time.Time) {
	idle := s.table.server.cfg.Idle
	switch {
	case !s.open:
	case now.Sub(s.lastClient) > idle:
		s.shutdown(errClientSilent)
	case now.Sub(s.lastOrigin) > idle:
		s.shutdown(errOriginSilent)
	}
}

// shutdown ends a session and tells both sides.
func (s *session) shutdown(cause error) {
	if s.open {
		s.table.sh.ToClient(s.peer, srt.AppendShutdown(nil, s.request.SocketID, s.age()))
	}
	s.leave(cause)
}

// leave ends a session and tells the origin.
func (s *session) leave(cause error) {
	if s.open {
		s.up.flow.ToOrigin(s.table.sh, srt.AppendShutdown(nil, s.originID, s.age()))
	}
	s.end(cause)
}

// age is a timestamp.
func (s *session) age() uint32 { return microseconds(s.table.sh.Now().Sub(s.began)) }

// end forgets the session. Calls after the first do nothing.
func (s *session) end(cause error) {
	if s.ended != nil {
		return
	}
	s.ended = cause
	t := s.table
	if s.up != nil {
		s.up.close(cause)
	}
	delete(t.byCaller, s.callerKey())
	if s.open {
		delete(t.byPublic, s.publicKey())
	}
	t.server.clients.remove(s.peer.Addr.Addr())
	t.server.counters.sessions.Add(-1)
	if s.held != nil {
		s.release(s.held)
	}
	t.server.placing.Go(s.logEnd)
}

// release gives the lease back, which may take the balancer some time.
func (s *session) release(held *route.Held) {
	s.table.server.placing.Go(held.Close)
}

// logEnd writes the session's last line. It is over, so nobody changes it. Lines are
// not written by the shard: who reads the log may have stopped, and media must not.
func (s *session) logEnd() {
	what, level := "session refused", slog.LevelInfo
	var origin []any
	if s.open {
		what, origin = "session closed", []any{"origin", s.up.originID}
	}
	if errors.Is(s.ended, balancer.ErrNoOrigin) || errors.Is(s.ended, balancer.ErrOwnerUnreachable) {
		level = slog.LevelWarn
	}
	s.log(level, what, append(origin, "bytes_in", s.bytesIn, "bytes_out", s.bytesOut,
		"duration", time.Since(s.began).Round(time.Millisecond), "cause", s.ended)...)
}

// log writes a line of the session's. A logger of its own would be more than all else
// that a session keeps.
func (s *session) log(level slog.Level, what string, more ...any) {
	s.table.server.log.Log(context.Background(), level, what, append([]any{"proto", "srt", "session", s.id,
		"client", s.peer.Addr.String(), "role", s.role.String(), "stream", s.stream.String()}, more...)...)
}
