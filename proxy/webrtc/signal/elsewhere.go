package signal

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/proxy/webrtc/ticket"
)

// The media of a session that was signalled here may come to another proxy, and the
// other way round.
//
//	origin takes our credentials ─▶ they are a ticket: whoever has the secret knows origin
//	                                and password; media flow before anybody asks the store
//	origin has its own ──────────▶ the password is in the stored route, sealed; it is
//	                                read once, when the first check comes
//	then, when the origin has answered ─▶ stream and role of the route ─▶ lease
//
// The proxy that signalled holds its lease until it has waited in vain for the media,
// 30 s, in which the other one has its own. A session that is deleted somewhere ends
// everywhere.

// errElsewhere says that a session's stream is at another origin than the session.
var errElsewhere = errors.New("the stream is at another origin")

const (
	// searchers is how many sessions are looked for at a time.
	searchers = 4
	// maxSearches bounds those that wait for it. The next check, or the next look of the
	// watch, is another chance.
	maxSearches = 4096
	// searchRate and searchBurst bound how often the store is asked for usernames that
	// strangers may have made up: some 1 % of what a Redis takes.
	searchRate  = 200 // a second
	searchBurst = 400
	// leasePause is how often a lease is tried for.
	leasePause = 2 * time.Second
)

// details is what of a session only those who share the secret may know.
type details struct {
	// Pwd is the session's password, if it does not follow from the username.
	Pwd     string         `json:"pwd,omitempty"`
	Role    balancer.Role  `json:"role"`
	Client  netip.AddrPort `json:"client"` // who signalled
	Service string         `json:"service"`
}

// routeOf is what other proxies may need to know of a session.
func (s *Server) routeOf(ses *session) (balancer.Route, error) {
	s.mu.Lock()
	r, role := balancer.Route{Stream: ses.stream, Origin: ses.origin.ID}, ses.role
	s.mu.Unlock()
	if s.cfg.Tickets == nil {
		return r, nil
	}
	plain, err := json.Marshal(details{Pwd: ses.pwd, Role: role, Client: ses.client, Service: ses.origin.Service})
	if err != nil {
		return r, fmt.Errorf("route of a session: %w", err)
	}
	r.Sealed = base64.StdEncoding.EncodeToString(s.cfg.Tickets.Seal(ses.username, plain))
	return r, nil
}

// loadRoute reads what another proxy stored.
func (s *Server) loadRoute(ctx context.Context, username string) (balancer.Route, details, error) {
	var d details
	r, err := s.bal.LoadRoute(ctx, balancer.RouteWebRTC, username)
	if err != nil {
		return r, d, err
	}
	sealed, err := base64.StdEncoding.DecodeString(r.Sealed)
	if err != nil {
		return r, d, ticket.ErrSealed
	}
	plain, err := s.cfg.Tickets.Unseal(username, sealed)
	if err != nil {
		return r, d, err
	}
	if err := json.Unmarshal(plain, &d); err != nil {
		return r, d, fmt.Errorf("route of a session: %w", err)
	}
	return r, d, nil
}

// refreshTags notes which origin a ticket means, for those who can't ask.
func (s *Server) refreshTags(origins []balancer.Status) {
	byTag := make(map[ticket.Tag]balancer.Origin, len(origins))
	for _, o := range origins {
		tag := s.cfg.Tickets.Tag(o.ID, o.Service)
		if _, twice := byTag[tag]; twice {
			byTag[tag] = balancer.Origin{} // as if it were no ticket: neither is the right one for sure
			continue
		}
		byTag[tag] = o.Origin
	}
	s.tagged.Store(&byTag)
}

func (s *Server) originOfTag(tag ticket.Tag) (balancer.Origin, bool) {
	byTag := s.tagged.Load()
	if byTag == nil {
		return balancer.Origin{}, false
	}
	o := (*byTag)[tag]
	return o, o.ID != ""
}

// originOfTicket is the origin that a username names, if it does.
func (s *Server) originOfTicket(username string) (balancer.Origin, bool) {
	if s.cfg.Tickets == nil {
		return balancer.Origin{}, false
	}
	tag, ok := s.cfg.Tickets.Reader().Read([]byte(username))
	if !ok {
		return balancer.Origin{}, false
	}
	return s.originOfTag(tag)
}

// Open implements webrtc.Elsewhere.
func (s *Server) Open(t webrtc.Ticket) {
	if o, ok := s.originOfTag(t.Origin); ok {
		// Refused for the same reasons as any session, and counted by the media side.
		_ = s.enter(&session{origin: &o}, webrtc.Session{LocalUfrag: t.LocalUfrag, LocalPwd: t.LocalPwd, RemoteUfrag: t.RemoteUfrag, Client: t.Client})
	}
}

// Unknown implements webrtc.Elsewhere.
func (s *Server) Unknown(username []byte) bool {
	if !s.budget.take(time.Now()) {
		return false
	}
	select {
	case s.unknown <- string(username):
		return true
	default:
		return false
	}
}

// search finds out about sessions that were signalled elsewhere, until ctx ends.
func (s *Server) search(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case username := <-s.unknown:
			if err := s.lookFor(ctx, username); err != nil {
				s.log.Debug("no session for a username", "proto", "rtc", "session", username, "cause", err)
			}
		case ses := <-s.leaseless:
			s.takeLease(ctx, ses)
		}
	}
}

// lookFor opens a session whose password only its route tells. Its lease is taken when
// its client has come: that it is a client's username we have from a stranger.
func (s *Server) lookFor(ctx context.Context, username string) error {
	r, d, err := s.loadRoute(ctx, username)
	if err != nil {
		return err
	}
	o, ok, err := s.origin(ctx, r.Origin)
	if err != nil {
		return err
	}
	if !ok || o.Service != d.Service {
		return errOriginGone
	}
	local, remote, _ := strings.Cut(username, ":")
	return s.enter(&session{origin: &o, pwd: d.Pwd}, webrtc.Session{
		LocalUfrag: local, LocalPwd: d.Pwd, RemoteUfrag: remote, Stream: r.Stream, Role: d.Role, Client: d.Client,
	})
}

// wantLease has the lease taken of a session that was signalled elsewhere. Only what the
// origin says proves that the session lives. For the watch only.
func (s *Server) wantLease(ses *session, now time.Time) {
	if now.Before(ses.again) {
		return
	}
	in, ok := s.media.Lookup(ses.username)
	if !ok || in.DatagramsOut == 0 && (!in.TCP || in.BytesOut == 0) {
		return
	}
	ses.again = now.Add(leasePause)
	select {
	case s.leaseless <- ses:
	default:
	}
}

// takeLease holds the stream of a session that was signalled elsewhere, so that it stays
// where it is. As long as that can't be done the session goes on without.
func (s *Server) takeLease(ctx context.Context, ses *session) {
	if s.leaseOf(ses) != nil {
		return
	}
	r, d, err := s.loadRoute(ctx, ses.username)
	if err != nil || r.Origin != ses.origin.ID {
		s.log.Debug("a session is without a lease", "proto", "rtc", "session", ses.username, "origin", ses.origin.ID, "cause", err)
		return
	}
	req := route.Request{Stream: r.Stream, Role: d.Role, Proto: route.RTC, Client: d.Client}
	held, err := s.router.Hold(ctx, req, func(_ context.Context, l balancer.Lease) error {
		if l.Origin.ID != ses.origin.ID || l.Origin.Service != ses.origin.Service {
			return errElsewhere
		}
		return nil
	})
	if errors.Is(err, errElsewhere) || errors.Is(err, access.ErrDenied) {
		s.finish(ses.username, err)
		return
	}
	if err != nil {
		s.log.Debug("a session is without a lease", "proto", "rtc", "session", ses.username, "origin", ses.origin.ID, "cause", err)
		return
	}
	if d.Role == balancer.Publish { // before the session's end can close it
		held.Publishes(d.Client.Addr())
	}
	s.mu.Lock()
	there := s.sessions[ses.username] == ses && ses.held == nil
	if there {
		ses.stream, ses.role, ses.held = r.Stream, d.Role, held
	}
	s.mu.Unlock()
	if !there {
		held.Close()
		return
	}
	s.media.Describe(ses.username, r.Stream, d.Role)
	s.logger(ses).Debug("session of another proxy")
}

// deleted ends a session that its origin has ended, wherever its media are.
func (s *Server) deleted(ctx context.Context, username string) {
	s.finish(username, errDeleted)
	b, ok := s.bal.(shared)
	if !ok || s.cfg.Tickets == nil {
		return
	}
	s.media.Bury(username)
	if err := b.DropRoute(ctx, balancer.RouteWebRTC, username); err != nil {
		// They will notice that the origin does not answer any more.
		s.log.Debug("other proxies do not know that a session has ended", "proto", "rtc", "session", username, "cause", err)
	}
}

// routeDropped ends a session that was deleted through another proxy.
func (s *Server) routeDropped(kind balancer.RouteKind, username string) {
	if kind != balancer.RouteWebRTC {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.ending.Go(func() {
			s.media.Bury(username)
			s.finish(username, errDeleted)
		})
	}
}

// budget bounds how often something is done.
type budget struct {
	mu   sync.Mutex // guards the following
	left float64
	last time.Time
}

// take reports whether it may be done now.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.left = searchBurst
	} else {
		b.left = min(searchBurst, b.left+searchRate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
