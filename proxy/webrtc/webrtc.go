// Package webrtc moves the media of WebRTC sessions. Signalling is not done here: it
// adds a session when the origin has answered an offer.
//
//	signalling ─Add/Remove─▶ sessions by username ("ufrag of the answer:of the offer")
//	                              │ first STUN request: MESSAGE-INTEGRITY proves the client
//	client ══ UDP ══▶ by address ─┴─▶ the session's flow ══▶ origin
//	client ══ TCP ══▶ first frame is such a request ══ splice ══▶ origin
//
// Nothing is decrypted. A datagram of an address that proved nothing is never passed
// on and never answered. What a session's client sends (STUN, DTLS, SRTP, SRTCP,
// RFC 7983) goes to the session's origin, whose answers go to where the client was
// last proved to be.
package webrtc

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/udp"
)

// Defaults of Config.
const (
	DefaultIdle        = 30 * time.Second // SRS's stun_timeout too
	DefaultPerIP       = 64
	DefaultMaxSessions = 100_000
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
	// ErrIdle: no datagram of the client for Config.Idle, or none at all.
	ErrIdle = errors.New("nothing came from the client")
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
	// Idle is how long a session lives without a datagram from its client; 0 means 30 s.
	Idle time.Duration
	// PerIP is how many sessions one client address may have: 0 means 64, negative no limit.
	PerIP int
	// MaxSessions is how many sessions there may be; 0 means 100,000.
	MaxSessions int
}

// Session is what signalling knows of a session once the origin has answered.
type Session struct {
	// LocalUfrag and LocalPwd are a=ice-ufrag and a=ice-pwd of the origin's answer,
	// RemoteUfrag is that of the client's offer.
	LocalUfrag, LocalPwd, RemoteUfrag string

	Stream   balancer.Stream
	Role     balancer.Role
	OriginID string
	// UDP is the origin's RTC endpoint. TCP is that over TCP, zero if it has none.
	UDP, TCP netip.AddrPort
	// Client is who signalled: for the limit of its address and for logs.
	Client netip.AddrPort

	// OnEnd, if set, is called exactly once when an added session has ended: by
	// Remove, by idling or by the end of the server. It may run on a shard's
	// goroutine or on Remove's and must neither block nor call back. The place to
	// give a lease back is a goroutine of its own.
	OnEnd func(End)
}

// Username is what identifies a session: the USERNAME of the client's STUN requests
// (RFC 8445, section 7.2.2), and SRS's "session" in its Location header.
func (s *Session) Username() string { return s.LocalUfrag + ":" + s.RemoteUfrag }

// End is how a session went.
type End struct {
	Cause error // ErrIdle, ErrRemoved, ErrStopped
	Info
}

// Info is a session as it stands.
type Info struct {
	Username string
	Stream   balancer.Stream
	Role     balancer.Role
	OriginID string
	Since    time.Time
	// Media is the client's proved address, invalid before the first request that
	// proves it. Local is the session's address as its origin sees it.
	Media, Local netip.AddrPort
	TCP          bool // the client is there over TCP
	// Payload bytes; datagrams over UDP only.
	BytesIn, BytesOut         int64 // from the client, to the client
	DatagramsIn, DatagramsOut int64
}

// Stats are the server's counters.
type Stats struct {
	Sessions  int64 // now
	Addresses int64 // of clients that are bound to a session now
	Added     int64
	Ended     int64
	Moves     int64 // a client that was proved at another address
	UDP       udp.Stats
	TCP       listener.Stats

	// Datagrams of clients that were dropped.
	Malformed    int64 // not STUN though it began like it, or beyond the parser's bounds
	Unknown      int64 // no session has the username
	BadIntegrity int64 // MESSAGE-INTEGRITY is missing or wrong
	Unbound      int64 // no STUN, from an address that proved nothing
	NoFlow       int64 // no way to the origin could be made
	Homeless     int64 // from the origin, before the client was proved or after its end
}

// Server serves the media of the sessions that were added.
type Server struct {
	cfg Config
	log *slog.Logger
	udp *udp.Server
}

// New returns a Server.
func New(cfg Config, sources udp.Sources, rl *relay.Relay, log *slog.Logger) *Server {
	return &Server{cfg: cfg, log: log}
}

// Listen binds the addresses, or none.
func (s *Server) Listen() error { return nil }

// Addr is where the server listens, once Listen has returned: a *net.UDPAddr.
func (s *Server) Addr() net.Addr { return &net.UDPAddr{} }

// Close frees the addresses of a server that will not Run.
func (s *Server) Close() {}

// Run serves until ctx is cancelled, then ends all sessions.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Add makes a session known: datagrams of its client are served from now on. It ends
// by itself if none comes.
func (s *Server) Add(se Session) error { return nil }

// Remove ends a session at once. It says false if there is none of that username.
func (s *Server) Remove(username string) bool { return false }

// Lookup tells of a session.
func (s *Server) Lookup(username string) (Info, bool) { return Info{}, false }

// Sessions lists all sessions, in no order.
func (s *Server) Sessions() []Info { return nil }

// SetPerIP changes the limit of a Config. Sessions that are open stay.
func (s *Server) SetPerIP(n int) {}

// Stats returns the counters.
func (s *Server) Stats() Stats { return Stats{} }
