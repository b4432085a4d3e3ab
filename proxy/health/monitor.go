// Package health knows the origins that are not this machine's supervisor's: those that
// register themselves, and those that are listed. It looks after them.
//
//	registration ─▶ Register ─┐          ┌─ heartbeats stop, listed no more ─▶ draining, forgotten
//	--origin ─────▶ List ─────┴▶ member ─┤
//	             (names: DNS)      │     └─ 3 misses, or refused ─▶ down ─ 2 answers ─▶ up
//	                               │         (API or RTMP handshake, each second)
//	                               └▶ balancer.Update, Remove
//
// A heartbeat says that an origin lives, a check that it can be reached from here; it
// takes both. Nobody is taken out when most origins stop answering at the same time, or
// when our own clock stood still: that is this host's trouble and not theirs. The package
// starts no origin and ends no session.
package health

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"srs-proxy/balancer"
)

// Config of a Monitor. Zero values mean the defaults.
type Config struct {
	// TTL is how long an origin is known after its last registration.
	TTL time.Duration
	// Interval is between the begins of two checks of an origin; Timeout is what a check
	// may take, and when it takes longer than the Interval the next one follows at once.
	Interval, Timeout time.Duration
	// Misses in a row take an origin out, Passes in a row let it in again.
	Misses, Passes int
	// Most bounds the origins that register, with those that are listed.
	Most int
	// Shared says that other proxies register origins in the same balancer.
	Shared bool
	// Lost is called when an origin is down; its sessions have no use any more. It may be
	// nil, and must not call the Monitor.
	Lost func(originID string)
	// Lookup asks for the addresses of a host name; nil asks the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Defaults of Config.
const (
	// DefaultTTL is three missed heartbeats of 9 s, and a moment for the third.
	DefaultTTL      = 30 * time.Second
	DefaultInterval = time.Second
	DefaultTimeout  = 1500 * time.Millisecond
	DefaultMisses   = 3
	DefaultPasses   = 2
	DefaultMost     = 1024
)

// rtmpRounds is in how many checks the port of RTMP is tried although the API answers:
// each leaves lines in the origin's log.
const rtmpRounds = 5

// checksAtOnce bounds the checks under way.
const checksAtOnce = 128

// lateTick is how late our own tick may be before checks are taken for unreliable.
const lateTick = 500 * time.Millisecond

// ErrTooMany says that no more origins can register.
var ErrTooMany = errors.New("too many origins are registered")

var errGone = errors.New("the origin was forgotten at the same moment")

// Balancer is what the package needs of one.
type Balancer interface {
	Update(ctx context.Context, o balancer.Origin) error
	Remove(ctx context.Context, id string) error
	Origins(ctx context.Context) ([]balancer.Status, error)
}

// Origin is one that is to be looked after.
type Origin struct {
	// ID is the place: the address of RTMP, or the name of one that is listed by address.
	// It is empty in Register.
	ID string
	// Name is what the operator calls it, Server what it calls itself.
	Name, Server string
	// Service tells processes apart; PID is for people.
	Service   string
	PID       int
	Endpoints balancer.Endpoints
	// Static says that it was listed, and stays.
	Static bool
}

// Monitor looks after origins.
type Monitor struct {
	cfg     Config
	bal     Balancer
	log     *slog.Logger
	checker *checker
	// check is the checker's; tests of time have no network.
	check func(ctx context.Context, e balancer.Endpoints, withRTMP bool) finding

	turns chan struct{} // of the checks under way
	kick  chan struct{} // asks for a round at once

	listing sync.Mutex // held while members are made to be what is listed

	mu      sync.Mutex // guards the following
	members map[string]*member
	most    int
	listed  []Listing
	hosts   map[string]*host // whose names are in listed
	// lastLate is when our own tick was last late.
	lastLate time.Time
}

// New returns a Monitor; it does nothing yet.
func New(cfg Config, bal Balancer, log *slog.Logger) *Monitor {
	cfg.TTL = cmp.Or(cfg.TTL, DefaultTTL)
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	cfg.Misses = cmp.Or(cfg.Misses, DefaultMisses)
	cfg.Passes = cmp.Or(cfg.Passes, DefaultPasses)
	cfg.Most = cmp.Or(cfg.Most, DefaultMost)
	if cfg.Lookup == nil {
		cfg.Lookup = lookup
	}
	c := newChecker(cfg.Timeout)
	return &Monitor{
		cfg: cfg, bal: bal, log: log, checker: c, check: c.check, most: cfg.Most,
		members: make(map[string]*member), hosts: make(map[string]*host), turns: make(chan struct{}, checksAtOnce), kick: make(chan struct{}, 1),
	}
}

// SetMost changes Config.Most. Who is in stays.
func (m *Monitor) SetMost(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.most = n
}

// Register takes an origin in, or its next heartbeat. When it returns nil, the
// balancer knows. The same address of RTMP is the same place: whoever registers from
// there with another Service has replaced the process that was there.
func (m *Monitor) Register(ctx context.Context, o Origin) error {
	o.Static = false
	o.ID = o.Endpoints.RTMP
	err := m.admit(ctx, o)
	if errors.Is(err, errGone) {
		err = m.admit(ctx, o)
	}
	return err
}

func (m *Monitor) admit(ctx context.Context, o Origin) error {
	key := o.Endpoints.RTMP
	m.mu.Lock()
	known := m.members[key]
	if known == nil {
		if !o.Static && len(m.members) >= m.most {
			m.mu.Unlock()
			return ErrTooMany
		}
		now := time.Now()
		known = &member{m: m, log: m.log.With("origin", o.ID), Origin: o, process: o.Service, since: now, due: now}
		known.mu.Lock() // before anybody else can see it
		m.members[key] = known
		m.suspectLocked(known)
		m.mu.Unlock()
		// Who registers is as good as its word. A listed one is asked first: it is not
		// known whether it is there, nor which process it is.
		if !o.Static {
			known.beat = now
			known.setLocked(true)
		}
		err := known.syncLocked(ctx, false)
		known.gone = err != nil
		known.mu.Unlock()
		if err != nil {
			m.forget(key, known)
			return err
		}
		known.log.Info("the origin is known", "name", o.Name, "server", o.Server, "service", o.Service, "pid", o.PID, "endpoints", o.Endpoints, "listed", o.Static)
		return nil
	}
	m.mu.Unlock()
	if o.Static {
		return known.list(ctx, o)
	}
	return known.register(ctx, o)
}

// suspectLocked looks for the place that an origin had before, elsewhere: what calls
// itself the same and is another process. One failed check is enough to end that one.
func (m *Monitor) suspectLocked(n *member) {
	if n.Server == "" || n.Static {
		return
	}
	for _, o := range m.members {
		if o == n {
			continue
		}
		o.mu.Lock()
		if !o.Static && o.Server == n.Server && o.Name == n.Name && o.Service != n.Service {
			o.suspect, o.due = true, time.Now()
			o.log.Info("the origin may have moved: the same server registered from elsewhere", "to", n.ID)
		}
		o.mu.Unlock()
	}
}

func (m *Monitor) forget(key string, o *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.members[key] == o {
		delete(m.members, key)
	}
}

// Recheck has an origin checked at once, whose ID somebody could not connect to: when it
// is dead, nobody else should have to find that out.
func (m *Monitor) Recheck(originID string) {
	for _, o := range m.all() {
		if !o.hasten(originID) {
			continue
		}
		select {
		case m.kick <- struct{}{}:
		default: // one is asked for already
		}
	}
}

// hasten makes a check due, if the origin is the one that is meant.
func (o *member) hasten(originID string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ID != originID || !o.up || o.looking {
		return false
	}
	o.due, o.doubted = time.Now(), true
	return true
}

// Members are the origins that are looked after, by ID.
func (m *Monitor) Members() []Status {
	var all []Status
	for _, o := range m.all() {
		all = append(all, o.status())
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (m *Monitor) all() []*member {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*member, 0, len(m.members))
	for _, o := range m.members {
		all = append(all, o)
	}
	return all
}

// busy says that an origin has sessions. When that cannot be told, it has.
func (m *Monitor) busy(ctx context.Context, id string) bool {
	all, err := m.bal.Origins(ctx)
	if err != nil {
		return true
	}
	for _, o := range all {
		if o.ID == id {
			return o.Publishers+o.Players > 0
		}
	}
	return false
}

// Run checks until ctx is cancelled.
func (m *Monitor) Run(ctx context.Context) error {
	defer m.checker.Close()
	var checks sync.WaitGroup
	defer checks.Wait()
	step := max(m.cfg.Interval/8, time.Millisecond)
	tick := time.NewTicker(step)
	defer tick.Stop()
	before := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.kick:
			m.round(ctx, &checks, time.Now())
			continue
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(before) > step+lateTick {
			m.lateAt(now)
		}
		before = now
		m.round(ctx, &checks, now)
	}
}

// lateAt notes that this process, or its host, stood still until now.
func (m *Monitor) lateAt(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastLate = now
}

// trustworthy says that a check which began then was not held up by ourselves.
func (m *Monitor) trustworthy(began time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lastLate.Before(began)
}

// round begins the checks that are due.
func (m *Monitor) round(ctx context.Context, checks *sync.WaitGroup, now time.Time) {
	for _, name := range m.unresolved(now) {
		checks.Go(func() { m.resolve(ctx, name) })
	}
	for _, o := range m.all() {
		if o.expire(ctx) {
			m.forget(o.status().Endpoints.RTMP, o)
			continue
		}
		e, withRTMP, due := o.begin(now)
		if !due {
			continue
		}
		checks.Go(func() {
			select {
			case m.turns <- struct{}{}:
			case <-ctx.Done():
				return
			}
			began := time.Now()
			f := m.check(ctx, e, withRTMP)
			<-m.turns
			if f.err != nil && !f.gone && !m.trustworthy(began) {
				o.skip()
				return
			}
			o.found(ctx, f, began, m.massMiss(o))
		})
	}
}

// begin says whether it is time for a check, of which addresses, and how thorough.
func (o *member) begin(now time.Time) (e balancer.Endpoints, withRTMP, due bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone || o.looking || now.Before(o.due) {
		return e, false, false
	}
	o.looking = true
	o.rounds++
	thorough := o.rounds%rtmpRounds == 1 || o.misses > 0 || !o.up || o.doubted
	o.doubted = false
	return o.Endpoints, thorough, true
}

// skip ends a check that told nothing.
func (o *member) skip() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looking, o.due = false, time.Now().Add(o.m.cfg.Interval)
}

// massMiss says that more than half of the origins that get streams miss, o among
// them.
func (m *Monitor) massMiss(o *member) bool {
	up, missing := 1, 1
	for _, other := range m.all() {
		if other == o {
			continue
		}
		if s := other.status(); s.Up {
			up++
			if s.Missing {
				missing++
			}
		}
	}
	return up > 1 && 2*missing > up
}
