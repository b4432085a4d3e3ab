package route

import (
	"net/netip"
	"slices"
	"sync"

	"srs-proxy/balancer"
)

// streams knows who publishes and who plays what through this proxy. An origin sees
// the proxy's address in place of the client's.
type streams struct {
	mu       sync.Mutex // guards byStream
	byStream map[balancer.Stream]*attendance
}

// attendance is who is there for one stream.
type attendance struct {
	publishers []publisher // oldest first
	players    map[any]place
}

// place is where a session is.
type place struct {
	origin string
	pin    uint64
	moved  func() // nil if it does not want to know, or does
}

type publisher struct {
	place
	session  any // *Conn or *Held
	client   netip.Addr
	accepted bool
}

// endPlayers tells the players who are at such a place that they have to leave it.
func (a *attendance) endPlayers(at func(place) bool) {
	for session, p := range a.players {
		if at(p) {
			delete(a.players, session)
			go p.moved()
		}
	}
}

// end tells the publishers too.
func (a *attendance) end(at func(place) bool) {
	a.endPlayers(at)
	for i, p := range a.publishers {
		if p.moved != nil && at(p.place) {
			a.publishers[i].moved = nil
			go p.moved()
		}
	}
}

// Publishes says that a client publishes the stream of c's lease, until c closes.
// Of two it is the first: an origin refuses the other one, or has seen the first go
// when we have not yet.
func (c *Conn) Publishes(client netip.Addr) {
	c.router.streams.publish(c.Lease, c, client, c.moved)
}

// Accepted says that the origin has accepted the publish. Players who wait for the
// stream where it was before are told so (Request.Moved).
func (c *Conn) Accepted() {
	c.accepted.Store(true)
	c.router.streams.accept(c.Lease, c)
}

func (s *streams) publish(l balancer.Lease, session any, client netip.Addr, moved func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.attendanceLocked(l.Stream)
	a.publishers = append(a.publishers, publisher{place: place{l.Origin.ID, l.Pin, moved}, session: session, client: client})
}

// leave tells all who are on a pin that the balancer has given up because the stream is
// published elsewhere, through another proxy. A publisher among them is a second one.
func (s *streams) leave(of balancer.Stream, pin uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.byStream[of]; a != nil {
		a.end(func(p place) bool { return p.pin == pin })
	}
}

// Abandon ends the sessions that are at an origin which does not answer any more: its
// kernel may keep their connections open for long.
func (r *Router) Abandon(originID string) {
	s := &r.streams
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.byStream {
		a.end(func(p place) bool { return p.origin == originID })
	}
}

func (s *streams) accept(l balancer.Lease, session any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.byStream[l.Stream]
	if a == nil {
		return
	}
	for i := range a.publishers {
		if a.publishers[i].session == session {
			a.publishers[i].accepted = true
		}
	}
	a.endPlayers(func(p place) bool { return p.pin < l.Pin })
}

// play notes a player. One that was placed before the stream moved and comes here
// after it has done so hears of it at once.
func (s *streams) play(l balancer.Lease, session any, moved func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.attendanceLocked(l.Stream)
	elsewhere := func(p publisher) bool { return p.accepted && l.Pin < p.pin }
	if slices.ContainsFunc(a.publishers, elsewhere) {
		go moved()
		return
	}
	if a.players == nil {
		a.players = make(map[any]place)
	}
	a.players[session] = place{l.Origin.ID, l.Pin, moved}
}

func (s *streams) attendanceLocked(of balancer.Stream) *attendance {
	a := s.byStream[of]
	if a == nil {
		a = new(attendance)
		if s.byStream == nil {
			s.byStream = make(map[balancer.Stream]*attendance)
		}
		s.byStream[of] = a
	}
	return a
}

func (s *streams) remove(of balancer.Stream, session any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.byStream[of]
	if a == nil {
		return
	}
	a.publishers = slices.DeleteFunc(a.publishers, func(p publisher) bool { return p.session == session })
	delete(a.players, session)
	if len(a.publishers) == 0 && len(a.players) == 0 {
		delete(s.byStream, of)
	}
}

// Publisher is the address of the client that publishes a stream through this
// proxy, and the origin it does so at.
func (r *Router) Publisher(s balancer.Stream) (client netip.Addr, originID string, ok bool) {
	r.streams.mu.Lock()
	defer r.streams.mu.Unlock()
	a := r.streams.byStream[s]
	if a == nil || len(a.publishers) == 0 {
		return netip.Addr{}, "", false
	}
	return a.publishers[0].client, a.publishers[0].origin, true
}
