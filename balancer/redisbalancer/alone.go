package redisbalancer

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"srs-proxy/balancer"
)

// pickAlone answers while Redis is away: by what we hold, by what we know, and else as
// Config.Fallback says. why is what the caller got from Redis.
func (r *Redis) pickAlone(req balancer.Request, key string, why error) (balancer.Lease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	e := r.entries[key]
	if e != nil && e.cur != nil {
		switch h := e.cur; {
		case r.usableLocked(h.origin.ID, now, req.Exclude), h.pubs > 0 && !slices.Contains(req.Exclude, h.origin.ID):
			return r.leaseLocked(h, req.Role), nil
		case h.pubs > 0:
			return balancer.Lease{}, fmt.Errorf("%w: origin %s", balancer.ErrOwnerUnreachable, h.origin.ID)
		}
	} else if k := r.known[key]; k.pin != "" {
		if o := r.origins[k.id]; o != nil && o.inc == k.inc && !slices.Contains(req.Exclude, k.id) {
			h := r.holdLocked(key, req.Stream, o.Origin)
			h.pin, h.published = k.pin, true
			return r.leaseLocked(h, req.Role), nil
		}
	}
	if r.cfg.Fallback != Local {
		return balancer.Lease{}, why
	}
	o, ok := r.rendezvousLocked(req.Stream, req.Exclude)
	if !ok {
		return balancer.Lease{}, fmt.Errorf("%w: %d registered when the state store was last reached", balancer.ErrNoOrigin, len(r.origins))
	}
	return r.leaseLocked(r.holdLocked(key, req.Stream, o), req.Role), nil
}

// rendezvousLocked chooses as every other proxy does. What only this one sees, its
// dial failures, plays no part.
func (r *Redis) rendezvousLocked(s balancer.Stream, exclude []string) (balancer.Origin, bool) {
	all := make([]balancer.Origin, 0, len(r.origins))
	for id, o := range r.origins {
		if o.State == balancer.Up && !slices.Contains(exclude, id) {
			all = append(all, o.Origin)
		}
	}
	slices.SortFunc(all, func(a, b balancer.Origin) int { return cmp.Compare(a.ID, b.ID) })
	return balancer.Rendezvous(all, s)
}

// sweepLocked forgets what has had its time.
func (r *Redis) sweepLocked(now time.Time) {
	for key, a := range r.asked {
		if now.After(a.until) {
			delete(r.asked, key)
		}
	}
	for key, l := range r.routes {
		if now.After(l.until) {
			delete(r.routes, key)
		}
	}
}

// sweepIdle forgets pins that ended while Redis is away.
func (r *Redis) sweepIdle(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked(now)
	for key, e := range r.entries {
		h := e.cur
		if h == nil || h.pubs+h.plays > 0 || h.published && now.Sub(h.idle) < r.cfg.LeaseIdle {
			continue
		}
		r.leaveBehindLocked(e)
		r.tidyLocked(key, e)
	}
}
