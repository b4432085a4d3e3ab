package redisbalancer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

// recovery is how soon new streams must be placed again.
const recovery = 5 * time.Second

// owners sees to it that no two publishers of a stream are on two origins.
type owners struct {
	mu   sync.Mutex
	live map[string]map[string]int // publishers by stream and origin
	bad  []string
}

func (o *owners) opens(l balancer.Lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.live == nil {
		o.live = make(map[string]map[string]int)
	}
	at := o.live[l.Stream.Name]
	if at == nil {
		at = make(map[string]int)
		o.live[l.Stream.Name] = at
	}
	if at[l.Origin.ID]++; len(at) > 1 {
		o.bad = append(o.bad, fmt.Sprintf("%s: %v", l.Stream.Name, at))
	}
}

// closes comes before the release: afterwards the stream may be elsewhere.
func (o *owners) closes(l balancer.Lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.live[l.Stream.Name]
	if at[l.Origin.ID]--; at[l.Origin.ID] == 0 {
		delete(at, l.Origin.ID)
	}
}

// churn publishes and plays through all proxies until stop, which reports what two owners had.
func churn(t *testing.T, proxies ...*Redis) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var seen owners
	var all sync.WaitGroup
	for n, r := range proxies {
		for worker := range 4 {
			all.Go(func() {
				for i := worker + n; ctx.Err() == nil; i += 3 {
					role := balancer.Role(i % 2)
					l, err := r.Pick(ctx, balancer.Request{Stream: stream(fmt.Sprint("churn", i%40)), Role: role})
					if err != nil {
						if !errors.Is(err, balancer.ErrUnavailable) && ctx.Err() == nil {
							t.Error(err)
						}
						time.Sleep(time.Millisecond)
						continue
					}
					if role == balancer.Publish {
						seen.opens(l)
					}
					time.Sleep(2 * time.Millisecond)
					if role == balancer.Publish {
						seen.closes(l)
					}
					if err := r.Release(context.Background(), l); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	return func() {
		cancel()
		all.Wait()
		for _, b := range seen.bad[:min(len(seen.bad), 10)] {
			t.Errorf("two owners of %s", b)
		}
	}
}

// Whatever befalls Redis: sessions and known streams go on where they are, new streams
// wait or are told, and when it is back all is as it was.
func TestRedisFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// begin returns what ends the fault, and whether Redis is away until then.
		begin func(t *testing.T, s *redistest.Server) (end func(), away bool)
		lasts time.Duration
	}{
		{name: "killed", lasts: time.Second, begin: func(_ *testing.T, s *redistest.Server) (func(), bool) {
			s.Kill()
			return s.Start, true
		}},
		{name: "stopped", lasts: time.Second, begin: func(_ *testing.T, s *redistest.Server) (func(), bool) {
			s.Stop()
			return s.Continue, true
		}},
		{name: "stopped until all leases have expired", lasts: 9 * time.Second, begin: func(_ *testing.T, s *redistest.Server) (func(), bool) {
			s.Stop()
			return s.Continue, true
		}},
		{name: "flushed", lasts: 0, begin: func(t *testing.T, s *redistest.Server) (func(), bool) {
			c := s.Client()
			defer c.Close()
			if err := c.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			return func() {}, false
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			survives(t, func() *Redis { return open(t, s, faulty) }, func() (func(), bool) { return tt.begin(t, s) }, tt.lasts)
		})
	}
}

// faulty has leases short enough for a test to see them end.
func faulty(c *Config) {
	c.Hold, c.LeaseIdle, c.Timeout, c.Settle = 6*time.Second, 2*time.Second, time.Second, 2*time.Second
}

// survives is what proxies, which open makes, must do when a fault begins and ends.
func survives(t *testing.T, open func() *Redis, begin func() (end func(), away bool), lasts time.Duration) {
	t.Helper()
	a, b := open(), open()
	addOrigins(t, 4, a, b)
	const streams = 300
	var live []balancer.Lease
	for i := range streams {
		live = append(live, pick(t, a, fmt.Sprint("live", i), balancer.Publish))
	}
	testkit.Within(t, limit, "all streams known to the other proxy", func() bool { return b.knowsStream(fmt.Sprint("live", streams-1)) })
	stop := churn(t, a, b)
	time.Sleep(100 * time.Millisecond)

	end, away := begin()
	if away {
		wantAway(t, a, b, live)
	}
	time.Sleep(lasts)
	if away {
		wantAway(t, a, b, live)
	}
	end()

	back := time.Now()
	for _, r := range []*Redis{a, b} {
		testkit.Within(t, limit, "a new stream placed", func() bool {
			l, err := r.Pick(ctx, balancer.Request{Stream: stream("new"), Role: balancer.Publish})
			if err != nil {
				return false
			}
			return r.Release(ctx, l) == nil
		})
	}
	if took := time.Since(back); took > recovery {
		t.Errorf("new streams are placed %v after Redis is back", took)
	} else {
		t.Logf("new streams are placed %v after Redis is back", took)
	}
	stop()
	c := open() // one that knows nothing but what Redis says
	for _, l := range live {
		for _, r := range []*Redis{a, b, c} {
			if p := pick(t, r, l.Stream.Name, balancer.Play); p.Origin.ID != l.Origin.ID {
				t.Fatalf("%s is on %s and players are sent to %s", l.Stream.Name, l.Origin.ID, p.Origin.ID)
			}
		}
		// Redis itself knows that the publisher lives.
		req := balancer.Request{Stream: l.Stream, Role: balancer.Publish, Exclude: []string{l.Origin.ID}}
		if _, err := c.Pick(ctx, req); !errors.Is(err, balancer.ErrOwnerUnreachable) {
			t.Fatalf("%s would have a second owner: %v", l.Stream.Name, err)
		}
	}
	testkit.Within(t, limit, "every publisher counted", func() bool {
		n := 0
		for i := range 4 {
			n += statusOf(t, c, originN(i).ID).Publishers
		}
		return n == streams
	})
}

// wantAway is what a proxy does without Redis.
func wantAway(t *testing.T, a, b *Redis, live []balancer.Lease) {
	t.Helper()
	testkit.Within(t, limit, "Redis noticed to be away", func() bool { return a.isAway() && b.isAway() })
	for _, l := range live {
		p := pick(t, b, l.Stream.Name, balancer.Play)
		if p.Origin.ID != l.Origin.ID {
			t.Fatalf("%s is on %s and its players are sent to %s", l.Stream.Name, l.Origin.ID, p.Origin.ID)
		}
		release(t, b, p)
		if o, err := b.Lookup(ctx, l.Stream); err != nil || o.ID != l.Origin.ID {
			t.Fatalf("lookup of %s: %s, %v; it is on %s", l.Stream.Name, o.ID, err, l.Origin.ID)
		}
	}
	began := time.Now()
	for i := range 20 {
		_, err := b.Pick(ctx, balancer.Request{Stream: stream(fmt.Sprint("away", i)), Role: balancer.Publish})
		if !errors.Is(err, balancer.ErrUnavailable) {
			t.Fatalf("a new stream: %v", err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("20 refusals took %v", took)
	}
	if all, err := a.Origins(ctx); err != nil || len(all) != 4 {
		t.Errorf("%d origins known, %v", len(all), err)
	}
}

// Redis is away for longer than origins live without a heartbeat. Who is back first does not
// know of those that the other one has heard of, and must not forget them for it.
func TestOriginsOutliveRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	cfg := func(c *Config) { c.OriginTTL = 3 * time.Second }
	a, b := open(t, s, cfg), open(t, s, cfg)
	beat := func(i int) {
		if err := a.Update(ctx, originN(i)); err != nil {
			t.Error(err)
		}
	}
	addOrigins(t, 4, a, b)
	live := pick(t, a, "live", balancer.Publish)
	testkit.Within(t, limit, "the stream known to the other proxy", func() bool { return b.knowsStream("live") })
	s.Stop()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for i := range 4 {
			beat(i)
		}
	}
	a.recovering.Lock() // it is the last to come back
	s.Continue()
	testkit.Within(t, limit, "Redis reached again", func() bool { return !b.isAway() })
	time.Sleep(2 * pollEvery)
	if n := b.knows(); n != 4 {
		t.Errorf("%d origins known to who is back first", n)
	}
	a.recovering.Unlock()
	testkit.Within(t, limit, "Redis reached again", func() bool { return !a.isAway() })
	if p := pick(t, b, "live", balancer.Publish); p.Origin.ID != live.Origin.ID {
		t.Errorf("the stream is on %s, a publisher is sent to %s", live.Origin.ID, p.Origin.ID)
	}
}

// Redis is back while a proxy still waits for its name in vain. The epoch that begins then must
// have the name nevertheless: without it each new connection would take the server for another
// one, and what all proxies have written back would have to be written again.
func TestEpochNamesItsServer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	cfg := Config{Addrs: []string{s.Addr}, Timeout: 500 * time.Millisecond}
	r, err := New(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	direct := s.Client()
	defer direct.Close()
	epoch := r.keys.key("epoch")
	if err := direct.Del(ctx, epoch).Err(); err != nil {
		t.Fatal(err)
	}

	s.Stop()
	r.lose(errors.New("stopped by the test"))
	time.AfterFunc(cfg.Timeout+cfg.Timeout/2, s.Continue)
	testkit.Within(t, limit, "Redis reached again", func() bool { return r.recover(ctx, r.currentEpoch()) == nil })
	id, err := runID(ctx, direct)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := direct.Get(ctx, epoch).Result(); err != nil || !strings.HasPrefix(got, id) {
		t.Errorf("epoch %q of server %q, %v", got, id, err)
	}
}

// An answer that did not arrive in time gave the stream to an origin; the proxy has placed it
// alone meanwhile, at another one. That is where it is then, and its publisher may stay.
func TestAnswerComesTooLate(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	link := redistest.NewLink(t, s)
	a := open(t, s, func(c *Config) { c.Addrs, c.Fallback = []string{link.Addr()}, Local })
	b := open(t, s)
	var moved atomic.Int64
	a.OnMoved(func(balancer.Stream, uint64) { moved.Add(1) })
	addOrigins(t, 8, b, a)
	placed := pick(t, a, "late", balancer.Publish)
	link.Cut()
	testkit.Within(t, limit, "Redis noticed to be away", a.isAway)
	a.mu.Lock()
	for id := range a.origins {
		if id != placed.Origin.ID {
			a.entries[stream("late").String()].cur.origin = a.origins[id].Origin
			break
		}
	}
	a.mu.Unlock()
	link.Mend()
	testkit.Within(t, limit, "Redis reached again", func() bool { return !a.isAway() })
	now := pick(t, a, "late", balancer.Play)
	if now.Origin.ID == placed.Origin.ID || moved.Load() > 0 {
		t.Errorf("players are sent to %s, and %d times sessions were sent away", now.Origin.ID, moved.Load())
	}
	if p := pick(t, b, "late", balancer.Publish); p.Origin.ID != now.Origin.ID {
		t.Errorf("the stream is on %s, a publisher is sent to %s", now.Origin.ID, p.Origin.ID)
	}
}

// Proxies that place streams alone come to the same answers, and say so when they can
// again; of two answers one is taken back.
func TestFallbackLocal(t *testing.T) {
	s := redistest.Start(t)
	local := func(c *Config) { c.Fallback = Local }
	a, b := open(t, s, local), open(t, s, local)
	moved := make(chan uint64, 10)
	for _, r := range []*Redis{a, b} {
		r.OnMoved(func(_ balancer.Stream, pin uint64) {
			select {
			case moved <- pin:
			default:
			}
		})
	}
	addOrigins(t, 8, a, b)
	s.Kill()
	testkit.Within(t, limit, "Redis noticed to be away", func() bool { return a.isAway() && b.isAway() })
	var published []balancer.Lease
	used := make(map[string]bool)
	for i := range 200 {
		l := pick(t, a, fmt.Sprint(i), balancer.Publish)
		if p := pick(t, b, fmt.Sprint(i), balancer.Play); p.Origin.ID != l.Origin.ID {
			t.Fatalf("stream %d is on %s and %s", i, l.Origin.ID, p.Origin.ID)
		}
		published = append(published, l)
		used[l.Origin.ID] = true
	}
	if len(used) != 8 {
		t.Errorf("only %d of 8 origins used", len(used))
	}
	// One that a can't reach, and b can.
	first := pick(t, b, "torn", balancer.Publish)
	second := pick(t, a, "torn", balancer.Publish, first.Origin.ID)
	if second.Origin.ID == first.Origin.ID {
		t.Fatal("picked an excluded origin")
	}
	s.Start()
	testkit.Within(t, limit, "Redis reached again", func() bool { return !a.isAway() && !b.isAway() })
	for _, l := range published {
		for _, r := range []*Redis{a, b} {
			if p := pick(t, r, l.Stream.Name, balancer.Play); p.Origin.ID != l.Origin.ID {
				t.Fatalf("%s is on %s, players are sent to %s", l.Stream.Name, l.Origin.ID, p.Origin.ID)
			}
		}
	}
	var told uint64
	select {
	case told = <-moved:
	case <-time.After(limit):
		t.Fatal("of two publishers of one stream none was sent away")
	}
	loser, winner, at := a, first, second
	if told == first.Pin && pick(t, a, "torn", balancer.Play).Origin.ID == second.Origin.ID {
		loser, winner, at = b, second, first
	}
	release(t, loser, at)
	for _, r := range []*Redis{a, b} {
		if p := pick(t, r, "torn", balancer.Publish); p.Origin.ID != winner.Origin.ID {
			t.Errorf("the next publisher is sent to %s, the stream is on %s", p.Origin.ID, winner.Origin.ID)
		}
	}
}

// A proxy that is cut off alone keeps what it has. What it held so long that the others
// had to give it up, it gives up when it is back.
func TestPartitionOfOneProxy(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	link := redistest.NewLink(t, s)
	cfg := func(c *Config) { c.Hold, c.LeaseIdle, c.Timeout = 6*time.Second, 2*time.Second, time.Second }
	a := open(t, s, cfg, func(c *Config) { c.Addrs = []string{link.Addr()} })
	b := open(t, s, cfg)
	moved := make(chan uint64, 10)
	a.OnMoved(func(_ balancer.Stream, pin uint64) {
		select {
		case moved <- pin:
		default:
		}
	})
	addOrigins(t, 4, b, a)
	waiting := pick(t, a, "waiting", balancer.Play)
	short := pick(t, a, "short", balancer.Publish)
	long := pick(t, a, "long", balancer.Publish)
	link.Cut()
	testkit.Within(t, limit, "the cut noticed", a.isAway)
	if l := pick(t, a, "short", balancer.Play); l.Origin.ID != short.Origin.ID {
		t.Errorf("the players of a live stream are sent to %s", l.Origin.ID)
	}
	if _, err := b.Pick(ctx, balancer.Request{Stream: stream("short"), Exclude: []string{short.Origin.ID}}); !errors.Is(err, balancer.ErrOwnerUnreachable) {
		t.Errorf("the others would give up a stream of a proxy that is cut off: %v", err)
	}
	testkit.Within(t, limit, "the others have given it up", func() bool {
		all, err := b.Origins(ctx)
		n := 0
		for _, o := range all {
			n += o.Streams
		}
		return err == nil && n == 0
	})
	var other balancer.Lease
	for i := 0; other.Origin.ID == "" || other.Origin.ID == long.Origin.ID; i++ {
		if other.Origin.ID != "" {
			release(t, b, other)
			testkit.Within(t, limit, "forgotten", func() bool { return !b.knowsStream("long") })
		}
		for k := range 3 { // so that it is another one's turn
			pick(t, b, fmt.Sprint("filler", i, k), balancer.Publish)
		}
		other = pick(t, b, "long", balancer.Publish)
	}
	link.Mend()
	testkit.Within(t, limit, "Redis reached again", func() bool { return !a.isAway() })
	select {
	case pin := <-moved:
		if pin != long.Pin {
			t.Errorf("pin %d was sent away, the second owner is %d", pin, long.Pin)
		}
	case <-time.After(limit):
		t.Fatal("the second owner was not sent away")
	}
	release(t, a, long)
	if l := pick(t, a, "long", balancer.Play); l.Origin.ID != other.Origin.ID {
		t.Errorf("players are sent to %s, the stream is on %s", l.Origin.ID, other.Origin.ID)
	}
	for _, l := range []balancer.Lease{short, waiting} { // nobody else wanted these
		if p := pick(t, b, l.Stream.Name, balancer.Play); p.Origin.ID != l.Origin.ID {
			t.Errorf("%s: players are sent to %s, it is on %s", l.Stream.Name, p.Origin.ID, l.Origin.ID)
		}
	}
}

// A Redis that comes back with what it had some time ago: all that was decided since is
// written back before anything new is decided.
func TestRedisComesBackWithAnOldState(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	long := func(c *Config) { c.Hold, c.Settle = 10*time.Minute, 6*time.Second }
	link := redistest.NewLink(t, s)
	a := open(t, s, long, func(c *Config) { c.Addrs = []string{link.Addr()} })
	addOrigins(t, 8, a)
	pick(t, a, "early", balancer.Publish)
	client := s.Client()
	defer client.Close()
	if err := client.Save(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	var late []balancer.Lease
	for i := range 50 {
		late = append(late, pick(t, a, fmt.Sprint("late", i), balancer.Publish))
	}
	link.Cut()
	s.Kill()
	s.Start()
	c := open(t, s, long) // is there before the other one has noticed
	defer time.AfterFunc(time.Second, link.Mend).Stop()
	for _, l := range late {
		if p := pick(t, c, l.Stream.Name, balancer.Publish); p.Origin.ID != l.Origin.ID {
			t.Fatalf("%s is on %s, a publisher is sent to %s", l.Stream.Name, l.Origin.ID, p.Origin.ID)
		}
	}
}
