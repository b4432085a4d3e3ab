package redisbalancer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"srs-proxy/balancer"
)

// origin is our copy of one, with what only this proxy knows of it.
type origin struct {
	balancer.Origin
	inc  string // which registration it is
	key  string // of its record
	seen int64  // the event that our copy is of
	// alone: Redis has not been told of it yet.
	alone bool

	streams, publishers, players int // of all proxies, when last asked
	ejection                     balancer.Ejection
}

// parseOrigin reads an origin as the scripts keep it.
func parseOrigin(v string) (*origin, error) {
	part := strings.SplitN(v, "\n", 5)
	if len(part) != 5 {
		return nil, errors.New("an origin's record has too few lines")
	}
	o := &origin{inc: part[0], key: part[2]}
	if err := json.Unmarshal([]byte(part[4]), &o.Origin); err != nil {
		return nil, fmt.Errorf("an origin's record: %w", err)
	}
	return o, nil
}

// Update implements balancer.Balancer. While Redis is away the origin is known to this
// proxy alone, and written when Redis is back.
func (r *Redis) Update(ctx context.Context, o balancer.Origin) error {
	if o.ID == "" {
		return errors.New("update of an origin without an id")
	}
	if strings.ContainsFunc(o.ID+o.Service, func(c rune) bool { return c < ' ' }) {
		return errors.New("update of an origin with control characters in its id")
	}
	args, err := r.updateArgs(o, r.serverKey(o), howUpdate)
	if err != nil {
		return err
	}
	p, err := r.askAfterRecovery(ctx, func() (reply, error) { return r.call(ctx, r.lua.update, args...) })
	if errors.Is(err, balancer.ErrUnavailable) {
		r.updateAlone(o)
		return nil
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.originEventLocked(o.ID, p.text(2), p.number(1))
	return nil
}

// How an origin gets into the store, see update.lua.
const (
	howUpdate  = "update"
	howAdopt   = "adopt"
	howRestore = "restore"
)

func (r *Redis) updateArgs(o balancer.Origin, key, how string) ([]any, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("update of origin %s: %w", o.ID, err)
	}
	record, err := json.Marshal(recordOf(o, time.Now()))
	if err != nil {
		return nil, fmt.Errorf("update of origin %s: %w", o.ID, err)
	}
	return []any{o.ID, o.Service, int(o.State), key, b, r.cfg.OriginTTL.Milliseconds(), record, how}, nil
}

// updateAlone changes our copy only.
func (r *Redis) updateAlone(o balancer.Origin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.removed, o.ID)
	n := &origin{Origin: o, key: r.serverKey(o), alone: true}
	if old := r.origins[o.ID]; old != nil && old.Service == o.Service {
		n.inc, n.seen = old.inc, old.seen
	}
	r.replaceOriginLocked(n)
}

// Remove implements balancer.Balancer.
func (r *Redis) Remove(ctx context.Context, id string) error {
	p, err := r.askAfterRecovery(ctx, func() (reply, error) { return r.call(ctx, r.lua.remove, id) })
	if err != nil && !errors.Is(err, balancer.ErrUnavailable) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.origins[id]
	if o == nil {
		return nil
	}
	if err != nil {
		r.removed[id] = struct{}{}
	}
	if err != nil || o.seen <= p.number(1) {
		r.dropOriginLocked(o)
	}
	return nil
}

// setOriginLocked takes a new state of an origin. Another process in its place has
// none of its streams.
func (r *Redis) setOriginLocked(o *origin) {
	if old := r.origins[o.ID]; old != nil {
		if old.key != o.key {
			delete(r.byKey, old.key)
		}
		if old.Service != o.Service {
			r.dropOriginLocked(old)
		}
	}
	r.origins[o.ID] = o
	r.byKey[o.key] = o.ID
}

// dropOriginLocked forgets an origin and all that is on it.
func (r *Redis) dropOriginLocked(o *origin) {
	delete(r.origins, o.ID)
	delete(r.byKey, o.key)
	for stream, k := range r.known {
		if k.id == o.ID {
			delete(r.known, stream)
		}
	}
	for stream, e := range r.entries {
		if e.cur != nil && e.cur.origin.ID == o.ID {
			r.leaveBehindLocked(e)
			r.tidyLocked(stream, e)
		}
	}
}

// usableLocked tells whether new sessions may go to an origin.
func (r *Redis) usableLocked(id string, now time.Time, exclude []string) bool {
	o := r.origins[id]
	return o != nil && o.State == balancer.Up && !o.ejection.Active(now) && !slices.Contains(exclude, id)
}

// candidates is how many origins a script has to choose from: the counts that our copy
// has are a moment old, those of the script are not.
const candidates = 16

// candidate is an origin's ID and its load without streams.
type candidate [2]any

// candidatesLocked are the least loaded origins that may be had.
func (r *Redis) candidatesLocked(now time.Time, exclude []string) []candidate {
	type scored struct {
		o     *origin
		score float64
	}
	all := make([]scored, 0, len(r.origins)) // in the map's order, which is random
	for id, o := range r.origins {
		if r.usableLocked(id, now, exclude) {
			all = append(all, scored{o, balancer.Score(o.streams, o.players, o.Load)})
		}
	}
	slices.SortStableFunc(all, func(a, b scored) int { return cmp.Compare(a.score, b.score) })
	out := make([]candidate, 0, candidates)
	for _, s := range all[:min(len(all), candidates)] {
		out = append(out, candidate{s.o.ID, balancer.Score(0, s.o.players, s.o.Load)})
	}
	return out
}

// avoidedLocked are those that this proxy can't reach.
func (r *Redis) avoidedLocked(now time.Time) []string {
	out := []string{}
	for id, o := range r.origins {
		if o.ejection.Active(now) {
			out = append(out, id)
		}
	}
	return out
}

// ReportDial implements balancer.Balancer. What one proxy can't reach others may: the
// ejection is this proxy's alone.
func (r *Redis) ReportDial(_ context.Context, id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.origins[id]
	if o == nil {
		return
	}
	if err == nil {
		o.ejection = balancer.Ejection{}
		return
	}
	now, ejected := time.Now(), 0
	for _, other := range r.origins {
		if other != o && other.ejection.Active(now) {
			ejected++
		}
	}
	o.ejection.Failed(now, 2*(ejected+1) <= len(r.origins))
}

// Origins implements balancer.Balancer. It asks Redis for the counts; while that is away
// the last ones have to do.
func (r *Redis) Origins(ctx context.Context) ([]balancer.Status, error) {
	_ = r.count(ctx) // that Redis is away is noted
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	out := make([]balancer.Status, 0, len(r.origins))
	for _, o := range r.origins {
		s := balancer.Status{Origin: o.Origin, Streams: o.streams, Publishers: o.publishers, Players: o.players}
		if o.ejection.Active(now) {
			s.EjectedUntil = o.ejection.Until()
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b balancer.Status) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// count asks how many streams and sessions there are on each origin.
func (r *Redis) count(ctx context.Context) error {
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	p, err := r.askAfterRecovery(ctx, func() (reply, error) { return r.call(ctx, r.lua.stats) })
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.placed = false
	for _, o := range r.origins {
		o.streams, o.publishers, o.players = 0, 0, 0
	}
	for i, on := 0, p.list(1); i+1 < len(on); i += 2 {
		if o := r.origins[on.text(i)]; o != nil {
			o.streams = int(on.number(i + 1))
		}
	}
	for id, n := range r.servesLocked() {
		if o := r.origins[id]; o != nil {
			o.publishers, o.players = n[0], n[1]
		}
	}
	for i, load := 0, p.list(2); i+1 < len(load); i += 2 {
		_, text, _ := strings.Cut(load.text(i+1), "\n")
		var serves map[string][2]int
		if load.text(i) == r.self || json.Unmarshal([]byte(text), &serves) != nil {
			continue
		}
		for id, n := range serves {
			if o := r.origins[id]; o != nil {
				o.publishers += n[0]
				o.players += n[1]
			}
		}
	}
	return nil
}

// servesLocked counts this proxy's publishers and players by origin.
func (r *Redis) servesLocked() map[string][2]int {
	out := make(map[string][2]int)
	for _, h := range r.leases {
		if o := r.origins[h.origin.ID]; o == nil || o.Service != h.origin.Service || h.pubs+h.plays == 0 {
			continue
		}
		n := out[h.origin.ID]
		out[h.origin.ID] = [2]int{n[0] + h.pubs, n[1] + h.plays}
	}
	return out
}
