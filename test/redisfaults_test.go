package e2e

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

// What an operator may rely on when Redis has a fault.
const (
	recovers = 5 * time.Second // new streams are accepted after Redis is back
	refuses  = 3 * time.Second // who is refused is told
)

// shared are two proxies of one Redis, and origins that register with one or the other.
type shared struct {
	redis   *redistest.Server
	proxies []*instance
	origins []*outside
}

// places are where Redis and the two proxies are, nil where the test is.
type places struct{ redis, a, b *host }

func newShared(t *testing.T, at places, origins int, flags ...string) *shared {
	t.Helper()
	addr := at.redis.at(testkit.FreePort(t))
	ip, port, _ := net.SplitHostPort(addr)
	s := &shared{}
	at.redis.do(t, func() {
		s.redis = redistest.Start(t, "--port", port, "--bind", ip, "--protected-mode", "no")
	})
	flags = append([]string{"--balancer", "redis", "--redis", addr, "--register-allow", "127.0.0.0/8,10.77.0.0/16"}, flags...)
	for _, on := range []*host{at.a, at.b} {
		s.proxies = append(s.proxies, newProxyOn(t, on, origins, flags...).start())
	}
	for i := range origins {
		in := s.proxies[i%2]
		// An SRS that writes the files of dozens of streams waits for the disk, and all
		// its sessions with it: nobody asks for these.
		s.origins = append(s.origins, newOutside(in, i, "hls { enabled on;", "hls { enabled off;").run())
	}
	for _, in := range s.proxies {
		in.waitOrigins(origins, origins, readyWithin)
	}
	return s
}

// isSplit says, also afterwards, that SRS has split a stream by itself (docs/FAULTS.md, "what
// did not hold"): it has forgotten what it made for the publisher, and made another one for
// the next to ask.
func (s *shared) isSplit(stream string) bool {
	return suite.srs != "" && slices.ContainsFunc(s.origins, func(o *outside) bool {
		return strings.Count(o.out.String(), "new live source, stream_url=/live/"+stream+"\n") > 1
	})
}

// redisFault befalls the Redis of two proxies.
type redisFault struct {
	name  string
	flags []string
	lasts time.Duration
	// begin returns what ends it.
	begin func(t *testing.T, s *shared, at places) (end func())
	// away are the proxies that don't reach Redis meanwhile.
	away [2]bool
}

func (f redisFault) local() bool { return strings.Contains(strings.Join(f.flags, " "), "local") }

// A network that lets nothing pass, of which nobody is told: no answer, no reset. For all,
// or for one proxy only; and a cable that is out.
func TestRedisPartitioned(t *testing.T) {
	t.Parallel()
	if !inNetwork(t) {
		return
	}
	n := newNetwork(t)
	const forgets = 10 * time.Second // that Redis was away from all, and its state is not believed
	shorter := forgets
	if !suite.faults {
		shorter = 4 * time.Second
	}
	for _, f := range []redisFault{
		{name: "partitioned", away: [2]bool{true, true}, lasts: forgets, begin: cutOff},
		{name: "partitioned, with the fallback local", flags: []string{"--redis-fallback", "local"}, away: [2]bool{true, true}, lasts: shorter, begin: cutOff},
		{name: "partitioned from one proxy", away: [2]bool{true, false}, lasts: shorter, begin: func(t *testing.T, _ *shared, at places) func() {
			return at.redis.cut(t, at.a)
		}},
		{name: "unplugged", away: [2]bool{true, true}, lasts: shorter, begin: func(t *testing.T, _ *shared, at places) func() {
			return at.redis.unplug(t)
		}},
	} {
		at := places{n.host(t), n.host(t), n.host(t)}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.befall(t, at)
		})
	}
}

func cutOff(t *testing.T, _ *shared, at places) func() {
	a, b := at.redis.cut(t, at.a), at.redis.cut(t, at.b)
	return func() {
		a()
		b()
	}
}

// What befalls the process itself.
func TestRedisProcess(t *testing.T) {
	t.Parallel()
	stopped := 4 * time.Second
	if suite.faults {
		stopped = 30 * time.Second
	}
	for _, f := range []redisFault{
		{name: "killed", away: [2]bool{true, true}, lasts: 3 * time.Second, begin: func(_ *testing.T, s *shared, _ places) func() {
			s.redis.Kill()
			return s.redis.Start
		}},
		{name: "stopped", away: [2]bool{true, true}, lasts: stopped, begin: func(_ *testing.T, s *shared, _ places) func() {
			s.redis.Stop()
			return s.redis.Continue
		}},
		{name: "emptied", begin: func(t *testing.T, s *shared, _ places) func() {
			c := s.redis.Client()
			defer c.Close()
			if err := c.FlushAll(context.Background()).Err(); err != nil {
				t.Fatal(err)
			}
			return func() {}
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.befall(t, places{})
		})
	}
}

// befall has the fault happen under load. No session may be cut, streams that are known are
// played through both proxies all the time, new ones get an answer, and no name has two
// publishers on two origins, while Redis is away and after.
func (f redisFault) befall(t *testing.T, at places) {
	streams := 6
	if suite.faults {
		streams = 12
	}
	still := watchStandstill(t)
	s := newShared(t, at, 3, f.flags...)
	c := newCrowd(t, s.proxies[0], streams, s.proxies[1])
	n := newNewcomers(s, c)
	double := doubles{still: still}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { n.come(ctx) })
	all.Go(func() { double.watch(ctx, s.origins) })
	defer func() {
		cancel()
		all.Wait()
		n.leave()
	}()
	time.Sleep(2 * time.Second)

	end := f.begin(t, s, at)
	begun := time.Now()
	for i, away := range f.away {
		n.away[i].Store(away && !f.local())
	}
	time.Sleep(f.lasts)
	for i := range f.away {
		n.away[i].Store(false)
	}
	ended := time.Now()
	end()
	for i, away := range f.away {
		if !away {
			continue
		}
		eventually(t, time.Minute, "Redis is reached again", func() (bool, string) {
			return strings.Contains(s.proxies[i].err.String(), "Redis is reached again"), "no word of it"
		})
		reached := time.Since(ended)
		t.Logf("proxy %d reaches Redis %s after the fault's end", i, reached.Round(time.Millisecond))
		still.skip(t)
		if reached > recovers {
			t.Errorf("proxy %d reaches Redis %s after the fault's end, want %s", i, reached, recovers)
		}
	}
	time.Sleep(time.Until(ended.Add(recovers + 2*time.Second)))
	cancel()
	all.Wait()

	still.skip(t)
	f.judge(t, n, begun, ended)
	for i, away := range f.away {
		if said := strings.Contains(s.proxies[i].err.String(), "Redis can't be reached"); said != away {
			t.Errorf("proxy %d: it is %t that Redis was away, and the log says %t", i, away, said)
		}
	}
	for name, times := range double.seen {
		if f.local() && n.cameBefore(name, begun) {
			continue // one proxy has placed it by Redis in the last moment, the other one alone
		}
		t.Errorf("%s had two owners, first seen %s after the fault's end", name, times.Sub(ended).Round(time.Millisecond))
	}
	for name := range double.last {
		t.Errorf("%s still has two owners", name)
	}
	awaitFrames(t, 15, time.Minute, c.playersBut(nil)...)
	still.skip(t)
	c.checkOthers(t, nil)
	n.checkLive(t)
}

// doubles are the names that two origins had publishers of at the same time: when that was
// seen first, and those of the last look.
type doubles struct {
	seen  map[string]time.Time
	last  map[string]bool
	still *standstill // has how long the origins took to answer
}

func (d *doubles) watch(ctx context.Context, origins []*outside) {
	d.seen = make(map[string]time.Time)
	d.last = make(map[string]bool)
	for ctx.Err() == nil {
		owners, now := make(map[string]int), make(map[string]bool)
		for _, o := range origins {
			from := time.Now()
			names := o.publishing()
			d.still.stood(time.Since(from))
			for _, name := range names {
				if owners[name]++; owners[name] > 1 {
					now[name] = true
				}
			}
		}
		// Origins are asked one after the other: seen once, it may have moved meanwhile.
		for name := range now {
			if _, known := d.seen[name]; !known && d.last[name] {
				d.seen[name] = time.Now()
			}
		}
		d.last = now
		sleepFor(ctx, 200*time.Millisecond)
	}
}

// standstill is the longest time for which this process got no CPU, or an origin that was
// asked directly gave no answer: of a machine that does other things for a second nothing
// can be said of seconds.
type standstill struct{ worst atomic.Int64 }

const standsStill = time.Second

// watchStandstill watches until the test has ended.
func watchStandstill(t *testing.T) *standstill {
	s := new(standstill)
	ctx, cancel := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			from := time.Now()
			sleepFor(ctx, 50*time.Millisecond)
			s.stood(time.Since(from))
		}
	})
	t.Cleanup(func() {
		cancel()
		watch.Wait()
	})
	return s
}

func (s *standstill) stood(d time.Duration) {
	for old := s.worst.Load(); int64(d) > old && !s.worst.CompareAndSwap(old, int64(d)); old = s.worst.Load() {
	}
}

func (s *standstill) skip(t *testing.T) {
	t.Helper()
	if d := time.Duration(s.worst.Load()); d > standsStill {
		t.Skipf("the machine stood still for %s: nothing can be said of times", d.Round(time.Millisecond))
	}
}

func sleepFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
