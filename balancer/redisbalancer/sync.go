package redisbalancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"srs-proxy/balancer"
)

// follow keeps our copy true: events as they happen, and a poll that ends what has
// expired, here or for all.
func (r *Redis) follow(ctx context.Context) {
	var polled, counted time.Time
	for ctx.Err() == nil {
		if r.isAway() {
			if err := r.recover(ctx, r.currentEpoch()); err != nil {
				r.seekHome(ctx)
				r.sweepIdle(time.Now())
				_ = sleep(ctx, pollEvery)
				continue
			}
		}
		if now := time.Now(); now.Sub(polled) >= pollEvery {
			polled = now
			if r.poll(ctx) != nil {
				continue
			}
			if now.Sub(counted) >= countEvery && r.hasPlaced() {
				counted = now
				_ = r.count(ctx) // that Redis is away is noted
			}
		}
		r.readEvents(ctx, pollEvery)
	}
}

func (r *Redis) hasPlaced() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.placed
}

func (r *Redis) poll(ctx context.Context) error {
	r.mu.Lock()
	serves, err := json.Marshal(r.servesLocked())
	r.sweepLocked(time.Now())
	r.warnAgainLocked()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	p, err := r.askAfterRecovery(ctx, func() (reply, error) {
		return r.call(ctx, r.lua.poll, r.cfg.epochLife().Milliseconds(), r.self, serves, (10 * time.Second).Milliseconds())
	})
	if err != nil {
		return err
	}
	if n := p.number(1); n < r.lastSeen() {
		return r.sync(ctx) // numbers that go backwards are another store's
	}
	return nil
}

func (r *Redis) lastSeen() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

// readEvents waits for events and takes them in.
func (r *Redis) readEvents(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait+r.cfg.Timeout)
	defer cancel()
	from := strconv.FormatInt(r.lastSeen(), 10) + "-1"
	streams, err := r.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{r.keys.key("events"), from}, Count: 1000, Block: wait}).Result()
	switch {
	case errors.Is(err, redis.Nil):
		r.heard()
		return
	case err != nil:
		if !errors.Is(ctx.Err(), context.Canceled) {
			r.lose(err)
		}
		return
	}
	for _, s := range streams {
		if !r.takeEvents(s.Messages) {
			_ = r.sync(ctx) // that Redis is away is noted
			return
		}
	}
	r.heard()
}

func (r *Redis) heard() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.away {
		r.contact = time.Now()
	}
}

// takeEvents changes our copy. It reports false if some were missed.
func (r *Redis) takeEvents(events []redis.XMessage) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range events {
		number, _, _ := strings.Cut(m.ID, "-")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n > r.seq+1 {
			return false
		}
		if n <= r.seq {
			continue // sync had it
		}
		r.seq = n
		name, _ := m.Values["n"].(string)
		v, _ := m.Values["v"].(string)
		switch m.Values["k"] {
		case "o":
			r.originEventLocked(name, v, n)
		case "p":
			r.pinEventLocked(name, v, n)
		case "r":
			r.routeEventLocked(balancer.RouteKind(name), v)
		}
	}
	return true
}

func (r *Redis) originEventLocked(id, v string, n int64) {
	old := r.origins[id]
	if old != nil && old.seen >= n {
		return
	}
	if v == "" {
		if old != nil {
			r.dropOriginLocked(old)
		}
		return
	}
	o, err := parseOrigin(v)
	if err != nil {
		r.log.Warn("an origin is left out", "origin", id, "cause", err)
		return
	}
	o.seen = n
	r.replaceOriginLocked(o)
}

// replaceOriginLocked keeps what only we know of an origin.
func (r *Redis) replaceOriginLocked(o *origin) {
	if old := r.origins[o.ID]; old != nil && old.Service == o.Service {
		o.streams, o.publishers, o.players, o.ejection = old.streams, old.publishers, old.players, old.ejection
	}
	r.setOriginLocked(o)
}

func (r *Redis) pinEventLocked(stream, v string, n int64) {
	if r.known[stream].seen >= n {
		return
	}
	if v == "" {
		delete(r.known, stream)
		return
	}
	part := strings.SplitN(v, "\n", 3)
	if len(part) != 3 {
		return
	}
	r.known[stream] = known{pin: part[0], inc: part[1], id: part[2], seen: n}
	// Sessions that hold another pin of the stream were left behind by it.
	e := r.entries[stream]
	if e == nil {
		return
	}
	if e.cur != nil && e.cur.origin.ID != part[2] {
		e.cur.until = time.Time{} // ask
		r.hurry()
	}
	for _, h := range e.old {
		if !h.warned && h.origin.ID != part[2] {
			r.warnLocked(h)
		}
	}
}

// catchUp takes in the events that are there already.
func (r *Redis) catchUp(ctx context.Context) error {
	if r.isAway() {
		return balancer.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	from := strconv.FormatInt(r.lastSeen(), 10) + "-1"
	streams, err := r.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{r.keys.key("events"), from}, Block: -1}).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) {
			r.lose(err)
		}
		return fmt.Errorf("%w: %w", balancer.ErrUnavailable, err)
	}
	for _, s := range streams {
		if !r.takeEvents(s.Messages) {
			return r.sync(ctx)
		}
	}
	return nil
}

// sync reads all anew.
func (r *Redis) sync(ctx context.Context) error { return r.syncIn(ctx, r.currentEpoch()) }

func (r *Redis) syncIn(ctx context.Context, epoch string) error {
	p, err := r.callIn(ctx, epoch, r.lua.sync)
	if err != nil {
		r.lose(err)
		return err
	}
	if p.word() != "ok" {
		return errLost
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq = p.number(1)
	there := make(map[string]bool)
	for i, l := 0, p.list(2); i+1 < len(l); i += 2 {
		o, err := parseOrigin(l.text(i + 1))
		if err != nil {
			r.log.Warn("an origin is left out", "origin", l.text(i), "cause", err)
			continue
		}
		o.seen = r.seq
		there[o.ID] = true
		r.replaceOriginLocked(o)
	}
	for id, o := range r.origins {
		if !there[id] {
			r.dropOriginLocked(o)
		}
	}
	clear(r.known)
	for i, l := 0, p.list(3); i+1 < len(l); i += 2 {
		r.pinEventLocked(l.text(i), l.text(i+1), r.seq)
	}
	return nil
}
