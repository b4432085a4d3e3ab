// Package srt is the proxy's SRT side: it proves a caller's address, reads its stream
// id, repeats its handshake toward the stream's origin, and then moves datagrams.
//
//	caller ─ induction ──▶ answered with a cookie; nothing is kept
//	       ─ conclusion ─▶ cookie and stream id ─▶ route.Router: which origin
//	                         induction ─▶ origin ─ its cookie
//	                         the caller's conclusion with that cookie ─▶ origin
//	       ◀─ the origin's answer ─────────────────────────────────────────┘
//	caller ◀════════ datagrams, only the socket id is looked at ════════▶ origin
//
// SRT ends at the origin, not here: latency, retransmission and encryption are agreed
// on by caller and origin, and a passphrase is theirs alone. What belongs to a session
// is touched by its shard's goroutine only. Listeners behind the proxy do not call
// out, so the rendezvous mode is refused.
package srt

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/udp"
)

// Config of a Server. Zero values mean the defaults.
type Config struct {
	Listen string // "host:port", or ":port" for all interfaces
	Shards int    // see udp.Config

	// StreamIDs have to be those of the origins; "" means SRS's.
	StreamIDs StreamIDs

	// DialTimeout is how long one origin has for its part of the handshake; 0 means 1 s.
	DialTimeout time.Duration
	// Idle ends a session of which one side sends nothing; 0 means 10 s. SRT sends at
	// least a keepalive every second.
	Idle time.Duration
	// PerIP is how many sessions a client address may have: 0 means 64, negative any number.
	PerIP int
	// Handshaking is how many sessions may wait for their origin; 0 means 2,048.
	Handshaking int
}

const (
	defaultIdle        = 10 * time.Second
	defaultPerIP       = 64
	defaultHandshaking = 2048
)

func (c Config) withDefaults() Config {
	c.DialTimeout = cmp.Or(c.DialTimeout, route.DefaultDialTimeout)
	c.Idle = cmp.Or(c.Idle, defaultIdle)
	return c
}

// StreamIDs is what stream ids leave open (SRS's srt_server).
type StreamIDs struct {
	Default    string // what an empty one means
	DefaultApp string // the app of one that is only a name
}

func (d StreamIDs) withDefaults() StreamIDs {
	return StreamIDs{cmp.Or(d.Default, srt.DefaultStreamID), cmp.Or(d.DefaultApp, srt.DefaultApp)}
}

// Server serves SRT callers.
type Server struct {
	cfg    Config
	router *route.Router
	log    *slog.Logger
	udp    *udp.Server
	key    cookieKey
	tables []*table // by shard

	streamIDs   atomic.Pointer[StreamIDs]
	handshaking atomic.Int64 // see Config.Handshaking

	ids      atomic.Uint64
	counters counters
	clients  clients
	// placing are the goroutines that find origins and give leases back; stop ends
	// those that wait.
	placing sync.WaitGroup
	running context.Context
	stop    context.CancelCauseFunc
}

// tick is how often a shard looks at its handshakes, while it has any.
const tick = 50 * time.Millisecond

// New returns a Server. The sources are as in udp.New.
func New(cfg Config, router *route.Router, sources udp.Sources, log *slog.Logger) *Server {
	s := &Server{cfg: cfg.withDefaults(), router: router, log: log, key: newCookieKey()}
	s.Adjust(cfg.StreamIDs, cfg.Handshaking, cfg.PerIP)
	s.running, s.stop = context.WithCancelCause(context.Background())
	s.udp = udp.New(udp.Config{Listen: cfg.Listen, Shards: cfg.Shards, Tick: sweepPeriod}, handler{s}, sources, log)
	return s
}

// Listen binds the address.
func (s *Server) Listen() error {
	if err := s.udp.Listen(); err != nil {
		return err
	}
	for _, sh := range s.udp.Shards() {
		s.tables = append(s.tables, newTable(s, sh))
	}
	return nil
}

// Addr is where the server listens, once Listen has returned: a *net.UDPAddr.
func (s *Server) Addr() net.Addr { return s.udp.Addr() }

// Close frees the address of a server that will not Run.
func (s *Server) Close() { s.udp.Close() }

// errShutdown is why sessions end when the proxy stops.
var errShutdown = errors.New("the proxy stops")

// Run serves callers until ctx is cancelled. Then it ends all sessions, tells both of
// their sides, and returns.
func (s *Server) Run(ctx context.Context) error {
	loops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		s.stop(errShutdown)
		s.endAll()
		cancel()
	})
	defer stop()
	s.placing.Go(func() { s.watchOrigins(loops) })
	err := s.udp.Run(loops)
	cancel()
	s.stop(errShutdown)
	s.placing.Wait()
	return err
}

// endAll ends the sessions of all shards and returns when that is done.
func (s *Server) endAll() {
	var ended sync.WaitGroup
	for _, t := range s.tables {
		ended.Add(1)
		if !t.sh.Post(func() { t.endAll(); ended.Done() }) {
			ended.Done()
		}
	}
	ended.Wait()
}

// Adjust changes what can change while callers are served, for those to come; see Config.
func (s *Server) Adjust(ids StreamIDs, handshaking, perIP int) {
	ids = ids.withDefaults()
	s.streamIDs.Store(&ids)
	s.handshaking.Store(int64(cmp.Or(handshaking, defaultHandshaking)))
	s.clients.setMost(cmp.Or(perIP, defaultPerIP))
}

// handler is what the shards call.
type handler struct{ s *Server }

func (h handler) FromClient(sh *udp.Shard, payload []byte, from udp.Peer) {
	h.s.tables[sh.Index()].fromClient(payload, from)
}

func (h handler) Tick(sh *udp.Shard, now time.Time) { h.s.tables[sh.Index()].tick(now) }

// clients counts the sessions of each address.
type clients struct {
	mu     sync.Mutex // guards what follows
	most   int        // negative: any number
	counts map[netip.Addr]int
}

func (c *clients) setMost(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = n
}

// add counts a session in, unless its address has as many as it may.
func (c *clients) add(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 && c.counts[a] >= c.most {
		return false
	}
	if c.counts == nil {
		c.counts = make(map[netip.Addr]int)
	}
	c.counts[a]++
	return true
}

func (c *clients) remove(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[a]--; c.counts[a] <= 0 {
		delete(c.counts, a)
	}
}
