package redisbalancer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"srs-proxy/balancer"
)

// errLost says that the store lost what it knew.
var errLost = errors.New("the store lost its state")

// askAfterRecovery asks, and once more after we have written back what the store lost.
func (r *Redis) askAfterRecovery(ctx context.Context, ask func() (reply, error)) (reply, error) {
	for range 5 {
		before := r.currentEpoch()
		p, err := ask()
		if err != nil || p.word() != "lost" {
			return p, err
		}
		if err := r.recover(ctx, before); err != nil {
			if errors.Is(err, errLost) {
				continue // and again meanwhile
			}
			r.lose(err)
			return nil, fmt.Errorf("%w: %w", balancer.ErrUnavailable, err)
		}
	}
	return nil, fmt.Errorf("%w: it loses its state again and again", balancer.ErrUnavailable)
}

// recover makes a store ours: it begins an epoch if there is none, writes back what this
// proxy knows and the store does not, and copies what others know.
//
// A store has no epoch when it was emptied, when it is another one than before, or when no
// proxy reached it for so long that leases may have expired. From the beginning of an epoch
// on no new stream is placed for Config.Settle, while all proxies do this here.
//
// lost is the epoch that the caller found over.
func (r *Redis) recover(ctx context.Context, lost string) error {
	r.recovering.Lock()
	defer r.recovering.Unlock()
	if r.currentEpoch() != lost && !r.isAway() {
		return nil // done while we waited
	}
	offered := rand.Text()
	switch id, err := r.serverRun(ctx); {
	case err == nil:
		offered = id + offered
	case !isAnswer(err):
		// An epoch that does not name its server would be taken for another one's by the next
		// connection, and all would begin again.
		return fmt.Errorf("begin: %w", err)
	default: // Not being allowed to ask costs the proof, not the service.
	}
	p, err := r.callIn(ctx, "", r.lua.begin, offered, r.cfg.epochLife().Milliseconds(), r.cfg.Settle.Milliseconds())
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	epoch := p.text(1)
	anew := epoch != r.currentEpoch()
	// Until all is written back nobody else here asks in the new epoch: what is not there
	// yet would look as if it had ended.
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return r.restoreOrigins(ctx, epoch, anew) },
		func(ctx context.Context) error { return r.importInto(ctx, epoch) },
		func(ctx context.Context) error { return r.restoreHeld(ctx, epoch) },
		func(ctx context.Context) error { return r.syncIn(ctx, epoch) },
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	away, since := r.away, r.since
	r.epoch, r.away, r.contact = epoch, false, time.Now()
	r.mu.Unlock()
	r.hurry() // with what has begun meanwhile
	if away {
		r.log.Info("Redis is reached again", "after", time.Since(since).Round(time.Millisecond), "state_lost", anew)
	} else if anew {
		r.log.Info("Redis had no state of ours; what this proxy knows is written")
	}
	return nil
}

// restoreOrigins writes the origins that the store lost, and what was told of origins
// while it was away. Whether they live their heartbeats will say.
func (r *Redis) restoreOrigins(ctx context.Context, epoch string, anew bool) error {
	type job struct {
		origin
		how string
	}
	r.mu.Lock()
	var jobs []job
	for _, o := range r.origins {
		switch {
		case o.alone:
			jobs = append(jobs, job{*o, howUpdate})
		case anew:
			jobs = append(jobs, job{*o, howRestore})
		}
	}
	removed := slices.Collect(maps.Keys(r.removed))
	r.mu.Unlock()
	for _, j := range jobs {
		args, err := r.updateArgs(j.Origin, j.key, j.how)
		if err != nil {
			return err
		}
		if err := r.insist(ctx, epoch, r.lua.update, args...); err != nil {
			return fmt.Errorf("write back origin %s: %w", j.ID, err)
		}
	}
	for _, id := range removed {
		if err := r.insist(ctx, epoch, r.lua.remove, id); err != nil {
			return fmt.Errorf("remove origin %s: %w", id, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, j := range jobs {
		if o := r.origins[j.ID]; o != nil && o.Service == j.Service {
			o.alone = false
		}
	}
	for _, id := range removed {
		delete(r.removed, id)
	}
	return nil
}

// insist calls a script that has to succeed.
func (r *Redis) insist(ctx context.Context, epoch string, s *redis.Script, args ...any) error {
	p, err := r.callIn(ctx, epoch, s, args...)
	if err == nil && p.word() == "lost" {
		return errLost
	}
	return err
}

// restoreHeld tells all that we hold. The store may have lost it, or given it up. Gates are
// passed by, because who is through one may be who waits for this; such streams are told again.
func (r *Redis) restoreHeld(ctx context.Context, epoch string) error {
	if err := r.loadHold(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	var all []telling
	for key, e := range r.entries {
		if e.cur != nil {
			all = append(all, telling{key: key, e: e, h: e.cur})
		}
	}
	r.mu.Unlock()
	for part := range slices.Chunk(all, batch) {
		if err := r.tellPart(ctx, epoch, part); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range all {
		if len(t.e.gate) > 0 {
			t.h.until = time.Time{}
		}
	}
	return nil
}
