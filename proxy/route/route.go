// Package route takes a session to an origin.
//
//	Connect: Admit ─▶ Pick ─▶ dial ─▶ try ──▶ *Conn (socket + lease)
//	                   ▲        └ failed: report, exclude ┘
//	                   └────── another origin, at most 3 ─┘
//
// Hold is the same without the dial and the socket, for a session whose media are
// datagrams. The package knows neither protocols nor placement: the balancer says
// where, the caller's try function speaks first. Who may publish and play at all is
// asked here too, also for requests that are no session (Allow).
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/streamurl"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/source"
)

// Defaults of Config.
const (
	DefaultDialTimeout = time.Second
	DefaultAttempts    = 3
)

// Proto is the endpoint of an origin that a session needs.
type Proto int

// Protocols with an endpoint of their own.
const (
	RTMP Proto = iota
	HTTP
	API
	RTC
	SRT
)

func (p Proto) String() string { return [...]string{"rtmp", "http", "api", "rtc", "srt"}[p] }

// Errors of Connect, besides those of the balancer.
var (
	// ErrBusy says that the proxy is near its limit of sessions: new plays are
	// refused at 90 % of it, new publishes at all of it. It is out of descriptors
	// before that where other things have taken them.
	ErrBusy = errors.New("too many sessions on this proxy")
	// ErrNoEndpoint says that the origin does not serve the protocol.
	ErrNoEndpoint = errors.New("the origin has no such endpoint")
)

// Config of a Router.
type Config struct {
	Vhosts      []string      // vhosts that the origins know; others fold into the default one
	DialTimeout time.Duration // of one dial; 0 means 1 s
	Attempts    int           // origins tried for one session; 0 means 3
	MaxSessions int           // of all protocols; 0 means no limit
	Access      access.Rules  // who may publish and play
	// Sources are the addresses from which origins of this machine are dialed for
	// RTMP, so that they tell clients apart; nil dials as the kernel likes.
	Sources *source.Pool
	// Failed, if set, is told of each origin that could not be reached.
	Failed func(originID string)
}

// Request is what a session asks for.
type Request struct {
	Stream balancer.Stream
	Role   balancer.Role
	Proto  Proto
	// Client is whose session it is.
	Client netip.AddrPort
	// Moved, if set, is called when the stream of a session that is here is published
	// at another origin than the session's: it can only come back. The call is on a
	// goroutine of its own, at most once, and may come after the session's end.
	Moved func()
}

// ErrMoved is for the sessions that Request.Moved ends.
var ErrMoved = errors.New("the stream is not at this origin any more")

// Router connects sessions to origins.
type Router struct {
	cfg      Config
	bal      balancer.Balancer
	log      *slog.Logger
	vhosts   atomic.Pointer[streamurl.Vhosts]
	access   atomic.Pointer[access.Rules]
	dialer   net.Dialer
	sessions atomic.Int64
	draining atomic.Bool

	streams        streams
	toldSourceless atomic.Bool // see sourceless
}

// New returns a Router over bal.
func New(cfg Config, bal balancer.Balancer, log *slog.Logger) *Router {
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = DefaultDialTimeout
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = DefaultAttempts
	}
	r := &Router{cfg: cfg, bal: bal, log: log}
	r.SetVhosts(cfg.Vhosts...)
	r.SetAccess(cfg.Access)
	r.dialer = net.Dialer{Timeout: synPatience, KeepAlive: -1, Control: control}
	r.dialer.SetMultipathTCP(false)
	if b, ok := bal.(interface {
		OnMoved(func(s balancer.Stream, pin uint64))
	}); ok {
		b.OnMoved(r.streams.leave)
	}
	return r
}

// SetVhosts changes the vhosts that the origins know, for sessions from now on.
func (r *Router) SetVhosts(names ...string) {
	v := streamurl.NewVhosts(names...)
	r.vhosts.Store(&v)
}

// SetAccess changes who may publish and play, for sessions from now on.
func (r *Router) SetAccess(rules access.Rules) { r.access.Store(&rules) }

// Allow says whether a client may publish or play: the error is access.ErrDenied.
// Connect and Hold ask it themselves; this is for requests that do without.
func (r *Router) Allow(role balancer.Role, client netip.Addr) error {
	return r.access.Load().Check(role, client)
}

// Stream is the routing key of a URL: its vhost is folded to what the origins know.
func (r *Router) Stream(u streamurl.Stream) balancer.Stream {
	return balancer.Stream{Vhost: r.vhosts.Load().Fold(u.Vhost), App: u.App, Name: u.Name}
}

// Lookup is where a request without a session goes.
func (r *Router) Lookup(ctx context.Context, s balancer.Stream) (balancer.Origin, error) {
	return r.bal.Lookup(ctx, s)
}

// Origins are those that the balancer knows now.
func (r *Router) Origins(ctx context.Context) ([]balancer.Status, error) {
	return r.bal.Origins(ctx)
}

// ReportDial tells the balancer how a dial of an origin went; nil is a success. What
// failed for want of descriptors says nothing about the origin.
func (r *Router) ReportDial(ctx context.Context, originID string, err error) {
	if noDescriptors(err) {
		return
	}
	r.bal.ReportDial(ctx, originID, err)
	if err != nil && r.cfg.Failed != nil {
		r.cfg.Failed(originID)
	}
}

// Drain refuses sessions from now on, with ErrBusy; those that there are go on.
func (r *Router) Drain() { r.draining.Store(true) }

var errDraining = fmt.Errorf("the proxy is about to stop: %w", ErrBusy)

// Sessions is how many sessions hold a connection now.
func (r *Router) Sessions() int { return int(r.sessions.Load()) }

// Conn is a connection to an origin with the lease it is held under.
type Conn struct {
	*net.TCPConn
	Lease balancer.Lease

	router *Router
	source netip.Addr // that it was dialed from, if it has one of its own
	closed atomic.Bool
	// accepted and refused tell what the origin said to the publish, if anything.
	accepted, refused atomic.Bool
	// held tells that the Conn was handed out, and Close gives the lease back;
	// until then the lease is Connect's, whatever a try function does.
	held atomic.Bool
	// moved is the Request's, of a publish.
	moved func()
}

// Forget lets go of a connection that somebody else has closed. After it only Close may
// be used, and what it does not need.
func (c *Conn) Forget() { c.TCPConn = nil }

// Close closes the socket and gives the lease back.
func (c *Conn) Close() error {
	var err error
	if c.TCPConn != nil {
		err = c.TCPConn.Close()
	}
	if c.closed.CompareAndSwap(false, true) {
		c.router.releaseSource(c.source)
	}
	if c.held.CompareAndSwap(true, false) {
		c.router.streams.remove(c.Lease.Stream, c)
		l := c.Lease
		l.Served, l.Refused = c.accepted.Load(), c.refused.Load()
		c.router.release(l)
	}
	return err
}

// Refuse closes c after its origin refused the publish without a word, and tells
// whether the stream is to be published at another origin now (see balancer.MaxRefusals).
func (c *Conn) Refuse(ctx context.Context) (elsewhere bool) {
	c.refused.Store(true)
	c.Close()
	o, err := c.router.Lookup(ctx, c.Lease.Stream)
	return err == nil && o.ID != c.Lease.Origin.ID
}

// release ends a session.
func (r *Router) release(l balancer.Lease) {
	r.sessions.Add(-1)
	r.giveBack(l)
}

func (r *Router) giveBack(l balancer.Lease) {
	// The session's context is over by now; what is left must be told all the same.
	if err := r.bal.Release(context.Background(), l); err != nil {
		r.log.Warn("release of a lease failed", "stream", l.Stream.String(), "origin", l.Origin.ID, "cause", err)
	}
}

// retryError marks a failure of try that another origin may not have.
type retryError struct{ error }

func (e retryError) Unwrap() error { return e.error }

// Retry marks an error of a try function: the origin is to blame (it closed or did
// not answer) and nothing of it has reached the client, so another may serve.
func Retry(err error) error {
	if err == nil {
		return nil
	}
	return retryError{err}
}

// Connect takes a session to the origin of its stream. try, if not nil, speaks
// first on each new connection; when it fails with an error of Retry, and when a
// dial fails, the origin is reported and excluded and another one is tried. The
// caller closes the Conn.
func (r *Router) Connect(ctx context.Context, req Request, try func(ctx context.Context, c *Conn) error) (*Conn, error) {
	var conn *Conn
	_, err := r.place(ctx, req, func(ctx context.Context, lease balancer.Lease) (err error) {
		conn, err = r.connectTo(ctx, lease, req, try)
		return err
	})
	if err != nil {
		return nil, err
	}
	conn.held.Store(true)
	switch {
	case req.Role == balancer.Publish:
		conn.moved = req.Moved
	case req.Moved != nil:
		r.streams.play(conn.Lease, conn, req.Moved)
	}
	return conn, nil
}

// place finds an origin that takes a session, if the client may have it at all. Then
// the session is counted and the lease held; the caller releases both.
func (r *Router) place(ctx context.Context, req Request, take func(context.Context, balancer.Lease) error) (balancer.Lease, error) {
	if err := r.Allow(req.Role, req.Client.Addr()); err != nil {
		return balancer.Lease{}, err
	}
	if r.draining.Load() {
		return balancer.Lease{}, errDraining
	}
	if !r.admit(req.Role) {
		return balancer.Lease{}, ErrBusy
	}
	var exclude []string
	var last error
	patience := time.Now().Add(ownerPatience)
	for attempt := 0; attempt < r.cfg.Attempts; attempt++ {
		lease, err := r.bal.Pick(ctx, balancer.Request{Stream: req.Stream, Role: req.Role, Exclude: exclude})
		if errors.Is(err, balancer.ErrOwnerUnreachable) && last != nil && time.Now().Before(patience) && sleep(ctx, ownerPause) {
			exclude, attempt = nil, -1 // by now it may be gone, or back
			continue
		}
		if err != nil {
			r.sessions.Add(-1)
			return balancer.Lease{}, errors.Join(err, last)
		}
		if req.Role == balancer.Publish && lease.Origin.State == balancer.Draining && time.Now().Before(patience) {
			r.giveBack(lease)
			if !sleep(ctx, ownerPause) {
				r.sessions.Add(-1)
				return balancer.Lease{}, context.Cause(ctx)
			}
			attempt--
			continue
		}
		if err = r.follow(ctx, lease, take); err == nil {
			r.bal.ReportDial(ctx, lease.Origin.ID, nil)
			return lease, nil
		}
		if errors.Is(err, ErrMoved) && ctx.Err() == nil {
			last = err
			r.giveBack(lease)
			continue
		}
		var again retryError
		if !errors.As(err, &again) || ctx.Err() != nil {
			r.release(lease)
			return balancer.Lease{}, err
		}
		r.ReportDial(ctx, lease.Origin.ID, err)
		level := slog.LevelWarn
		if last != nil && attempt == 0 { // the owner, once more
			level = slog.LevelDebug
		}
		r.log.Log(ctx, level, "origin did not take the session, trying another", "stream", req.Stream.String(), "origin", lease.Origin.ID, "proto", req.Proto.String(), "cause", err)
		exclude = append(exclude, lease.Origin.ID)
		last = err
		r.giveBack(lease)
	}
	r.sessions.Add(-1)
	return balancer.Lease{}, fmt.Errorf("%d origins tried: %w", r.cfg.Attempts, last)
}

// follow is take, which ends with ErrMoved if the stream that a player is about to get
// there is published at another origin meanwhile: SRS answers a player of HTTP-FLV
// when somebody publishes, and here nobody would.
func (r *Router) follow(ctx context.Context, lease balancer.Lease, take func(context.Context, balancer.Lease) error) error {
	if lease.Role == balancer.Publish {
		return take(ctx, lease)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waiter := new(balancer.Lease) // an identity
	r.streams.play(lease, waiter, func() { cancel(ErrMoved) })
	defer r.streams.remove(lease.Stream, waiter)
	err := take(ctx, lease)
	if err != nil && errors.Is(context.Cause(ctx), ErrMoved) {
		return ErrMoved
	}
	return err
}

// An origin that has just died owns its streams until its publishers' sessions and
// the balancer have noticed, a moment later. Who comes in that moment waits for it.
// So does who publishes a stream that is still published on an origin that drains: it
// may be the same encoder, back before its last session was seen to end, and then
// belongs on another origin. If it is not, this one refuses it as it would have.
const (
	ownerPatience = time.Second
	ownerPause    = 50 * time.Millisecond
)

// sleep waits and tells whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// admit counts a session in, unless that is one too many. One that is refused is
// never counted: a flood of plays must not fill the room kept for publishes.
func (r *Router) admit(role balancer.Role) bool {
	most := int64(r.cfg.MaxSessions)
	if most > 0 && role != balancer.Publish {
		most -= most / 10
	}
	for {
		n := r.sessions.Load()
		if most > 0 && n >= most {
			return false
		}
		if r.sessions.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (r *Router) connectTo(ctx context.Context, lease balancer.Lease, req Request, try func(context.Context, *Conn) error) (*Conn, error) {
	addr := endpoint(lease.Origin, req.Proto)
	if addr == "" {
		return nil, noEndpoint(lease, req.Proto)
	}
	from := r.takeSource(req, addr)
	nc, err := r.dialFrom(ctx, from, addr)
	if err != nil {
		r.releaseSource(from)
		err = fmt.Errorf("dial origin %s: %w", lease.Origin.ID, err)
		if noDescriptors(err) {
			return nil, fmt.Errorf("%w: %w", ErrBusy, err)
		}
		return nil, Retry(err)
	}
	c := &Conn{TCPConn: nc.(*net.TCPConn), Lease: lease, router: r, source: from}
	if try != nil {
		if err := try(ctx, c); err != nil {
			c.Close()
			return nil, fmt.Errorf("origin %s: %w", lease.Origin.ID, err)
		}
	}
	return c, nil
}

func noEndpoint(lease balancer.Lease, proto Proto) error {
	return fmt.Errorf("origin %s, %s: %w", lease.Origin.ID, proto, ErrNoEndpoint)
}

func endpoint(o balancer.Origin, p Proto) string {
	switch p {
	case RTMP:
		return o.Endpoints.RTMP
	case HTTP:
		return o.Endpoints.HTTP
	case RTC:
		return o.Endpoints.RTC
	case SRT:
		return o.Endpoints.SRT
	default:
		return o.Endpoints.API
	}
}
