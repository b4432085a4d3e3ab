// Package rtmp is the proxy's RTMP side: it answers a client until it knows the
// stream, connects it to the stream's origin, and gets out of the way.
//
//	client ── handshake, connect, createStream, publish|play ──▶ prelude
//	                                    its bytes, verbatim ──▶ origin
//	client ◀════════════════ splice both ways ════════════════▶ origin
//
// It keeps no media, transcodes nothing, and does not decide where a stream goes.
package rtmp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
)

// Config of a Server. Zero fields mean the defaults.
type Config struct {
	Listen   string // "host:port", or ":port" for all interfaces
	Listener listener.Config
	// ListenTLS is where RTMPS is served, which is the same with TLS; "" for none.
	ListenTLS string
	TLS       *tls.Config
	// Handshaking is how many clients may be between accept and publish or play;
	// more are turned away. 0 means 2,048.
	Handshaking int
	// HandshakeTimeout bounds the RTMP handshake as a whole; 0 means 5 s.
	HandshakeTimeout time.Duration
	// PreludeTimeout bounds connect to publish or play, and the origin's answers
	// to the same; 0 means 10 s.
	PreludeTimeout time.Duration
	// RealIP sends the client's IPv4 address to the origin before the handshake, as
	// SRS takes it (0xF3). Servers other than SRS refuse it.
	RealIP bool
}

const (
	defaultHandshaking      = 2048
	defaultHandshakeTimeout = 5 * time.Second
	defaultPreludeTimeout   = 10 * time.Second
)

// Server serves RTMP clients.
type Server struct {
	listener.Set // RTMP and, with TLS, RTMPS

	cfg    Config
	router *route.Router
	relay  *relay.Relay
	log    *slog.Logger

	handshaking atomic.Int64
	most        atomic.Int64 // of those, see Config.Handshaking
	realIP      atomic.Bool
	panics      atomic.Int64
	ids         atomic.Uint64
	sessions    sync.WaitGroup
	pairs       relay.Group // of the sessions that are relayed
}

// New returns a Server.
func New(cfg Config, router *route.Router, rl *relay.Relay, log *slog.Logger) *Server {
	if cfg.Handshaking == 0 {
		cfg.Handshaking = defaultHandshaking
	}
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = defaultHandshakeTimeout
	}
	if cfg.PreludeTimeout == 0 {
		cfg.PreludeTimeout = defaultPreludeTimeout
	}
	s := &Server{cfg: cfg, router: router, relay: rl, log: log}
	s.most.Store(int64(cfg.Handshaking))
	s.realIP.Store(cfg.RealIP)
	return s
}

// Adjust changes what can change while clients are served; whoever is past it does
// not notice. Handshaking and RealIP are those of Config, perIP is the listener's.
func (s *Server) Adjust(handshaking int, realIP bool, perIP int) {
	s.most.Store(int64(cmp.Or(handshaking, defaultHandshaking)))
	s.realIP.Store(realIP)
	s.SetPerIP(perIP)
}

// Listen binds the addresses, or none.
func (s *Server) Listen() error {
	return s.Set.Listen(s.cfg.Listen, s.cfg.ListenTLS, s.cfg.TLS, s.cfg.Listener)
}

// Stats are the server's counters.
type Stats struct {
	listener.Stats
	Handshaking int64
	// Panics counts sessions that were ended by a bug.
	Panics int64
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{Stats: s.Set.Stats(), Handshaking: s.handshaking.Load(), Panics: s.panics.Load()}
}

// Run serves clients until ctx is cancelled, then ends their sessions and waits
// for them.
func (s *Server) Run(ctx context.Context) error {
	defer s.sessions.Wait()
	sessions, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(errShutdown)
	defer s.pairs.End(errShutdown)
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		end(errShutdown) // the cause that their last log line tells
		s.pairs.End(errShutdown)
		_ = s.Close()
	})
	defer stop()
	for _, ln := range s.Listeners() {
		g.Go(func() error { return s.accept(ctx, ln, sessions) })
	}
	return g.Wait()
}

// accept takes clients in until ctx is cancelled.
func (s *Server) accept(ctx context.Context, ln *listener.Listener, sessions context.Context) error { //nolint:revive // the second is of others
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		s.sessions.Add(1)
		go s.serve(sessions, c.(*listener.Conn))
	}
}

// errShutdown is why sessions end when the proxy stops.
var errShutdown = errors.New("the proxy stops")

// serve is the goroutine of one client until its bytes are relayed.
func (s *Server) serve(ctx context.Context, c *listener.Conn) {
	se := &session{server: s, client: c, id: s.ids.Add(1), opened: time.Now(), prelude: new(prelude)}
	se.ctx, se.cancel = context.WithCancelCause(ctx)
	handedOn := false
	defer func() {
		if !handedOn {
			se.end()
		}
	}()
	defer s.recoverSession(se)
	handedOn = se.run(se.ctx)
}

// recoverSession is a seat belt: a bug ends one session, loudly, and not the rest.
func (s *Server) recoverSession(se *session) {
	if r := recover(); r != nil {
		s.panics.Add(1)
		se.log(slog.LevelError, "panic in a session: please report it", slog.Any("panic", r))
	}
}
