// Package register is the system API, where origins say that they are there.
//
//	SRS heartbeat ──POST /api/v1/srs/register[/TOKEN]──▶ Server
//	                          │ method, rate, address, token, body: one JSON answer
//	                          ▼
//	               Deps.Register ─▶ health.Monitor ─▶ balancer
//	kubelet ──GET /readyz, /healthz──▶ Server
//
// Whoever may register gets streams, so the door is narrow: without a token, and
// without a list of addresses, only this machine may. It keeps no origin and dials
// none; what becomes of a registration is Deps.Register's.
package register

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"srs-proxy/proxy/httplife"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/quiet"
)

// Config of a Server.
type Config struct {
	// Listen is "host:port", or the path of a unix socket, which begins with a slash.
	Listen   string
	Listener listener.Config
	// Rules say who may register.
	Rules Rules
	// Own says that an address is one of the proxy's own: an origin there would be the
	// proxy itself, which then called itself for ever. It may be nil.
	Own func(proto string, addr netip.AddrPort) bool
	// Version is srs-proxy's, and PID its process, as answers have them.
	Version string
	PID     int
	// Rate and Burst bound the requests of one address: a second, and at once. 0 means
	// DefaultRate and DefaultBurst.
	Rate, Burst float64
}

// Rules say who may register.
type Rules struct {
	Tokens Tokens
	// Allow are the networks of origins. Without any, all who have a token may, and
	// without a token too only this machine.
	Allow []netip.Prefix
}

// Defaults of Config, and bounds that nobody has to change.
const (
	DefaultRate  = 64
	DefaultBurst = 512
	// maxBody is twenty times what SRS sends, summaries and all.
	maxBody     = 64 << 10
	maxHeader   = 16 << 10
	readTimeout = 5 * time.Second
	// answerTimeout bounds a whole exchange; a registration may have to wait for the
	// balancer's database.
	answerTimeout = 10 * time.Second
	idleTimeout   = 60 * time.Second
	stopTimeout   = time.Second
)

// ErrTooMany says that there is no room for one more origin.
var ErrTooMany = errors.New("there are too many origins")

// Deps are what a Server works with.
type Deps struct {
	// Register takes an origin in, or its next heartbeat. An error is ours or, of
	// ErrTooMany, the cluster's; the body was right.
	Register func(ctx context.Context, r Registration) error
	// Ready says why no client should be sent here; nil when they should.
	Ready func(ctx context.Context) error
	Log   *slog.Logger
}

// Server is the system API.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	rules   atomic.Pointer[Rules]
	limit   limiter
	handler http.Handler
	refused *quiet.Log

	ln       net.Listener
	handlers httplife.Gate
}

// New returns a Server; it does nothing yet.
func New(cfg Config, deps Deps) *Server {
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Log, refused: quiet.New(deps.Log),
		limit: limiter{
			rate: cmp.Or(cfg.Rate, DefaultRate), burst: cmp.Or(cfg.Burst, DefaultBurst), now: time.Now,
			buckets: make(map[netip.Addr]bucket),
		},
	}
	s.SetRules(cfg.Rules)
	s.handler = s.routes()
	return s
}

// SetRules changes who may register, for requests from now on.
func (s *Server) SetRules(r Rules) { s.rules.Store(&r) }

// Listen binds the address.
func (s *Server) Listen() error {
	if !strings.HasPrefix(s.cfg.Listen, "/") {
		ln, err := listener.Listen(s.cfg.Listen, s.cfg.Listener)
		if err != nil {
			return fmt.Errorf("listen for the system API on %s: %w", s.cfg.Listen, err)
		}
		s.ln = ln
		return nil
	}
	ln, err := listenUnix(s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen for the system API on %s: %w", s.cfg.Listen, err)
	}
	s.ln = ln
	return nil
}

// listenUnix makes a socket that its owner alone can open, in place of one that
// nobody answers on any more.
func listenUnix(path string) (*net.UnixListener, error) {
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != fs.ModeSocket {
			return nil, errors.New("a file of that name exists and is no socket")
		}
		d := net.Dialer{Timeout: time.Second}
		if c, err := d.DialContext(context.Background(), "unix", path); err == nil {
			_ = c.Close()
			return nil, errors.New("another process answers there")
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// Addr is where the server listens, once Listen has returned.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close frees the address of a server that will not Run.
func (s *Server) Close() error { return s.ln.Close() }

// Run serves until ctx is cancelled, and returns when all answers have ended.
func (s *Server) Run(ctx context.Context) error {
	hs := httplife.NewServer(s, httplife.Limits{Header: readTimeout, HeaderBytes: maxHeader, Idle: idleTimeout}, s.log)
	hs.ReadTimeout, hs.WriteTimeout = readTimeout, answerTimeout
	err := httplife.Serve(ctx, hs, []net.Listener{s.ln}, func() {}, stopTimeout)
	s.handlers.Close()
	if err != nil {
		return fmt.Errorf("serve the system API on %s: %w", s.cfg.Listen, err)
	}
	return nil
}
