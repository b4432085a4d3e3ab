package srt

import (
	"cmp"
	"errors"
	"net/netip"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/udp"
)

// table is what a shard knows of its callers. Only the shard's goroutine touches it.
type table struct {
	server  *Server
	sh      *udp.Shard
	cookies *cookies

	// byCaller finds the session of a conclusion, by the caller's own socket id;
	// byPublic that of all later datagrams, by the id that the caller sends to. Two
	// callers may have chosen the same id, and so may two origins.
	byCaller map[key]*session
	byPublic map[key]*session
	// handshaking are the sessions whose handshake with an origin is on its way.
	handshaking map[*session]struct{}
	swept       time.Time
}

type key struct {
	addr netip.AddrPort
	id   uint32
}

func newTable(s *Server, sh *udp.Shard) *table {
	return &table{
		server:      s,
		sh:          sh,
		cookies:     newCookies(s.key),
		byCaller:    make(map[key]*session),
		byPublic:    make(map[key]*session),
		handshaking: make(map[*session]struct{}),
	}
}

func (t *table) fromClient(payload []byte, from udp.Peer) {
	p, err := srt.Parse(payload)
	if err != nil {
		t.server.counters.malformed.Add(1)
		return
	}
	id := p.Destination()
	if id == 0 {
		t.request(p, from)
		return
	}
	s := t.byPublic[key{from.Addr, id}]
	if s == nil {
		t.server.counters.unknown.Add(1)
		return
	}
	s.fromClient(p)
}

// request takes a datagram of who has no connection yet. Until a cookie has come back
// nothing is kept of it, and no answer is longer than what it answers.
func (t *table) request(p srt.Packet, from udp.Peer) {
	h, err := srt.ParseHandshake(p)
	if err != nil || h.SocketID == 0 {
		t.server.counters.malformed.Add(1)
		return
	}
	switch h.Stage {
	case srt.StageInduction:
		answer := h.Challenge(t.cookies.bake(from.Addr, t.sh.Now()))
		answer.PeerIP = srt.PeerIP(from.Addr.Addr())
		t.answer(p, answer, from)
	case srt.StageConclusion:
		if !t.cookies.verify(h.Cookie, from.Addr, t.sh.Now()) {
			t.server.counters.cookie.Add(1)
			return
		}
		t.conclude(p, h, from)
	case srt.StageWaveAHand:
		t.refuse(p, h, from, srt.ReasonUnsupported)
	default:
		t.server.counters.malformed.Add(1)
	}
}

// answer turns a request into its answer.
func (t *table) answer(p srt.Packet, h srt.Handshake, to udp.Peer) {
	p = p[:srt.HandshakeSize]
	p.SetDestination(h.SocketID)
	h.Put(p)
	t.sh.ToClient(to, p)
}

// refuse turns a request into its refusal.
func (t *table) refuse(p srt.Packet, h srt.Handshake, to udp.Peer, why srt.Reason) {
	t.server.counters.refuse(why)
	t.answer(p, h.Refusal(why), to)
	if h.Version == srt.Version4 && h.Stage == srt.StageConclusion {
		// A caller of version 4 does not understand it (libsrt's listener does the same).
		t.sh.ToClient(to, srt.AppendShutdown(nil, h.SocketID, p.Timestamp()))
	}
}

// conclude takes a conclusion of a caller that is where it says.
func (t *table) conclude(p srt.Packet, h srt.Handshake, from udp.Peer) {
	if s := t.byCaller[key{from.Addr, h.SocketID}]; s != nil {
		if s.request.Sequence == h.Sequence {
			s.repeat()
			return
		}
		s.leave(errReplaced) // and is not told, for the socket is that of the new call
	}
	role, stream, why := t.read(p, h)
	if why != 0 {
		t.refuse(p, h, from, why)
		return
	}
	sv := t.server
	if sv.counters.handshaking.Load() >= sv.handshaking.Load() || !sv.clients.add(from.Addr.Addr()) {
		t.refuse(p, h, from, srt.ReasonOverload)
		return
	}
	newSession(t, p, h, from, role, stream).place()
}

// read finds what a conclusion asks for, or why it is refused.
func (t *table) read(p srt.Packet, h srt.Handshake) (balancer.Role, balancer.Stream, srt.Reason) {
	if h.Version != srt.Version4 && h.Version != srt.Version5 {
		return 0, balancer.Stream{}, srt.ReasonVersion
	}
	defaults := t.server.streamIDs.Load()
	id, err := srt.ConclusionStreamID(p, h)
	if err != nil {
		return 0, balancer.Stream{}, srt.ReasonRogue
	}
	r, err := srt.ParseStreamID(cmp.Or(id, defaults.Default), defaults.DefaultApp)
	switch {
	case errors.Is(err, srt.ErrStreamIDMode):
		return 0, balancer.Stream{}, srt.ReasonBadMode
	case err != nil:
		return 0, balancer.Stream{}, srt.ReasonBadRequest
	}
	role := balancer.Play
	if r.Publish {
		role = balancer.Publish
	}
	return role, t.server.router.Stream(r.Stream), 0
}

// sweepPeriod is how often all sessions are looked at for silence.
const sweepPeriod = time.Second

func (t *table) tick(now time.Time) {
	for s := range t.handshaking {
		s.up.tick(now)
	}
	if len(t.handshaking) == 0 {
		t.sh.TickEvery(sweepPeriod)
	}
	if now.Sub(t.swept) < sweepPeriod-tick { // one tick of sweepPeriod may come early
		return
	}
	t.swept = now
	for _, s := range t.byCaller {
		s.expire(now)
	}
}

func (t *table) endAll() {
	for _, s := range t.byCaller {
		s.shutdown(errShutdown)
	}
}
