// Package api is the HTTP API of the whole: one SRS as far as its clients can see.
//
//	GET /api/v1/streams ─▶ ask every origin at once (a second at most) ─▶ merge ─▶ one page
//	GET /api/v1/origins ─▶ what the balancer and the supervisor know, nobody is asked
//	/api/v1/origins/ID/... ─▶ that origin's own API
//	/rtc/v1/... ─▶ the handler of WebRTC's signalling
//
// An origin that is slow, stopped or broken is missing from an answer, and named in
// its errors; it never makes the answer fail. The package keeps nothing of what
// origins say but for a moment, and changes nothing by itself.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/httplife"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/originapi"
)

// Config of a Server. DefaultConfig has the defaults.
type Config struct {
	// Listen is the address, "host:port" or ":port" for all interfaces.
	Listen   string
	Listener listener.Config
	// ListenTLS is where the same is served with TLS; "" for nowhere.
	ListenTLS string
	TLS       *tls.Config

	// HeaderTimeout and MaxHeader bound a client's request header.
	HeaderTimeout time.Duration
	MaxHeader     int
	// IdleTimeout ends a client's connection that sends no further request.
	IdleTimeout time.Duration
	// StopTimeout is how long answers may go on after a stop.
	StopTimeout time.Duration

	// RTMP is where the whole serves RTMP, for those whom it sends there.
	RTMP string
	// Ask bounds what is asked of origins.
	Ask originapi.Config
	// AskTimeout is the most that an origin costs an answer.
	AskTimeout time.Duration
	// AskStraggler is how long the few are waited for that have not answered when all
	// others have. A stopped origin looks like that; one with so much to tell that
	// it takes longer is known by how late it was before.
	AskStraggler time.Duration
	// Identity is what the whole says of itself.
	Identity Identity
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Listen:        ":1985",
		HeaderTimeout: 5 * time.Second,
		MaxHeader:     16 << 10,
		IdleTimeout:   60 * time.Second,
		StopTimeout:   2 * time.Second,
		Ask:           originapi.DefaultConfig(),
		AskTimeout:    time.Second,
		AskStraggler:  300 * time.Millisecond,
	}
}

// Origins is what the package needs of a balancer.
type Origins interface {
	// Origins lists all origins by ID.
	Origins(ctx context.Context) ([]balancer.Status, error)
}

// Deps are what a Server works with.
type Deps struct {
	Origins Origins
	// RTC answers for /rtc/v1/; nil is not found.
	RTC http.Handler
	// Client is who has the address that the proxy lent to a session toward an origin.
	// It may be nil.
	Client func(lent netip.Addr) (netip.AddrPort, bool)
	// Slots are the places for origins, where there is a supervisor. It may be nil.
	Slots func() []Slot
	Log   *slog.Logger
}

// Server serves the API.
type Server struct {
	listener.Set // HTTP and, with TLS, HTTPS

	cfg     Config
	deps    Deps
	log     *slog.Logger
	handler http.Handler
	began   time.Time

	stopping context.CancelFunc // of the questions to origins
	handlers httplife.Gate

	client *originapi.Client
	asker  *asker
	shares shares
	totals totals
	// demanded says that an origin has wanted a password.
	demanded atomic.Bool
}

// errStopping is the cause of requests that end because the proxy stops.
var errStopping = errors.New("the proxy is stopping")

// New returns a Server; it does nothing yet.
func New(cfg Config, deps Deps) *Server {
	s := &Server{cfg: cfg, deps: deps, log: deps.Log, began: time.Now(), client: originapi.New(cfg.Ask)}
	stop, stopping := context.WithCancel(context.Background())
	s.asker, s.stopping = newAsker(stop, s.client, cfg), stopping
	s.handler = s.routes()
	return s
}

// Listen binds the addresses, or none.
func (s *Server) Listen() error {
	return s.Set.Listen(s.cfg.Listen, s.cfg.ListenTLS, s.cfg.TLS, s.cfg.Listener)
}

// Run serves until ctx is cancelled and returns when all answers have ended. A
// clean stop returns nil.
func (s *Server) Run(ctx context.Context) error {
	hs := httplife.NewServer(s, httplife.Limits{Header: s.cfg.HeaderTimeout, HeaderBytes: s.cfg.MaxHeader, Idle: s.cfg.IdleTimeout}, s.log)
	err := httplife.Serve(ctx, hs, s.Listeners(), s.stopping, s.cfg.StopTimeout)
	if err != nil {
		err = fmt.Errorf("serve the HTTP API on %s: %w", s.cfg.Listen, err)
	}
	s.handlers.Close()
	s.asker.running.Close()
	s.client.Close()
	return err
}
