package redisbalancer

import (
	"context"
	"fmt"
	"time"

	"srs-proxy/balancer"
)

// answer is what Redis said of a stream that is not among the known ones; an empty id is
// that it has no pin.
type answer struct {
	id    string
	until time.Time
}

const (
	// askAgain is after how long a stream without a known publisher is asked about again.
	askAgain = time.Second
	// mostAsked bounds what is kept of such answers.
	mostAsked = 10_000
)

// Lookup implements balancer.Balancer. A published stream is known here, another one is
// asked about once a second.
func (r *Redis) Lookup(ctx context.Context, s balancer.Stream) (balancer.Origin, error) {
	key := s.String()
	o, ok, err := r.lookupKnown(s, key)
	if ok || err != nil {
		return o, err
	}
	// The store's word is better, but rendezvous hashing needs none: not being told is no error.
	_ = r.lookup(ctx, key)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lookupLocked(s, key)
}

func (r *Redis) lookupKnown(s balancer.Stream, key string) (o balancer.Origin, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	a, asked := r.asked[key]
	_, known := r.pinnedLocked(key)
	switch {
	case r.away, now.Sub(r.contact) <= stale && (known || asked && now.Before(a.until)):
		o, err = r.lookupLocked(s, key)
		return o, err == nil, err
	}
	return o, false, nil
}

// pinnedLocked is the origin of a stream that is held here, or was published somewhere.
func (r *Redis) pinnedLocked(key string) (balancer.Origin, bool) {
	if e := r.entries[key]; e != nil && e.cur != nil {
		if o := r.origins[e.cur.origin.ID]; o != nil {
			return o.Origin, true
		}
		return e.cur.origin, true
	}
	if k := r.known[key]; k.pin != "" {
		if o := r.origins[k.id]; o != nil && o.inc == k.inc {
			return o.Origin, true
		}
	}
	return balancer.Origin{}, false
}

func (r *Redis) lookupLocked(s balancer.Stream, key string) (balancer.Origin, error) {
	if o, ok := r.pinnedLocked(key); ok {
		return o, nil
	}
	if a, ok := r.asked[key]; ok {
		if o := r.origins[a.id]; o != nil {
			return o.Origin, nil
		}
	}
	if o, ok := r.rendezvousLocked(s, r.avoidedLocked(time.Now())); ok {
		return o, nil
	}
	return balancer.Origin{}, fmt.Errorf("%w: %d registered", balancer.ErrNoOrigin, len(r.origins))
}

// lookup asks Redis for a stream's pin.
func (r *Redis) lookup(ctx context.Context, key string) error {
	for synced := false; ; synced = true {
		p, err := r.askAfterRecovery(ctx, func() (reply, error) { return r.call(ctx, r.lua.lookup, key) })
		if err != nil {
			return err
		}
		r.mu.Lock()
		behind := p.word() == "none" && len(r.origins) == 0
		if !behind && p.word() != "unknown" {
			if len(r.asked) >= mostAsked {
				clear(r.asked)
			}
			r.asked[key] = answer{id: p.text(2), until: time.Now().Add(askAgain)}
			if o, err := parseOrigin(p.text(3)); err == nil && r.origins[o.ID] == nil {
				o.seen = p.number(5)
				r.setOriginLocked(o)
			}
		}
		r.mu.Unlock()
		if synced || !behind && p.word() != "unknown" {
			return nil
		}
		if err := r.importServers(ctx); err != nil {
			return err
		}
		if err := r.catchUp(ctx); err != nil {
			return err
		}
	}
}
