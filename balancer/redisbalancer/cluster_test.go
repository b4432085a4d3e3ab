package redisbalancer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

// The first publish and the first play of a stream meet on one origin, whichever
// proxies they come through.
func TestFirstPicksThroughTwoProxies(t *testing.T) {
	s := redistest.Start(t)
	a, b := open(t, s), open(t, s)
	addOrigins(t, 8, a, b)
	const races = 1000
	var all sync.WaitGroup
	turns := make(chan struct{}, 64)
	for i := range races {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			name := strconv.Itoa(i)
			var leases [2]balancer.Lease
			start := make(chan struct{})
			var both sync.WaitGroup
			for k, r := range []*Redis{a, b} {
				both.Go(func() {
					<-start
					l, err := r.Pick(ctx, balancer.Request{Stream: stream(name), Role: balancer.Role((i + k) % 2)})
					if err != nil {
						t.Error(err)
					}
					leases[k] = l
				})
			}
			close(start)
			both.Wait()
			if leases[0].Origin.ID != leases[1].Origin.ID {
				t.Errorf("stream %s is on %s and on %s", name, leases[0].Origin.ID, leases[1].Origin.ID)
			}
		})
	}
	all.Wait()
	least, most, sum := races, 0, 0
	list, err := b.Origins(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		least, most, sum = min(least, o.Streams), max(most, o.Streams), sum+o.Streams
	}
	if sum != races || most-least > 40 {
		t.Errorf("%d streams, %d to %d on an origin; want %d, spread evenly", sum, least, most, races)
	}
}

// A list that is read, changed and written loses who registers at the same time (defect 10
// of the existing proxy).
func TestDefect10_OriginsRegisterAtOnce(t *testing.T) {
	s := redistest.Start(t)
	proxies := []*Redis{open(t, s), open(t, s), open(t, s)}
	const origins = 128
	for beat := range 3 {
		var all sync.WaitGroup
		start := make(chan struct{})
		for i := range origins {
			all.Go(func() {
				<-start
				o := originN(i)
				o.Load.CPU = float64(beat) / 10
				if err := proxies[i%len(proxies)].Update(ctx, o); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		all.Wait()
	}
	c := s.Client()
	defer c.Close()
	list, err := c.Get(ctx, "srs-proxy-all-servers").Result()
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(list, "srs-proxy-server:"); n != origins {
		t.Errorf("%d servers in the list of the existing proxy, want %d", n, origins)
	}
	for _, r := range proxies {
		testkit.Within(t, limit, "all origins with their last load", func() bool {
			all, err := r.Origins(ctx)
			if err != nil || len(all) != origins {
				return false
			}
			for _, o := range all {
				if o.Load.CPU != 0.2 {
					return false
				}
			}
			return true
		})
	}
}

// Every kind of route is read by another proxy (defect 10 of the existing proxy).
func TestDefect10_RoutesOfAnotherProxy(t *testing.T) {
	s := redistest.Start(t)
	a, b := open(t, s), open(t, s)
	for _, kind := range []balancer.RouteKind{balancer.RouteWebRTC, balancer.RouteHLS} {
		want := balancer.Route{Stream: balancer.Stream{Vhost: "v", App: "live/deep", Name: "a b"}, Origin: "o1"}
		if err := a.StoreRoute(ctx, kind, "x:y", want, time.Minute); err != nil {
			t.Fatal(err)
		}
		if got, err := b.LoadRoute(ctx, kind, "x:y"); err != nil || got != want {
			t.Errorf("%s: %+v, %v", kind, got, err)
		}
		if _, err := b.LoadRoute(ctx, kind, "unknown"); !errors.Is(err, balancer.ErrNoRoute) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// An origin's end is seen by all proxies within a second, whether it is told or its
// heartbeats stop.
func TestOriginEndsForAll(t *testing.T) {
	s := redistest.Start(t)
	const ttl = 3 * time.Second
	short := func(c *Config) { c.OriginTTL = ttl }
	a, b := open(t, s, short), open(t, s, short)
	addOrigins(t, 3, a, b)
	first := pick(t, a, "a", balancer.Publish)
	if l := pick(t, b, "a", balancer.Play); l.Origin.ID != first.Origin.ID {
		t.Fatalf("the player is sent to %s", l.Origin.ID)
	}
	began := time.Now()
	if err := a.Remove(ctx, first.Origin.ID); err != nil {
		t.Fatal(err)
	}
	testkit.Within(t, limit, "the removed origin unknown elsewhere", func() bool { return b.knows() == 2 })
	t.Logf("removed: seen elsewhere after %v", time.Since(began))
	second := pick(t, b, "a", balancer.Publish)
	if second.Origin.ID == first.Origin.ID {
		t.Fatal("sent to the origin that is gone")
	}
	if l := pick(t, a, "a", balancer.Play); l.Origin.ID != second.Origin.ID {
		t.Fatalf("the first proxy sends to %s, the publisher is on %s", l.Origin.ID, second.Origin.ID)
	}
	for end := time.Now().Add(2 * ttl); time.Now().Before(end) && b.knows() == 2; time.Sleep(ttl / 10) {
		for _, s := range []int{0, 1, 2} {
			if o := originN(s); o.ID != first.Origin.ID && o.ID != second.Origin.ID {
				if err := a.Update(ctx, o); err != nil { // this one beats on
					t.Fatal(err)
				}
			}
		}
	}
	if statusOf(t, b, second.Origin.ID).ID != "" || b.knows() != 1 {
		t.Errorf("%d origins known after the heartbeats of one stopped", b.knows())
	}
	if l := pick(t, b, "a", balancer.Publish); l.Origin.ID == second.Origin.ID {
		t.Error("sent to the origin that expired")
	}
}

// A pick of a stream that is known asks nobody.
func TestKnownStreamAsksNobody(t *testing.T) {
	s := redistest.Start(t)
	a, b := open(t, s), open(t, s)
	addOrigins(t, 4, a, b)
	owner := pick(t, a, "a", balancer.Publish).Origin.ID
	testkit.Within(t, limit, "the stream known to the other proxy", func() bool { return b.knowsStream("a") })
	var asked atomic.Int64
	b.rdb.AddHook(counting{&asked, map[string]bool{b.lua.pick.Hash(): true, b.lua.lookup.Hash(): true}})
	for range 1000 {
		if l := pick(t, b, "a", balancer.Play); l.Origin.ID != owner {
			t.Fatalf("sent to %s, it is on %s", l.Origin.ID, owner)
		}
		if o, err := b.Lookup(ctx, stream("a")); err != nil || o.ID != owner {
			t.Fatalf("lookup: %s, %v; it is on %s", o.ID, err, owner)
		}
		b.heard() // the copy is fresh, however long this loop takes
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("Redis was asked %d times", n)
	}
	testkit.Within(t, limit, "its players counted by the other proxy", func() bool { return statusOf(t, a, owner).Players == 1000 })
}

// A pin lives as long as somebody holds it, and as long as that somebody lives.
func TestHoldsExpireWithTheirProxy(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	const hold = 3 * time.Second
	short := func(c *Config) { c.Hold, c.LeaseIdle = hold, time.Second }
	a, b := open(t, s, short), open(t, s, short)
	addOrigins(t, 4, a, b)
	live := pick(t, a, "live", balancer.Publish)
	dead, err := New(ctx, Config{Addrs: []string{s.Addr}, Hold: hold, LeaseIdle: time.Second}, b.log)
	if err != nil {
		t.Fatal(err)
	}
	orphan := pick(t, dead, "orphan", balancer.Publish)
	if err := dead.Close(); err != nil { // as good as killed: nothing is released
		t.Fatal(err)
	}
	if _, err := b.Pick(ctx, balancer.Request{Stream: stream("orphan"), Exclude: []string{orphan.Origin.ID}}); !errors.Is(err, balancer.ErrOwnerUnreachable) {
		t.Errorf("while its publisher may live: %v", err)
	}
	streams := func() (n int) {
		all, err := b.Origins(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range all {
			n += o.Streams
		}
		return n
	}
	testkit.Within(t, limit, "the dead proxy's stream forgotten", func() bool { return streams() == 1 })
	time.Sleep(hold) // whoever is not renewed would be gone
	if _, err := b.Pick(ctx, balancer.Request{Stream: stream("live"), Exclude: []string{live.Origin.ID}}); !errors.Is(err, balancer.ErrOwnerUnreachable) {
		t.Errorf("a stream that is published all the time was given up: %v", err)
	}
	release(t, a, live)
	testkit.Within(t, limit, "nothing pinned", func() bool { return streams() == 0 })
}

// What was made up is not kept, here or there.
func TestNothingIsLeft(t *testing.T) {
	s := redistest.Start(t)
	a := open(t, s, func(c *Config) { c.LeaseIdle = 300 * time.Millisecond })
	addOrigins(t, 4, a)
	c := s.Client()
	defer c.Close()
	before, err := c.DBSize(ctx).Result()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		release(t, a, pick(t, a, fmt.Sprint("play", i), balancer.Play), pick(t, a, fmt.Sprint("publish", i), balancer.Publish))
	}
	testkit.Within(t, limit, "Redis as it was before", func() bool {
		n, err := c.DBSize(ctx).Result()
		return err == nil && n <= before+1 // the counts of proxies
	})
	testkit.Within(t, limit, "every map empty", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.entries)+len(a.leases)+len(a.known)+len(a.asked) == 0
	})
	keys, err := c.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if ttl, err := c.PTTL(ctx, k).Result(); err != nil || ttl < 0 {
			t.Errorf("%s never expires: %v, %v", k, ttl, err)
		}
	}
}
