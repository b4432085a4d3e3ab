// Package webrtc moves the media of WebRTC sessions. Signalling is not done here: it
// adds a session when the origin has answered an offer.
//
//	signalling ─Add/Remove─▶ sessions by username ("ufrag of the answer:of the offer")
//	                              │ first STUN request: MESSAGE-INTEGRITY proves the client
//	client ══ UDP ══▶ by address ─┴─▶ the session's flow ══▶ origin
//	client ══ TCP ══▶ first frame is such a request ══ splice ══▶ origin
//
// A session that was not added here may be another proxy's: elsewhere.go.
//
// Nothing is decrypted. A datagram of an address that proved nothing is never passed
// on and never answered. What a session's client sends (STUN, DTLS, SRTP, SRTCP,
// RFC 7983) goes to the session's origin, whose answers go to where the client was
// last proved to be.
package webrtc

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"srs-proxy/balancer"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/udp"
	"srs-proxy/proxy/webrtc/ticket"
)

// Defaults of Config.
const (
	DefaultIdle        = 30 * time.Second // SRS's stun_timeout too
	DefaultPerIP       = 64
	DefaultMaxSessions = 100_000

	defaultHandshaking      = 2048
	defaultHandshakeTimeout = 5 * time.Second
)

// Errors of Add.
var (
	// ErrInvalid says that a Session lacks what is needed to serve it.
	ErrInvalid = errors.New("incomplete WebRTC session")
	// ErrExists says that another session has the username.
	ErrExists = errors.New("another session has this ICE username")
	// ErrTooMany says that the proxy has as many sessions as it may.
	ErrTooMany = errors.New("too many WebRTC sessions")
	// ErrTooManyPerIP says that the client's address has as many sessions as it may.
	ErrTooManyPerIP = errors.New("too many WebRTC sessions of this client address")
	// ErrStopped says that the server has stopped.
	ErrStopped = errors.New("the proxy stops")
)

// Why sessions end, for Session.OnEnd.
var (
	// ErrIdle: nothing came from the client for Config.Idle, or never did.
	ErrIdle = errors.New("nothing came from the client any more")
	// ErrSilent: the client is there, but its origin has not answered for Config.Idle.
	// SRS answers each check of a session, so it does not have this one any more.
	ErrSilent = errors.New("the origin does not answer any more")
	// ErrRemoved: by Remove.
	ErrRemoved = errors.New("the session was ended")
)

// Config of a Server. Zero values mean the defaults.
type Config struct {
	// Listen is "host:port" or ":port", for UDP and, if TCP is set, the same port over TCP.
	Listen string
	// TCP serves ICE over TCP as well (RFC 4571 framing, SRS's rtc_server.tcp).
	TCP bool
	// Shards is as in udp.Config.
	Shards int
	// Listener is for TCP clients.
	Listener listener.Config
	// Idle is how long a session lives with nothing from its client, or nothing from
	// its origin; 0 means 30 s.
	Idle time.Duration
	// Handshaking is how many TCP clients may be there that have not proved whose
	// session they are; 0 means 2,048. They have HandshakeTimeout to do so; 0 means 5 s.
	Handshaking      int
	HandshakeTimeout time.Duration
	// PerIP is how many sessions one client address may have: 0 means 64, negative no limit.
	PerIP int
	// MaxSessions is how many sessions there may be; 0 means 100,000.
	MaxSessions int
	// Tickets are the keys by which sessions are known that another proxy signalled, or
	// this one before it was restarted; nil for none. See SetElsewhere.
	Tickets *ticket.Keys
}

// Session is what signalling knows of a session once the origin has answered.
type Session struct {
	// LocalUfrag and LocalPwd are a=ice-ufrag and a=ice-pwd of the origin's answer,
	// RemoteUfrag is that of the client's offer.
	LocalUfrag, LocalPwd, RemoteUfrag string

	// Stream and Role may be left out until Describe.
	Stream   balancer.Stream
	Role     balancer.Role
	OriginID string
	// UDP is the origin's RTC endpoint. TCP is that over TCP, zero if it has none.
	UDP, TCP netip.AddrPort
	// Client is who signalled: for the limit of its address and for logs.
	Client netip.AddrPort

	// OnEnd, if set, is called exactly once when an added session has ended: by
	// Remove, by idling or by the end of the server. It runs on Remove's goroutine or
	// on the one that ends idle sessions, never on one that moves media, and is the
	// place to give a lease back.
	OnEnd func(End)
}

// Username is what identifies a session: the USERNAME of the client's STUN requests
// (RFC 8445, section 7.2.2), and SRS's "session" in its Location header.
func (s *Session) Username() string { return s.LocalUfrag + ":" + s.RemoteUfrag }

// End is how a session went.
type End struct {
	Cause error // ErrIdle, ErrSilent, ErrRemoved, ErrStopped
	Info
}

// Server serves the media of the sessions that were added.
type Server struct {
	cfg     Config
	router  *route.Router
	relay   *relay.Relay
	log     *slog.Logger
	started time.Time
	udp     *udp.Server
	tcp     *listener.Listener // nil without Config.TCP

	shards    []shard   // by udp.Shard.Index
	elsewhere Elsewhere // nil without Config.Tickets

	handshaking atomic.Int64
	tcpSessions sync.WaitGroup
	added       atomic.Int64
	ended       atomic.Int64
	moves       atomic.Int64
	panics      atomic.Int64

	mu       sync.RWMutex // guards the following fields
	sessions map[string]*session
	byIP     map[netip.Addr]int
	buried   map[string]time.Time // sessions that must not come back, and until when
	perIP    int
	stopped  bool
}

// New returns a Server. TCP clients are taken to their origins by the router, in
// whose place sources stand for UDP.
func New(cfg Config, sources udp.Sources, router *route.Router, rl *relay.Relay, log *slog.Logger) *Server {
	cfg.Idle = cmp.Or(cfg.Idle, DefaultIdle)
	cfg.MaxSessions = cmp.Or(cfg.MaxSessions, DefaultMaxSessions)
	cfg.Handshaking = cmp.Or(cfg.Handshaking, defaultHandshaking)
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, defaultHandshakeTimeout)
	cfg.Shards = max(cfg.Shards, 1)
	s := &Server{
		cfg: cfg, router: router, relay: rl, log: log.With("proto", "webrtc"), started: time.Now(),
		sessions: make(map[string]*session), byIP: make(map[netip.Addr]int), buried: make(map[string]time.Time), perIP: cmp.Or(cfg.PerIP, DefaultPerIP),
	}
	for range cfg.Shards {
		s.shards = append(s.shards, shard{byAddress: make(map[udp.Peer]*session), prover: s.newProver()})
	}
	s.udp = udp.New(udp.Config{Listen: cfg.Listen, Shards: cfg.Shards}, s, sources, s.log)
	return s
}

// listenTries is how often a port that the kernel chose for UDP is tried for TCP too.
const listenTries = 8

// Listen binds the addresses, or none.
func (s *Server) Listen() error {
	for try := 1; ; try++ {
		if err := s.udp.Listen(); err != nil {
			return err
		}
		if !s.cfg.TCP {
			return nil
		}
		host, wanted, err := net.SplitHostPort(s.cfg.Listen)
		if err != nil {
			return err
		}
		port := s.udp.Addr().(*net.UDPAddr).Port
		if s.tcp, err = listener.Listen(net.JoinHostPort(host, strconv.Itoa(port)), s.cfg.Listener); err == nil {
			return nil
		}
		s.udp.Close()
		if wanted != "0" || try == listenTries {
			return err
		}
	}
}

// Addr is where the server listens, once Listen has returned: a *net.UDPAddr.
func (s *Server) Addr() net.Addr { return s.udp.Addr() }

// Close frees the addresses of a server that will not Run.
func (s *Server) Close() {
	s.udp.Close()
	if s.tcp != nil {
		s.tcp.Close()
	}
}

// Run serves until ctx is cancelled, then ends all sessions.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.udp.Run(ctx) })
	g.Go(func() error { return s.sweep(ctx) })
	if s.tcp != nil {
		g.Go(func() error { return s.runTCP(ctx) })
	}
	return g.Wait()
}
