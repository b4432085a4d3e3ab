package redisbalancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"srs-proxy/balancer"
)

// localRoute is one that was stored here, to have it while Redis is away.
type localRoute struct {
	balancer.Route
	until time.Time
}

// storedRoute is a route in Redis. The existing proxy reads the stream's URL; of what it
// wrote we have no more than that.
type storedRoute struct {
	StreamURL string           `json:"stream_url"`
	Ufrag     string           `json:"ufrag,omitempty"`
	SPBHID    string           `json:"spbhid,omitempty"`
	Stream    *balancer.Stream `json:"stream,omitempty"`
	Origin    string           `json:"origin,omitempty"`
	Sealed    string           `json:"sealed,omitempty"`
}

// routeName is the existing proxy's name of a route.
func routeName(kind balancer.RouteKind, key string) string {
	switch kind {
	case balancer.RouteWebRTC:
		return "ufrag:" + key
	case balancer.RouteHLS:
		return "spbhid:" + key
	}
	return "route-" + string(kind) + ":" + key
}

// StoreRoute implements balancer.Balancer. While Redis is away this proxy knows the route, and
// others learn it when it is stored again.
func (r *Redis) StoreRoute(ctx context.Context, kind balancer.RouteKind, key string, route balancer.Route, ttl time.Duration) error {
	name := routeName(kind, key)
	r.mu.Lock()
	if _, ok := r.routes[name]; !ok && len(r.routes) >= r.cfg.MaxPins {
		r.sweepLocked(time.Now())
		if len(r.routes) >= r.cfg.MaxPins {
			r.mu.Unlock()
			return balancer.ErrTooManyStreams
		}
	}
	r.routes[name] = localRoute{route, time.Now().Add(ttl)}
	away := r.away
	r.mu.Unlock()
	if away {
		return nil
	}
	stored := storedRoute{StreamURL: route.Stream.String(), Stream: &route.Stream, Origin: route.Origin, Sealed: route.Sealed}
	if kind == balancer.RouteWebRTC {
		stored.Ufrag = key
	} else {
		stored.SPBHID = key
	}
	b, err := json.Marshal(stored)
	if err != nil {
		return fmt.Errorf("store a route: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if err := r.rdb.Set(ctx, r.keys.key(name), b, ttl).Err(); err != nil {
		return r.blame(ctx, "store a route", err)
	}
	return nil
}

// LoadRoute implements balancer.Balancer. What this proxy stored itself it doesn't ask for.
func (r *Redis) LoadRoute(ctx context.Context, kind balancer.RouteKind, key string) (balancer.Route, error) {
	name := routeName(kind, key)
	r.mu.Lock()
	local, ok := r.routes[name]
	away := r.away
	r.mu.Unlock()
	if ok && time.Now().Before(local.until) {
		return local.Route, nil
	}
	if away {
		return balancer.Route{}, balancer.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	b, err := r.rdb.Get(ctx, r.keys.key(name)).Bytes()
	if errors.Is(err, redis.Nil) {
		return balancer.Route{}, balancer.ErrNoRoute
	}
	if err != nil {
		return balancer.Route{}, r.blame(ctx, "load a route", err)
	}
	var stored storedRoute
	if err := json.Unmarshal(b, &stored); err != nil {
		return balancer.Route{}, fmt.Errorf("%w: what is stored is no route: %w", balancer.ErrNoRoute, err)
	}
	if stored.Stream != nil {
		return balancer.Route{Stream: *stored.Stream, Origin: stored.Origin, Sealed: stored.Sealed}, nil
	}
	return r.routeOfURL(ctx, stored.StreamURL)
}

// DropRoute forgets a route whose session was ended, and has all proxies hear so, this one
// too. While Redis is away it fails with balancer.ErrUnavailable, and only this one forgets.
func (r *Redis) DropRoute(ctx context.Context, kind balancer.RouteKind, key string) error {
	name := routeName(kind, key)
	r.mu.Lock()
	delete(r.routes, name)
	r.mu.Unlock()
	_, err := r.askAfterRecovery(ctx, func() (reply, error) { return r.call(ctx, r.lua.route, name, string(kind), key) })
	return err
}

// OnRouteDropped has f called when a proxy drops a route, on a goroutine of its own. Who
// misses events, as while Redis is away, does not hear of it. Set it before Run.
func (r *Redis) OnRouteDropped(f func(kind balancer.RouteKind, key string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped = f
}

func (r *Redis) routeEventLocked(kind balancer.RouteKind, key string) {
	delete(r.routes, routeName(kind, key))
	if r.dropped != nil {
		go r.dropped(kind, key)
	}
}

// routeOfURL is the route of a session of the existing proxy: that of its stream.
func (r *Redis) routeOfURL(ctx context.Context, url string) (balancer.Route, error) {
	vhost, rest, _ := strings.Cut(url, "/")
	i := strings.LastIndexByte(rest, '/')
	if vhost == "" || i < 0 {
		return balancer.Route{}, fmt.Errorf("%w: what is stored names no stream", balancer.ErrNoRoute)
	}
	s := balancer.Stream{Vhost: vhost, App: rest[:i], Name: rest[i+1:]}
	o, err := r.Lookup(ctx, s)
	if err != nil {
		return balancer.Route{}, err
	}
	return balancer.Route{Stream: s, Origin: o.ID}, nil
}

// blame makes an error of Redis the caller's, unless the caller gave up.
func (r *Redis) blame(ctx context.Context, what string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	r.lose(err)
	return fmt.Errorf("%s: %w: %w", what, balancer.ErrUnavailable, err)
}
