package signal

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/webrtc"
)

// session is an offer that an origin has answered, until its media end.
type session struct {
	username string
	client   netip.AddrPort
	origin   *balancer.Origin // that of held, if the lease is here
	pwd      string           // for the route, where it does not follow from the username
	stored   time.Time        // when the route was; only the watch changes it
	again    time.Time        // when a lease is tried for again; only the watch's

	// Of a session that was signalled elsewhere it may not be known yet what it is, and
	// then nobody here has its lease. Server.mu guards them.
	stream balancer.Stream
	role   balancer.Role
	held   *route.Held
}

// open makes a session known, here and to the media side. The caller still has the
// lease when it fails.
func (s *Server) open(ctx context.Context, ses *session, media webrtc.Session) error {
	if err := s.enter(ses, media); err != nil {
		return err
	}
	s.storeRoute(ctx, ses)
	s.logger(ses).Debug("session answered") // the media side tells when it comes and goes
	return nil
}

// enter does so without waiting for anybody. Where the session's media go is its origin's.
func (s *Server) enter(ses *session, media webrtc.Session) error {
	endpoint, err := netip.ParseAddrPort(ses.origin.Endpoints.RTC)
	if err != nil {
		return fmt.Errorf("%w: its address for media: %w", errBadAnswer, err)
	}
	media.OriginID, media.UDP = ses.origin.ID, endpoint
	if s.cfg.TCP {
		media.TCP = endpoint
	}
	ses.username, ses.client, ses.stored = media.Username(), media.Client, time.Now()
	ses.stream, ses.role = media.Stream, media.Role
	media.OnEnd = func(webrtc.End) { s.mediaEnded(ses.username) }
	s.mu.Lock()
	switch {
	case s.stopped:
		s.mu.Unlock()
		return errStopping
	case s.sessions[ses.username] != nil:
		s.mu.Unlock()
		return webrtc.ErrExists
	}
	s.sessions[ses.username] = ses
	s.mu.Unlock()
	if ses.held != nil && media.Role == balancer.Publish { // before Add, after which the session may end
		ses.held.Publishes(media.Client.Addr())
	}
	if err := s.media.Add(media); err != nil {
		s.mu.Lock()
		delete(s.sessions, ses.username)
		s.mu.Unlock()
		return err
	}
	return nil
}

// storeRoute tells other proxies, if there can be any, who has the session. Without that
// they ask the origin of its stream, which is the same unless the stream has moved.
func (s *Server) storeRoute(ctx context.Context, ses *session) {
	if _, others := s.bal.(shared); !others {
		return
	}
	r, err := s.routeOf(ses)
	if err == nil {
		err = s.bal.StoreRoute(ctx, balancer.RouteWebRTC, ses.username, r, routeTTL)
	}
	if err != nil {
		s.logger(ses).Debug("route of a session is not stored", "cause", err)
	}
}

// mediaEnded is called by the media side, wherever that is: it must not block.
func (s *Server) mediaEnded(username string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses := s.sessions[username]
	if ses == nil || s.stopped {
		return // ended here, which is why the media ended
	}
	delete(s.sessions, username)
	if ses.held != nil {
		s.ending.Go(ses.held.Close)
	}
}

// finish ends a session and its media.
func (s *Server) finish(username string, cause error) bool {
	s.mu.Lock()
	ses := s.sessions[username]
	delete(s.sessions, username)
	s.mu.Unlock()
	if ses == nil {
		return false
	}
	if !errors.Is(cause, errStopping) {
		s.logger(ses).Info("session is ended", "cause", cause)
	}
	s.media.Remove(username)
	if held := s.leaseOf(ses); held != nil {
		held.Close()
	}
	return true
}

// leaseOf is a session's lease, nil if nobody here has it.
func (s *Server) leaseOf(ses *session) *route.Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ses.held
}

// find is a session of this proxy.
func (s *Server) find(username string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[username]
}

// watch ends the sessions of origins that are gone, or whose process is another one
// now, and of players whose stream is elsewhere by now, and keeps the routes of the others known.
func (s *Server) watch(ctx context.Context, now time.Time) {
	s.mu.Lock()
	all := make([]*session, 0, len(s.sessions))
	for _, ses := range s.sessions {
		all = append(all, ses)
	}
	s.mu.Unlock()
	if len(all) == 0 && s.cfg.Tickets == nil {
		return
	}
	origins, err := s.bal.Origins(ctx)
	if err != nil {
		return // a balancer that is away says nothing about origins
	}
	if s.cfg.Tickets != nil {
		s.refreshTags(origins)
	}
	service := make(map[string]string, len(origins))
	for _, o := range origins {
		service[o.ID] = o.Service
	}
	for _, ses := range all {
		if of, ok := service[ses.origin.ID]; !ok || of != ses.origin.Service {
			s.finish(ses.username, errOriginGone)
			continue
		}
		held := s.leaseOf(ses)
		if held == nil {
			s.wantLease(ses, now)
			continue
		}
		if held.Moved() {
			s.finish(ses.username, route.ErrMoved)
			continue
		}
		if now.Sub(ses.stored) >= routeRefresh {
			ses.stored = now
			s.storeRoute(ctx, ses)
		}
	}
}

// originOf is the origin that has a session: of this proxy, of another one, or if
// nobody knows it that of its stream: then it is not known to be the session's.
func (s *Server) originOf(ctx context.Context, username string, stream balancer.Stream) (o balancer.Origin, known bool, err error) {
	if ses := s.find(username); ses != nil {
		return *ses.origin, true, nil
	}
	if o, ok := s.originOfTicket(username); ok {
		return o, true, nil
	}
	r, err := s.bal.LoadRoute(ctx, balancer.RouteWebRTC, username)
	if err != nil && !errors.Is(err, balancer.ErrNoRoute) {
		return o, false, err
	}
	if err == nil {
		if o, ok, err := s.origin(ctx, r.Origin); ok || err != nil {
			return o, ok, err
		}
	}
	o, err = s.router.Lookup(ctx, stream)
	return o, false, err
}

// origin is the one of an ID.
func (s *Server) origin(ctx context.Context, id string) (balancer.Origin, bool, error) {
	origins, err := s.bal.Origins(ctx)
	if err != nil {
		return balancer.Origin{}, false, err
	}
	for _, o := range origins {
		if o.ID == id {
			return o.Origin, true, nil
		}
	}
	return balancer.Origin{}, false, nil
}
