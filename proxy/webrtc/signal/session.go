package signal

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/webrtc"
)

// session is an offer that an origin has answered, until its media end.
type session struct {
	username string
	held     *route.Held
	client   netip.AddrPort
	stored   time.Time // when the route was; only the watch changes it
}

// open makes a session known, here and to the media side. The caller still has the
// lease when it fails.
func (s *Server) open(ctx context.Context, held *route.Held, media webrtc.Session) error {
	ses := &session{username: media.Username(), held: held, client: media.Client, stored: time.Now()}
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
	if media.Role == balancer.Publish { // before Add, after which the session may end
		held.Publishes(media.Client.Addr())
	}
	if err := s.media.Add(media); err != nil {
		s.mu.Lock()
		delete(s.sessions, ses.username)
		s.mu.Unlock()
		return err
	}
	s.storeRoute(ctx, ses)
	s.logger(ses).Debug("session answered") // the media side tells when it comes and goes
	return nil
}

// storeRoute tells other proxies who has the session. Without that they ask the
// origin of its stream, which is the same unless the stream has moved.
func (s *Server) storeRoute(ctx context.Context, ses *session) {
	r := balancer.Route{Stream: ses.held.Lease.Stream, Origin: ses.held.Lease.Origin.ID}
	if err := s.bal.StoreRoute(ctx, balancer.RouteWebRTC, ses.username, r, routeTTL); err != nil {
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
	s.ending.Go(ses.held.Close)
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
	ses.held.Close()
	return true
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
	if len(all) == 0 {
		return
	}
	origins, err := s.bal.Origins(ctx)
	if err != nil {
		return // a balancer that is away says nothing about origins
	}
	service := make(map[string]string, len(origins))
	for _, o := range origins {
		service[o.ID] = o.Service
	}
	for _, ses := range all {
		origin := ses.held.Lease.Origin
		if now, ok := service[origin.ID]; !ok || now != origin.Service {
			s.finish(ses.username, errOriginGone)
			continue
		}
		if ses.held.Moved() {
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
// nobody knows it that of its stream.
func (s *Server) originOf(ctx context.Context, username string, stream balancer.Stream) (balancer.Origin, error) {
	if ses := s.find(username); ses != nil {
		return ses.held.Lease.Origin, nil
	}
	r, err := s.bal.LoadRoute(ctx, balancer.RouteWebRTC, username)
	if err != nil && !errors.Is(err, balancer.ErrNoRoute) {
		return balancer.Origin{}, err
	}
	if err == nil {
		origins, err := s.bal.Origins(ctx)
		if err != nil {
			return balancer.Origin{}, err
		}
		for _, o := range origins {
			if o.ID == r.Origin {
				return o.Origin, nil
			}
		}
	}
	return s.router.Lookup(ctx, stream)
}
