// Package httpserver is the HTTP face of the origins: live streams, HLS, DASH and files.
//
//	              ┌ .flv .ts .mp3 .aac ─▶ lease, dial, request ─▶ answer's head ─▶ splice(2)
//	client ─▶ route by path,
//	          vhost or token
//	              ├ .m3u8 .mpd .mp4 ... ─▶ request, answer (playlists get tokens on their URIs)
//	              └ segments of HLS ─▶ one fetch for all, held for seconds
//
// A live session ends up as two sockets and a small record; a request for a file
// needs no state here, so any proxy can serve the next one. The package
// changes what a proxy must (addresses, hop-by-hop headers, URIs of playlists) and
// nothing else: an origin's 404 stays a 404. It does not answer for the API.
package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/proxy/httplife"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/quiet"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
)

// Config of a Server. DefaultConfig has the defaults.
type Config struct {
	// Listen is the address, "host:port" or ":port" for all interfaces.
	Listen   string
	Listener listener.Config
	// RTC answers for /rtc/v1/, as SRS does on this port too; nil is not found.
	RTC http.Handler
	// Pages answers for what is neither a stream nor a part of one: web pages. nil leaves
	// those to the origins.
	Pages http.Handler
	// ListenTLS is where the same is served with TLS; "" for nowhere.
	ListenTLS string
	TLS       *tls.Config

	// HeaderTimeout and MaxHeader bound a client's request header.
	HeaderTimeout time.Duration
	MaxHeader     int
	// IdleTimeout ends a client's connection that sends no further request.
	IdleTimeout time.Duration

	// LiveTimeout is how long an origin may take to answer for a live stream. SRS answers
	// only when it has media to send: a player that comes before its
	// publisher waits here, so this is patience, not a health check.
	LiveTimeout time.Duration
	// FileTimeout is how long an origin may take to answer for a file, and then
	// to go on with a body that has stopped.
	FileTimeout time.Duration
	// IdlePerOrigin is how many idle connections to each origin are kept for files.
	IdlePerOrigin int
	// MaxPlaylist bounds a playlist, which is held in memory to be rewritten.
	MaxPlaylist int64
	// SegmentMemory bounds the bytes of HLS segments that are held to be shared by
	// clients, for seconds each; 0 shares none.
	SegmentMemory int64
	// StopTimeout is how long files in transfer may go on after a stop.
	StopTimeout time.Duration
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Listen:        ":8080",
		HeaderTimeout: 5 * time.Second,
		MaxHeader:     16 << 10,
		IdleTimeout:   60 * time.Second,
		LiveTimeout:   5 * time.Minute,
		FileTimeout:   15 * time.Second,
		IdlePerOrigin: 64,
		MaxPlaylist:   1 << 20,
		SegmentMemory: 256 << 20,
		StopTimeout:   2 * time.Second,
	}
}

// errStopping is the cause of sessions that end because the proxy stops.
var errStopping = errors.New("the proxy is stopping")

// Server serves HTTP clients.
type Server struct {
	listener.Set // HTTP and, with TLS, HTTPS

	cfg     Config
	router  *route.Router
	log     *slog.Logger
	failed  *quiet.Log // for failures, which come in floods
	relay   *relay.Relay
	idle    idlers // connections to origins
	buffers buffers

	segments *segments

	ids atomic.Int64 // the last session's

	// live is cancelled, with the cause, to end the live sessions.
	live     context.Context
	stopLive context.CancelCauseFunc
	handlers httplife.Gate  // requests inside ServeHTTP
	pairs    relay.Group    // of the live sessions that are relayed
	sessions sync.WaitGroup // goroutines of sessions that left net/http

	stats counters
}

// New returns a Server; it does nothing yet.
func New(cfg Config, router *route.Router, rl *relay.Relay, log *slog.Logger) *Server {
	s := &Server{cfg: cfg, router: router, log: log, failed: quiet.New(log), relay: rl}
	s.stats.active = make(map[*session]struct{})
	s.live, s.stopLive = context.WithCancelCause(context.Background())
	s.idle = idlers{most: cfg.IdlePerOrigin, at: make(map[string][]*originConn)}
	s.segments = newSegments(cfg.SegmentMemory)
	return s
}

// Listen binds the addresses, or none.
func (s *Server) Listen() error {
	return s.Set.Listen(s.cfg.Listen, s.cfg.ListenTLS, s.cfg.TLS, s.cfg.Listener)
}

// Run serves until ctx is cancelled, ends every session and returns when all of
// its goroutines have. A clean stop returns nil.
func (s *Server) Run(ctx context.Context) error {
	hs := httplife.NewServer(s, httplife.Limits{Header: s.cfg.HeaderTimeout, HeaderBytes: s.cfg.MaxHeader, Idle: s.cfg.IdleTimeout}, s.log)
	// TLS is the listener's, which offers no HTTP/2: live streams take their connection
	// over, which only HTTP/1.1 allows.
	err := httplife.Serve(ctx, hs, s.Listeners(), func() { s.stopLive(errStopping); s.pairs.End(errStopping) }, s.cfg.StopTimeout)
	if err != nil {
		err = fmt.Errorf("serve HTTP on %s: %w", s.cfg.Listen, err)
	}
	s.handlers.Close() // handlers first: they start sessions
	s.sessions.Wait()
	s.segments.setLimit(0)
	s.idle.close()
	return err
}
