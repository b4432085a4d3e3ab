// Package redisbalancer is the Balancer of many proxies, with its state in Redis.
//
//	Pick, Release ─▶ held streams, known streams ─▶ (only if that does not answer) a script in Redis
//	                        ▲
//	Run ── events, polls ───┘── leases renewed, expired things ended
//
// What all proxies must agree on is decided by scripts, each of which is atomic: the origins,
// which stream is pinned to which, and which proxy holds it for how many sessions. Each
// proxy has a copy of the origins and of the published streams, kept true by events, so
// that a play of a known stream asks nobody. All that Redis has expires unless somebody
// renews it.
//
// The servers and the picks are kept where the existing proxy keeps them too
// (srs-proxy-all-servers, srs-proxy-server:ID, srs-proxy-url:STREAM, legacy.go), so both can
// serve one cluster of origins.
//
// In a Redis Cluster all keys are in one hash slot, by a hash tag in their prefix: Cluster
// is used for its availability. The state of 100,000 streams is some 60 MB, and what is
// asked of Redis is the change of it, not the traffic.
package redisbalancer

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"srs-proxy/balancer"
)

// Redis is a Balancer whose state is shared by all that use the same Redis.
type Redis struct {
	cfg  Config
	log  *slog.Logger
	rdb  redis.UniversalClient
	keys keyspace
	lua  scripts
	self string        // our name among the proxies; another one each time
	kick chan struct{} // something is to be told to Redis soon

	recovering sync.Mutex // held while what Redis lost is written back

	mu      sync.Mutex // guards the following fields
	epoch   string     // of the store that knows what we hold
	contact time.Time  // when Redis last said that our copy is true
	away    bool       // Redis does not answer
	since   time.Time  // when that began
	seq     int64      // the last event that our copy has

	placed  bool // a stream, since the origins' streams were counted
	origins map[string]*origin
	byKey   map[string]string   // the server's key to the origin's ID
	removed map[string]struct{} // while Redis was away
	known   map[string]known    // streams that were published, wherever
	entries map[string]*entry   // streams with sessions here, or that are being asked for
	leases  map[uint64]*held    // by Lease.Pin
	lastID  uint64
	moved   func(s balancer.Stream, pin uint64)
	dropped func(kind balancer.RouteKind, key string)
	asked   map[string]answer     // of lookups, for a moment
	routes  map[string]localRoute // that were stored here
}

var _ balancer.Balancer = (*Redis)(nil)

// New returns a balancer over the Redis of cfg. It asks Redis once, for as long as
// Config.Timeout: the error says that Redis refuses us (password, permissions). A Redis
// that can't be reached is no error, it may come back. Run keeps the balancer going.
func New(ctx context.Context, cfg Config, log *slog.Logger) (*Redis, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Redis{
		cfg:     cfg,
		log:     log,
		keys:    cfg.keyspace(),
		lua:     loadScripts(),
		self:    rand.Text()[:12],
		kick:    make(chan struct{}, 1),
		origins: make(map[string]*origin),
		byKey:   make(map[string]string),
		removed: make(map[string]struct{}),
		known:   make(map[string]known),
		entries: make(map[string]*entry),
		leases:  make(map[uint64]*held),
		asked:   make(map[string]answer),
		routes:  make(map[string]localRoute),
	}
	r.rdb = r.connect()
	if err := r.recover(ctx, ""); err != nil {
		if refused(err) {
			return nil, errors.Join(err, r.rdb.Close())
		}
		r.lose(err)
	}
	return r, nil
}

// Close ends the connections to Redis. What this proxy holds there expires, unless its
// sessions were released before.
func (r *Redis) Close() error { return r.rdb.Close() }

// Run keeps our copy true and our leases alive until ctx ends.
func (r *Redis) Run(ctx context.Context) error {
	var g sync.WaitGroup
	g.Go(func() { r.follow(ctx) })
	g.Go(func() { r.tellOn(ctx) })
	g.Go(func() { r.importOn(ctx) })
	g.Wait()
	return nil
}

// Fallback is what becomes of new streams while Redis is away.
type Fallback string

const (
	// Fail refuses them with balancer.ErrUnavailable.
	Fail Fallback = "fail"
	// Local places them by rendezvous hashing over the origins known last, which is
	// the same on every proxy.
	Local Fallback = "local"
)

// Config of a Redis balancer.
type Config struct {
	// Addrs are "host:port", or "/path" or "unix:/path" of a socket: one of a single
	// server, several of a Cluster's nodes or, with SentinelMaster, of its sentinels.
	Addrs []string
	// Cluster says that a single address is of a Cluster.
	Cluster        bool
	SentinelMaster string
	User, Password string
	DB             int
	// TLS is used if it is not nil; the certificate must be valid for the address.
	TLS *tls.Config
	// Prefix begins all keys; with none they are the existing proxy's.
	Prefix   string
	Fallback Fallback // "" means Fail

	// LeaseIdle is how long a stream stays on its origin after its last session; 0 means 60 s.
	LeaseIdle time.Duration
	// MaxPins bounds the pinned streams; 0 means 100,000.
	MaxPins int
	// OriginTTL is how long an origin is known after its last Update; 0 means 30 s.
	OriginTTL time.Duration

	// Timeout is how long one answer of Redis may take; 0 means 1 s. After one that
	// took longer Redis is away until it answers again.
	Timeout time.Duration
	// Hold is how long what a proxy holds outlives it; 0 means 30 s. It is renewed
	// three times in that. A store that no proxy reached for a third of it is taken for lost.
	Hold time.Duration
	// Settle is for how long no new stream is placed in a store that was found empty: the
	// time that all proxies have to write back what they hold; 0 means 2 s.
	Settle time.Duration
}

const (
	// pollEvery is how often a proxy asks whether something has expired. An origin's
	// death must be known in a second.
	pollEvery = 250 * time.Millisecond
	// countEvery is how often the streams of all origins are counted while some are placed.
	countEvery = time.Second
	// stale is for how long our copy is trusted without a word from Redis.
	stale = time.Second
)

// epochLife is after how long without any proxy a store is not trusted. It ends before the
// leases in it do, and before the origins, of which a proxy hears three times in their life:
// else who is back first would find those expired that others have heard of meanwhile.
func (c Config) epochLife() time.Duration { return min(c.Hold, c.OriginTTL) / 3 }

func (c Config) withDefaults() Config {
	c.Fallback = cmp.Or(c.Fallback, Fail)
	c.LeaseIdle = cmp.Or(c.LeaseIdle, balancer.DefaultLeaseIdle)
	c.MaxPins = cmp.Or(c.MaxPins, balancer.DefaultMaxPins)
	c.OriginTTL = cmp.Or(c.OriginTTL, 30*time.Second)
	c.Timeout = cmp.Or(c.Timeout, time.Second)
	c.Hold = cmp.Or(c.Hold, 30*time.Second)
	c.Settle = cmp.Or(c.Settle, 2*time.Second)
	return c
}
