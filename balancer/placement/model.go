package main

import (
	"cmp"
	"context"
	"slices"

	"srs-proxy/balancer"
)

// store is what all proxies share: a balancer.Memory that draws from a seed, or what
// balancer/redisbalancer keeps in Redis.
type store struct {
	intn    func(int) int
	refresh int
	second  int
	views   []*view
	places  []*place
	byID    map[string]*place
	pins    map[balancer.Stream]*pin
	byPin   map[uint64]*pin
	idle    []idling // the longest first
	lastPin uint64
	ops     []operations // by second
}

// place is an origin and what is on it.
type place struct {
	balancer.Origin
	index, pins, players int
	up                   bool
}

type pin struct {
	id        uint64
	stream    balancer.Stream
	at        *place
	published bool
	sessions  int
	holds     map[int]*held // by proxy
	round     int           // of its idling
}

type held struct{ publishers, players int }

type idling struct {
	p     *pin
	round int
	until int
}

// view is a proxy's: what it knows without asking.
type view struct {
	st   *store
	name int
	// streams and players are the counts when it last looked, by place.
	streams, players []int
	// order are the places by what it knows of their load, as of a second.
	order   []*place
	scores  []float64 // by place
	ordered int
}

var _ placer = (*view)(nil)

func newStore(o options, intn func(int) int) *store {
	st := &store{
		intn: intn, refresh: o.refresh, byID: make(map[string]*place),
		pins: make(map[balancer.Stream]*pin), byPin: make(map[uint64]*pin),
	}
	for i := range o.proxies {
		st.views = append(st.views, &view{st: st, name: i, ordered: -1})
	}
	return st
}

// shared says that proxies know of each other by Redis alone.
func (st *store) shared() bool { return len(st.views) > 1 }

func (st *store) now() *operations { return &st.ops[len(st.ops)-1] }

// tick begins a second.
func (st *store) tick(second int) {
	st.second = second
	st.ops = append(st.ops, operations{})
	for len(st.idle) > 0 && st.idle[0].until <= second {
		if i := st.idle[0]; i.p.round == i.round && i.p.sessions == 0 && st.byPin[i.p.id] == i.p {
			st.drop(i.p)
		}
		st.idle = st.idle[1:]
	}
	for _, v := range st.views {
		if st.refresh > 0 && second%st.refresh == 0 {
			v.count()
		}
	}
	now := st.now()
	for _, p := range st.pins {
		now.held += len(p.holds)
	}
}

func (v *view) count() {
	v.st.now().stats++
	v.ordered = -1
	for _, p := range v.st.places {
		v.streams[p.index], v.players[p.index] = p.pins, p.players
	}
}

// Update implements placer.
func (v *view) Update(_ context.Context, o balancer.Origin) error {
	st := v.st
	p := st.byID[o.ID]
	if p == nil {
		p = &place{index: len(st.places)}
		st.places = append(st.places, p)
		st.byID[o.ID] = p
		for _, other := range st.views {
			other.streams, other.players = append(other.streams, 0), append(other.players, 0)
		}
	}
	st.now().updates++
	if !p.up || p.Load != o.Load {
		st.now().events++
	}
	p.Origin, p.up = o, true
	return nil
}

// Remove implements placer.
func (v *view) Remove(_ context.Context, id string) error {
	st := v.st
	p := st.byID[id]
	if p == nil || !p.up {
		return nil
	}
	p.up = false
	st.now().updates++
	st.now().events++
	for _, pin := range st.pins {
		if pin.at == p {
			st.forget(pin) // one event says it of all
		}
	}
	for _, other := range st.views {
		other.streams[p.index], other.players[p.index] = 0, 0
		other.ordered = -1
	}
	return nil
}

// Pick implements placer.
func (v *view) Pick(_ context.Context, r balancer.Request) (balancer.Lease, error) {
	st := v.st
	p := st.pins[r.Stream]
	asks := r.Role == balancer.Publish || p == nil || !p.published
	if p == nil {
		at := v.choose()
		if at == nil {
			return balancer.Lease{}, balancer.ErrNoOrigin
		}
		st.lastPin++
		p = &pin{id: st.lastPin, stream: r.Stream, at: at, holds: make(map[int]*held)}
		st.pins[r.Stream], st.byPin[p.id] = p, p
		at.pins++
	}
	h := p.holds[v.name]
	switch {
	case asks:
		st.now().picks++
	case h == nil:
		st.now().holds++ // others are told
	}
	if h == nil {
		h = &held{}
		p.holds[v.name] = h
	}
	p.sessions++
	if r.Role == balancer.Publish {
		h.publishers++
		if !p.published {
			p.published = true
			st.now().events++
		}
	} else {
		h.players++
		p.at.players++
	}
	return balancer.Lease{Stream: r.Stream, Role: r.Role, Origin: p.at.Origin, Pin: p.id}, nil
}

// Release implements placer.
func (v *view) Release(_ context.Context, l balancer.Lease) error {
	st := v.st
	p := st.byPin[l.Pin]
	if p == nil {
		return nil
	}
	h := p.holds[v.name]
	p.sessions--
	if l.Role == balancer.Publish {
		h.publishers--
	} else {
		h.players--
		p.at.players--
	}
	if h.publishers+h.players == 0 {
		delete(p.holds, v.name)
	}
	if h.publishers+h.players == 0 || l.Role == balancer.Publish && h.publishers == 0 {
		st.now().holds++
	}
	switch {
	case p.sessions > 0:
	case !p.published:
		st.drop(p)
	default:
		p.round++
		st.idle = append(st.idle, idling{p, p.round, st.second + int(balancer.DefaultLeaseIdle.Seconds())})
	}
	return nil
}

func (st *store) drop(p *pin) {
	if p.published {
		st.now().events++
	}
	st.forget(p)
}

func (st *store) forget(p *pin) {
	for _, h := range p.holds {
		p.at.players -= h.players
	}
	p.at.pins--
	delete(st.pins, p.stream)
	delete(st.byPin, p.id)
}

// choose is the policy.
func (v *view) choose() *place {
	if v.st.shared() {
		return v.chooseShared()
	}
	var up []*place
	var scores []float64
	for _, p := range v.st.places {
		if p.up {
			up = append(up, p)
			scores = append(scores, balancer.Score(p.pins, p.players, p.Load))
		}
	}
	if i := balancer.LeastLoaded(scores, v.st.intn); i >= 0 {
		return up[i]
	}
	return nil
}

// candidates is how many origins a proxy proposes (balancer/redisbalancer).
const candidates = 16

// chooseShared proposes the least loaded as this proxy knows them; the script takes the one
// with the fewest streams as Redis knows them.
func (v *view) chooseShared() *place {
	v.sort()
	n := min(candidates, len(v.order))
	if n == 0 {
		return nil
	}
	// Among those that are as loaded as the last one it is chance that decides.
	last := v.scores[v.order[n-1].index]
	first := slices.IndexFunc(v.order, func(p *place) bool { return v.scores[p.index] >= last })
	end := n
	for end < len(v.order) && v.scores[v.order[end].index] == last {
		end++
	}
	for i := first; i < n; i++ {
		j := i + v.st.intn(end-i)
		v.order[i], v.order[j] = v.order[j], v.order[i]
	}
	best, least := (*place)(nil), 0.0
	for _, p := range v.order[:n] {
		if score := float64(p.pins) + balancer.Score(0, v.players[p.index], p.Load); best == nil || score < least {
			best, least = p, score
		}
	}
	v.place(best)
	return best
}

// place counts what this proxy placed since it last looked.
func (v *view) place(p *place) {
	v.streams[p.index]++
	at := slices.Index(v.order, p)
	v.scores[p.index]++
	for ; at+1 < len(v.order) && v.scores[v.order[at+1].index] < v.scores[p.index]; at++ {
		v.order[at], v.order[at+1] = v.order[at+1], v.order[at]
	}
}

// sort orders the places by what this proxy knows. Loads change once in a second.
func (v *view) sort() {
	if v.ordered == v.st.second {
		return
	}
	v.ordered = v.st.second
	v.scores = v.scores[:0]
	v.order = v.order[:0]
	for _, p := range v.st.places {
		v.scores = append(v.scores, balancer.Score(v.streams[p.index], v.players[p.index], p.Load))
		if p.up {
			v.order = append(v.order, p)
		}
	}
	slices.SortStableFunc(v.order, func(a, b *place) int { return cmp.Compare(v.scores[a.index], v.scores[b.index]) })
}
