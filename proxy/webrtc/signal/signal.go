// Package signal is the HTTP side of WebRTC: WHIP, WHEP and SRS's JSON API.
//
//	POST offer ─▶ stream of the URL ─▶ lease ─▶ POST to its origin ─▶ answer
//	                                                                   │ candidates become ours
//	client ◀── 201, Location ──── media.Add (ufrag, password, origin) ◀┘
//	DELETE, PATCH of Location ─▶ the origin that has the session
//
// The lease is held from the answer to the end of the media, which is told by the media
// side; a session whose origin is gone is ended here. The package edits where an answer
// leads and nothing else of it: codecs, fingerprints and refusals are the origin's.
package signal

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/proxy/webrtc/candidate"
	"srs-proxy/proxy/webrtc/ticket"
)

// Media is what the package needs of the side that moves the media; *webrtc.Server is
// one.
type Media interface {
	Add(webrtc.Session) error
	Remove(username string) bool
	Lookup(username string) (webrtc.Info, bool)
	// Describe tells what a session is that was added without its stream.
	Describe(username string, stream balancer.Stream, role balancer.Role) bool
	// Bury keeps a session from coming back.
	Bury(username string)
	Addr() net.Addr
}

// Balancer is what the package needs of a balancer, besides what the router does.
type Balancer interface {
	StoreRoute(ctx context.Context, kind balancer.RouteKind, key string, r balancer.Route, ttl time.Duration) error
	LoadRoute(ctx context.Context, kind balancer.RouteKind, key string) (balancer.Route, error)
	Origins(ctx context.Context) ([]balancer.Status, error)
}

// shared is a Balancer that several proxies have: what one says of a session all hear.
type shared interface {
	// DropRoute forgets a route, and tells all proxies so, this one too perhaps.
	DropRoute(ctx context.Context, kind balancer.RouteKind, key string) error
	// OnRouteDropped has f called then. It must not block.
	OnRouteDropped(f func(kind balancer.RouteKind, key string))
}

// Config of a Server. Zero values mean the defaults.
type Config struct {
	// TCP says that media may go over TCP: that the media side and the origins
	// serve it, on the ports of their UDP.
	TCP bool
	// AnswerTimeout is how long an origin may take to answer an offer; 0 means 35 s.
	AnswerTimeout time.Duration
	// Tickets are the keys that all proxies of the balancer share, by which sessions that
	// were signalled at one are known to all; nil for none.
	Tickets *ticket.Keys
	// BodyTimeout is how long a client may take to send its offer; 0 means 10 s.
	BodyTimeout time.Duration
}

// Defaults of Config.
const (
	// DefaultAnswerTimeout is more than the 30 s for which SRS waits for a hook.
	DefaultAnswerTimeout = 35 * time.Second
	// DefaultBodyTimeout is plenty for 256 KiB on a phone.
	DefaultBodyTimeout = 10 * time.Second
)

const (
	// watchPeriod is how often it is looked whether origins are gone: their
	// publishers' leases have to end within a second.
	watchPeriod = 500 * time.Millisecond
	// routeTTL is how long other proxies find a session's origin without hearing of
	// it again, and routeRefresh when they do.
	routeTTL     = 3 * time.Minute
	routeRefresh = time.Minute
)

// Server serves signalling. It is an http.Handler for /rtc/v1/.
type Server struct {
	cfg        Config
	router     *route.Router
	bal        Balancer
	media      Media
	candidates *candidate.List
	log        *slog.Logger

	// life ends with Run: requests under way end then.
	life context.Context
	end  context.CancelCauseFunc

	tagged    atomic.Pointer[map[ticket.Tag]balancer.Origin] // see refreshTags
	unknown   chan string                                    // usernames to look for
	leaseless chan *session                                  // sessions whose lease is to be taken
	budget    budget                                         // of searches for usernames

	mu       sync.Mutex // guards the following
	sessions map[string]*session
	stopped  bool
	ending   sync.WaitGroup // goroutines that end sessions
}

// Why sessions and requests end, besides what the media side says.
var (
	errStopping   = errors.New("the proxy is stopping")
	errOriginGone = errors.New("the origin is gone")
	errDeleted    = errors.New("the client deleted the session")
)

// New returns a Server; it does nothing yet.
func New(cfg Config, router *route.Router, bal Balancer, media Media, candidates *candidate.List, log *slog.Logger) *Server {
	if cfg.AnswerTimeout == 0 {
		cfg.AnswerTimeout = DefaultAnswerTimeout
	}
	if cfg.BodyTimeout == 0 {
		cfg.BodyTimeout = DefaultBodyTimeout
	}
	s := &Server{cfg: cfg, router: router, bal: bal, media: media, candidates: candidates, log: log, sessions: make(map[string]*session)}
	s.unknown, s.leaseless = make(chan string, maxSearches), make(chan *session, maxSearches)
	s.life, s.end = context.WithCancelCause(context.Background())
	if b, ok := bal.(shared); ok {
		b.OnRouteDropped(s.routeDropped)
	}
	return s
}

// Run watches the origins of sessions until ctx is cancelled, then ends all sessions
// and returns nil.
func (s *Server) Run(ctx context.Context) error {
	s.candidates.Announce(ctx, s.local())
	var searching sync.WaitGroup
	if s.cfg.Tickets != nil {
		for range searchers {
			searching.Go(func() { s.search(ctx) })
		}
		s.watch(ctx, time.Now())
	}
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			searching.Wait()
			searching.Wait()
			s.stop()
			return nil
		case now := <-tick.C:
			s.watch(ctx, now)
		}
	}
}

// stop ends all sessions and waits until their leases are given back.
func (s *Server) stop() {
	s.end(errStopping)
	s.mu.Lock()
	s.stopped = true
	left := make([]string, 0, len(s.sessions))
	for username := range s.sessions {
		left = append(left, username)
	}
	s.mu.Unlock()
	for _, username := range left {
		s.finish(username, errStopping)
	}
	s.ending.Wait()
}
