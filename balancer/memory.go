package balancer

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Config of a Memory balancer. The zero value means the defaults.
type Config struct {
	// LeaseIdle is how long a stream stays on its origin after its last session,
	// so that a publisher that comes back finds its HLS files; 0 means 60 s.
	LeaseIdle time.Duration
	// MaxPins bounds the streams that are pinned at a time, idle ones included;
	// 0 means 100,000. When it is reached the longest idle one makes room.
	MaxPins int
}

// Defaults of Config.
const (
	DefaultLeaseIdle = 60 * time.Second
	DefaultMaxPins   = 100_000
)

// Memory is the Balancer of one process.
type Memory struct {
	leaseIdle time.Duration
	maxPins   int

	mu      sync.Mutex // guards the following fields
	origins map[string]*entry
	streams map[Stream]*pin // the pin that new sessions of a stream get
	pins    map[uint64]*pin // all pins with sessions or idling, by Lease.Pin
	lastPin uint64
	idle    *list.List // of *pin, the longest idle first
	routes  map[routeKey]storedRoute
	sweeper *time.Timer // nil when nothing is waiting to expire
}

// entry is an origin and what is on it.
type entry struct {
	Origin
	pins       map[*pin]struct{}
	publishers int
	players    int
	ejection   ejection
}

// pin ties a stream to an origin. A stream that moved leaves its old pin behind
// until that one's sessions have ended.
type pin struct {
	id         uint64
	stream     Stream
	origin     *entry
	publishers int
	players    int
	published  bool      // had a publisher once
	refusals   int       // of publishes in a row, while nobody else published
	servedAt   time.Time // when a publish that was accepted ended
	// refusedBy are the origins that the stream has left since then, each after it
	// refused a publish.
	refusedBy []string
	idleSince time.Time
	idleAt    *list.Element // nil while it has sessions
}

type routeKey struct {
	kind RouteKind
	key  string
}

type storedRoute struct {
	Route
	expires time.Time
}

var _ Balancer = (*Memory)(nil)

// NewMemory returns an empty balancer.
func NewMemory(cfg Config) *Memory {
	return &Memory{
		leaseIdle: cmp.Or(cfg.LeaseIdle, DefaultLeaseIdle),
		maxPins:   cmp.Or(cfg.MaxPins, DefaultMaxPins),
		origins:   make(map[string]*entry),
		streams:   make(map[Stream]*pin),
		pins:      make(map[uint64]*pin),
		idle:      list.New(),
		routes:    make(map[routeKey]storedRoute),
	}
}

// Update implements Balancer.
func (m *Memory) Update(_ context.Context, o Origin) error {
	if o.ID == "" {
		return fmt.Errorf("update of an origin without an id")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.origins[o.ID]
	switch {
	case e == nil:
		m.origins[o.ID] = &entry{Origin: o, pins: make(map[*pin]struct{})}
		return nil
	case e.Service != o.Service:
		m.removeLocked(e)
		m.origins[o.ID] = &entry{Origin: o, pins: make(map[*pin]struct{})}
		return nil
	}
	e.Origin = o
	return nil
}

// Remove implements Balancer.
func (m *Memory) Remove(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.origins[id]; e != nil {
		m.removeLocked(e)
	}
	return nil
}

func (m *Memory) removeLocked(e *entry) {
	for p := range e.pins {
		m.forgetLocked(p)
	}
	delete(m.origins, e.ID)
}

// Pick implements Balancer.
func (m *Memory) Pick(_ context.Context, r Request) (Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	p := m.streams[r.Stream]
	if p != nil && p.publishers > 0 {
		// The publisher is live: a second origin would split the stream.
		if slices.Contains(r.Exclude, p.origin.ID) {
			return Lease{}, fmt.Errorf("%w: origin %s", ErrOwnerUnreachable, p.origin.ID)
		}
		return m.leaseLocked(p, r.Role), nil
	}
	if p != nil && p.origin.available(now, r.Exclude) {
		return m.leaseLocked(p, r.Role), nil
	}
	e := leastLoaded(m.availableLocked(now, r.Exclude), rand.IntN)
	if e == nil {
		return Lease{}, fmt.Errorf("%w: %s", ErrNoOrigin, m.whyLocked(now, r.Exclude))
	}
	if p != nil {
		m.supersedeLocked(p)
	}
	if !m.roomLocked() {
		return Lease{}, ErrTooManyStreams
	}
	m.lastPin++
	p = &pin{id: m.lastPin, stream: r.Stream, origin: e}
	m.streams[r.Stream], m.pins[p.id] = p, p
	e.pins[p] = struct{}{}
	return m.leaseLocked(p, r.Role), nil
}

func (m *Memory) leaseLocked(p *pin, role Role) Lease {
	if role == Publish {
		p.publishers++
		p.origin.publishers++
		p.published = true
	} else {
		p.players++
		p.origin.players++
	}
	m.busyLocked(p)
	return Lease{Stream: p.stream, Role: role, Origin: p.origin.Origin, Pin: p.id}
}

// Release implements Balancer.
func (m *Memory) Release(_ context.Context, l Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pins[l.Pin]
	if p == nil {
		return nil // forgotten with its origin
	}
	if l.Role == Publish {
		p.publishers--
		p.origin.publishers--
	} else {
		p.players--
		p.origin.players--
	}
	m.countRefusalLocked(p, l)
	if p.publishers+p.players > 0 {
		return nil
	}
	if !p.published || m.streams[p.stream] != p {
		m.forgetLocked(p)
		return nil
	}
	p.idleSince = time.Now()
	p.idleAt = m.idle.PushBack(p)
	m.sweepLaterLocked()
	return nil
}

// countRefusalLocked notes how a publish went. One that is refused again and again is
// sent to another origin the next time, where a pin waits for it.
func (m *Memory) countRefusalLocked(p *pin, l Lease) {
	switch {
	case l.Role != Publish:
		return
	case l.Served:
		p.refusals, p.servedAt, p.refusedBy = 0, time.Now(), nil
		return
	case !l.Refused:
		return
	case p.publishers > 0 || m.streams[p.stream] != p:
		return
	}
	now := time.Now()
	if p.refusals++; p.refusals < MaxRefusals && now.Sub(p.servedAt) > ReturnTime {
		return
	}
	refusedBy := append(p.refusedBy, p.origin.ID)
	e := leastLoaded(m.availableLocked(now, refusedBy), rand.IntN)
	if e == nil { // all of them have
		refusedBy = []string{p.origin.ID}
		e = leastLoaded(m.availableLocked(now, refusedBy), rand.IntN)
	}
	if e == nil || !m.roomLocked() {
		return
	}
	delete(m.streams, p.stream) // players that wait on the old one keep it until they end
	m.lastPin++
	next := &pin{id: m.lastPin, stream: p.stream, origin: e, published: true, idleSince: now, servedAt: p.servedAt, refusedBy: refusedBy}
	next.idleAt = m.idle.PushBack(next)
	m.streams[next.stream], m.pins[next.id] = next, next
	e.pins[next] = struct{}{}
	m.sweepLaterLocked()
}

// supersedeLocked takes the stream from a pin; its sessions keep it until they end.
func (m *Memory) supersedeLocked(p *pin) {
	delete(m.streams, p.stream)
	if p.publishers+p.players == 0 {
		m.forgetLocked(p)
	}
}

func (m *Memory) forgetLocked(p *pin) {
	if m.streams[p.stream] == p {
		delete(m.streams, p.stream)
	}
	delete(m.pins, p.id)
	delete(p.origin.pins, p)
	p.origin.publishers -= p.publishers
	p.origin.players -= p.players
	m.busyLocked(p)
}

// busyLocked takes a pin off the idle list.
func (m *Memory) busyLocked(p *pin) {
	if p.idleAt != nil {
		m.idle.Remove(p.idleAt)
		p.idleAt = nil
	}
}

// roomLocked makes room for one more pin, if need be by the longest idle one.
func (m *Memory) roomLocked() bool {
	for len(m.pins) >= m.maxPins {
		longest := m.idle.Front()
		if longest == nil {
			return false
		}
		m.forgetLocked(longest.Value.(*pin))
	}
	return true
}

// Lookup implements Balancer.
func (m *Memory) Lookup(_ context.Context, s Stream) (Origin, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.streams[s]; p != nil {
		return p.origin.Origin, nil
	}
	now := time.Now()
	e := rendezvous(m.availableLocked(now, nil), s)
	if e == nil {
		return Origin{}, fmt.Errorf("%w: %s", ErrNoOrigin, m.whyLocked(now, nil))
	}
	return e.Origin, nil
}

// ReportDial implements Balancer.
func (m *Memory) ReportDial(_ context.Context, id string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.origins[id]
	if e == nil {
		return
	}
	if err == nil {
		e.ejection = ejection{}
		return
	}
	now := time.Now()
	ejected := 0
	for _, o := range m.origins {
		if o != e && o.ejection.active(now) {
			ejected++
		}
	}
	e.ejection.failed(now, 2*(ejected+1) <= len(m.origins))
}

// Origins implements Balancer.
func (m *Memory) Origins(context.Context) ([]Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	out := make([]Status, 0, len(m.origins))
	for _, e := range m.origins {
		s := Status{Origin: e.Origin, Streams: len(e.pins), Publishers: e.publishers, Players: e.players}
		if e.ejection.active(now) {
			s.EjectedUntil = e.ejection.until
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// StoreRoute implements Balancer.
func (m *Memory) StoreRoute(_ context.Context, kind RouteKind, key string, r Route, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.routes) >= m.maxPins {
		m.sweepLocked(time.Now())
		if len(m.routes) >= m.maxPins {
			return ErrTooManyStreams
		}
	}
	m.routes[routeKey{kind, key}] = storedRoute{r, time.Now().Add(ttl)}
	m.sweepLaterLocked()
	return nil
}

// LoadRoute implements Balancer.
func (m *Memory) LoadRoute(_ context.Context, kind RouteKind, key string) (Route, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.routes[routeKey{kind, key}]
	if !ok || !time.Now().Before(r.expires) {
		return Route{}, ErrNoRoute
	}
	return r.Route, nil
}

// sweepLaterLocked makes sure that what waits to expire will be swept. There is
// no goroutine while nothing waits.
func (m *Memory) sweepLaterLocked() {
	if m.sweeper == nil {
		m.sweeper = time.AfterFunc(max(m.leaseIdle/4, time.Millisecond), m.sweep)
	}
}

func (m *Memory) sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweeper = nil
	m.sweepLocked(time.Now())
	if m.idle.Len() > 0 || len(m.routes) > 0 {
		m.sweepLaterLocked()
	}
}

func (m *Memory) sweepLocked(now time.Time) {
	for longest := m.idle.Front(); longest != nil; longest = m.idle.Front() {
		p := longest.Value.(*pin)
		if now.Sub(p.idleSince) < m.leaseIdle {
			break
		}
		m.forgetLocked(p)
	}
	for k, r := range m.routes {
		if !now.Before(r.expires) {
			delete(m.routes, k)
		}
	}
}

func (m *Memory) availableLocked(now time.Time, exclude []string) []*entry {
	out := make([]*entry, 0, len(m.origins))
	for _, e := range m.origins {
		if e.available(now, exclude) {
			out = append(out, e)
		}
	}
	return out
}

func (e *entry) available(now time.Time, exclude []string) bool {
	return e.State == Up && !e.ejection.active(now) && !slices.Contains(exclude, e.ID)
}

// whyLocked tells why no origin is available.
func (m *Memory) whyLocked(now time.Time, exclude []string) string {
	var draining, ejected, excluded int
	for _, e := range m.origins {
		switch {
		case slices.Contains(exclude, e.ID):
			excluded++
		case e.State != Up:
			draining++
		case e.ejection.active(now):
			ejected++
		}
	}
	return fmt.Sprintf("%d registered, %d draining, %d ejected after dial failures, %d just failed", len(m.origins), draining, ejected, excluded)
}
