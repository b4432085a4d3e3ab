package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"srs-proxy/balancer"
)

var (
	errDeaf    = errors.New("no answer in time")
	errRefused = errors.New("connection refused")
)

// bench is a monitor whose origins answer as a test says.
type bench struct {
	t   *testing.T
	m   *Monitor
	bal *balancer.Memory

	mu  sync.Mutex // guards the following
	how map[string]finding
	any func() finding // for all, instead
	// takes is how long each answer takes.
	takes time.Duration
}

// within runs a test with its own clock.
func within(t *testing.T, cfg Config, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, bal: balancer.NewMemory(balancer.Config{}), how: make(map[string]finding)}
		b.m = New(cfg, b.bal, slog.New(slog.DiscardHandler))
		b.m.check = func(_ context.Context, e balancer.Endpoints, _ bool) finding {
			b.mu.Lock()
			f := b.how[e.RTMP]
			if b.any != nil {
				f = b.any()
			}
			takes := b.takes
			b.mu.Unlock()
			time.Sleep(takes)
			if f.err != nil && !f.gone {
				time.Sleep(b.m.cfg.Timeout)
			}
			return f
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.m.Run(ctx) }()
		test(b)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func addr(n int) string { return fmt.Sprintf("10.0.0.%d:1935", n) }

func registration(n int, service string) Origin {
	return Origin{Name: fmt.Sprint("device", n), Server: fmt.Sprint("server", n), Service: service, PID: n, Endpoints: balancer.Endpoints{RTMP: addr(n)}}
}

func (b *bench) register(n int, service string) {
	b.t.Helper()
	if err := b.m.Register(b.t.Context(), registration(n, service)); err != nil {
		b.t.Fatal(err)
	}
}

// beat keeps origins alive until the test ends.
func (b *bench) beat(every time.Duration, service string, origins ...int) {
	ctx := b.t.Context()
	for _, n := range origins {
		b.register(n, service)
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(every):
			}
			for _, n := range origins {
				if err := b.m.Register(ctx, registration(n, service)); err != nil && ctx.Err() == nil {
					b.t.Error(err)
				}
			}
		}
	}()
}

func (b *bench) answer(n int, f finding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.how[addr(n)] = f
}

// origins are those that the balancer has, with their states.
func (b *bench) origins() string {
	b.t.Helper()
	all, err := b.bal.Origins(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	s := ""
	for _, o := range all {
		s += o.ID[len("10.0.0.") : len(o.ID)-len(":1935")]
		if o.State == balancer.Draining {
			s += "-"
		}
		if o.Streams > 0 {
			s += fmt.Sprintf("(%d)", o.Streams)
		}
		s += " "
	}
	return s
}

func (b *bench) want(when, origins string) {
	b.t.Helper()
	synctest.Wait()
	if got := b.origins(); got != origins {
		b.t.Errorf("%s: the balancer has %q, want %q", when, got, origins)
	}
}

func (b *bench) publish(name string) balancer.Lease {
	b.t.Helper()
	l, err := b.bal.Pick(b.t.Context(), balancer.Request{Stream: balancer.Stream{App: "live", Name: name}, Role: balancer.Publish})
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// killed, an origin is out within a second, with its streams; then it is back only
// after two answers.
func TestKilled(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.beat(9*time.Second, "a", 1)
		b.publish("x")
		b.beat(9*time.Second, "a", 2)
		time.Sleep(3 * time.Second)
		b.want("before", "1(1) 2 ")
		b.answer(1, finding{err: errRefused, gone: true})
		time.Sleep(time.Second + DefaultInterval/8)
		b.want("a second later", "2 ")
		time.Sleep(20 * time.Second) // it goes on saying that it is there
		b.want("heartbeats alone", "2 ")
		b.answer(1, finding{})
		time.Sleep(time.Second + DefaultInterval/8)
		b.want("one answer", "2 ")
		time.Sleep(time.Second)
		b.want("two answers", "1 2 ")
	})
}

// Whoever cannot connect to an origin has it checked at once. That alone takes nobody
// out, and however many do so ask for no more than a check at a time.
func TestRecheck(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.beat(9*time.Second, "a", 1, 2)
		time.Sleep(3*time.Second + 10*time.Millisecond)
		checks := 0
		b.mu.Lock()
		b.any = func() finding { checks++; return finding{} }
		b.takes = 100 * time.Microsecond // during which all of these come
		b.mu.Unlock()
		for range 100 {
			b.m.Recheck(addr(1))
			b.m.Recheck("nobody")
		}
		time.Sleep(time.Millisecond)
		b.want("it answers", "1 2 ")
		if checks == 0 || checks > 3 {
			t.Errorf("%d checks", checks)
		}
		b.mu.Lock()
		b.any, b.takes = nil, 0
		b.mu.Unlock()
		b.answer(1, finding{err: errRefused, gone: true})
		b.m.Recheck(addr(1))
		time.Sleep(time.Millisecond)
		b.want("it is dead", "2 ")
	})
}

// Three misses take an origin out, fewer do not.
func TestHangs(t *testing.T) {
	var lost []string
	within(t, Config{Lost: func(id string) { lost = append(lost, id) }}, func(b *bench) {
		b.beat(9*time.Second, "a", 1, 2, 3)
		time.Sleep(2 * time.Second)
		b.answer(2, finding{err: errDeaf})
		time.Sleep(2*DefaultTimeout - 100*time.Millisecond) // the third check has not begun
		b.want("one or two misses", "1 2 3 ")
		for _, s := range b.m.Members() {
			if s.Missing != (s.ID == addr(2)) || !s.Up {
				t.Errorf("%+v", s)
			}
		}
		b.answer(2, finding{})
		time.Sleep(5 * time.Second)
		b.answer(2, finding{err: errDeaf})
		time.Sleep(3*DefaultTimeout + DefaultInterval + 500*time.Millisecond)
		b.want("three misses", "1 3 ")
		time.Sleep(10 * time.Second)
	})
	if !slices.Equal(lost, []string{addr(2)}) {
		t.Errorf("lost %v", lost)
	}
}

// A new process at the same place has nothing of the one before: neither its streams
// nor its bad name.
func TestRestarted(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.register(1, "a")
		b.publish("x")
		b.want("before", "1(1) ")
		b.register(1, "a")
		b.want("a heartbeat", "1(1) ")
		b.register(1, "b")
		b.want("another process", "1 ")
		b.answer(1, finding{err: errRefused, gone: true})
		time.Sleep(2 * time.Second)
		b.want("killed", "")
		b.register(1, "b")
		b.want("the same process says that it lives", "")
		b.answer(1, finding{})
		b.register(1, "c")
		b.want("another process", "1 ")
	})
}

// The API tells of another process before its first heartbeat does, and of one that
// sends none.
func TestAnotherProcessAnswers(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.list(1)
		b.want("not asked yet", "")
		time.Sleep(time.Second)
		b.publish("x")
		b.answer(1, finding{summary: &summary{Service: "a"}})
		time.Sleep(15 * time.Second)
		b.want("before", "1(1) ")
		time.Sleep(5 * time.Second)
		b.want("the same process", "1(1) ")
		b.answer(1, finding{summary: &summary{Service: "b"}})
		time.Sleep(2 * time.Second)
		b.want("another process", "1 ")
	})
}

// Who does not register again is forgotten; who has sessions drains first.
func TestExpires(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.register(1, "a")
		l := b.publish("x")
		b.register(2, "a")
		b.register(3, "a")
		b.answer(3, finding{err: errRefused, gone: true})
		time.Sleep(DefaultTTL - time.Second)
		b.want("before", "1(1) 2 ")
		time.Sleep(2 * time.Second)
		b.want("after", "1-(1) ")
		if n := len(b.m.Members()); n != 1 {
			t.Errorf("%d are known", n)
		}
		b.register(1, "a")
		b.want("its heartbeats are back", "1(1) ")
		time.Sleep(DefaultTTL + time.Second)
		b.want("and gone", "1-(1) ")
		if err := b.bal.Release(b.t.Context(), l); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		b.want("without sessions", "")
		if n := len(b.m.Members()); n != 0 {
			t.Errorf("%d are known", n)
		}
	})
}

// Where others register origins too, what expires here may live there.
func TestExpiresWhereShared(t *testing.T) {
	within(t, Config{Shared: true}, func(b *bench) {
		b.register(1, "a")
		time.Sleep(DefaultTTL + time.Second)
		b.want("after", "1 ")
		if n := len(b.m.Members()); n != 0 {
			t.Errorf("%d are known", n)
		}
	})
}

// When most miss at the same time, it is this host. Who is refused is dead all the same.
func TestMostMiss(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.beat(9*time.Second, "a", 1, 2, 3, 4)
		time.Sleep(2 * time.Second)
		for n := range 4 {
			b.answer(n+1, finding{err: errDeaf})
		}
		time.Sleep(time.Minute)
		b.want("all miss", "1 2 3 4 ")
		b.answer(4, finding{err: errRefused, gone: true})
		time.Sleep(5 * time.Second)
		b.want("one is dead", "1 2 3 ")
		for n := range 3 {
			b.answer(n+1, finding{})
		}
		time.Sleep(5 * time.Second)
		for _, s := range b.m.Members() {
			if s.Up != (s.ID != addr(4)) || s.Up && s.Missing {
				t.Errorf("%+v", s)
			}
		}
	})
}

// A check that was under way while we stood still says nothing of the origin.
func TestStandstill(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.beat(9*time.Second, "a", 1, 2, 3)
		b.answer(1, finding{err: errDeaf})
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			b.m.lateAt(time.Now())
		}
		b.want("we stand still all the time", "1 2 3 ")
		time.Sleep(10 * time.Second)
		b.want("no more", "2 3 ")
	})
}

// A server that registers from another address has left the old one, as one failed
// check confirms; as long as that one answers, both are there.
func TestMoved(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.beat(9*time.Second, "a", 1, 2, 5)
		time.Sleep(2 * time.Second)
		moved := registration(1, "b")
		moved.Endpoints.RTMP = addr(3)
		if err := b.m.Register(b.t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		b.want("the old one answers", "1 2 3 5 ")
		b.answer(2, finding{err: errDeaf})
		b.answer(1, finding{err: errDeaf})
		b.register(5, "a")
		time.Sleep(DefaultTimeout + DefaultInterval + 200*time.Millisecond)
		b.want("one miss of each", "2 3 5 ")
	})
}

func TestTooMany(t *testing.T) {
	within(t, Config{Most: 2}, func(b *bench) {
		defer func() {
			b.m.SetMost(3)
			b.register(4, "a")
			b.m.SetMost(1)
			b.register(4, "a") // who is in stays
			if err := b.m.Register(b.t.Context(), registration(5, "a")); !errors.Is(err, ErrTooMany) {
				t.Error(err)
			}
		}()
		b.register(1, "a")
		b.register(2, "a")
		if err := b.m.Register(b.t.Context(), registration(3, "a")); !errors.Is(err, ErrTooMany) {
			t.Error(err)
		}
		b.register(2, "b")
		time.Sleep(DefaultTTL + time.Second)
		b.register(3, "a")
	})
}

// The balancer hears of the load, in bits per second and shares of a core.
func TestLoad(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.register(1, "a")
		start := time.Now()
		b.mu.Lock()
		b.any = func() finding {
			s := int64(time.Since(start).Seconds()) / 3 * 3 // SRS counts every 3 s
			return finding{summary: &summary{Service: "a", CPU: 0.5, Recv: 1000 * s, Send: 2000 * s, Sampled: 1000 * (s + 1)}}
		}
		b.mu.Unlock()
		time.Sleep(15 * time.Second)
		all, err := b.bal.Origins(b.t.Context())
		if err != nil || len(all) != 1 || all[0].Load != (balancer.Load{CPU: 0.5, Bitrate: 24000}) {
			t.Errorf("%+v %v", all, err)
		}
		if s := b.m.Members()[0]; s.InBps != 8000 || s.OutBps != 16000 {
			t.Errorf("%+v", s)
		}
	})
}

// refusing is a balancer that is away now and then.
type refusing struct {
	*balancer.Memory
	mu   sync.Mutex
	away bool
}

func (r *refusing) set(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

var errAway = errors.New("away")

func (r *refusing) Update(ctx context.Context, o balancer.Origin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return errAway
	}
	return r.Memory.Update(ctx, o)
}

// A registration that the balancer did not get is not confirmed, and the next one is
// taken.
func TestBalancerAway(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		bal := &refusing{Memory: b.bal}
		b.m.bal = bal
		bal.set(true)
		if err := b.m.Register(b.t.Context(), registration(1, "a")); !errors.Is(err, errAway) {
			t.Error(err)
		}
		if n := len(b.m.Members()); n != 0 {
			t.Errorf("%d are known", n)
		}
		bal.set(false)
		b.register(1, "a")
		b.answer(1, finding{err: errRefused, gone: true})
		time.Sleep(2 * time.Second)
		b.answer(1, finding{})
		bal.set(true)
		time.Sleep(5 * time.Second)
		b.want("it answers, but the balancer is away", "")
		bal.set(false)
		time.Sleep(2 * time.Second)
		b.want("the balancer is back", "1 ")
	})
}

// All at once, from many machines: nobody is lost.
func TestManyAtOnce(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		var all sync.WaitGroup
		for n := range 128 {
			all.Go(func() {
				for beat := range 3 {
					if err := b.m.Register(b.t.Context(), registration(n+1, fmt.Sprint(beat/2))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		time.Sleep(5 * time.Second)
		if n := len(b.m.Members()); n != 128 {
			t.Errorf("%d members", n)
		}
		origins, err := b.bal.Origins(b.t.Context())
		if err != nil || len(origins) != 128 {
			t.Errorf("%d origins, %v", len(origins), err)
		}
		for _, o := range origins {
			if o.Service != "1" {
				t.Errorf("%s is of process %s", o.ID, o.Service)
			}
		}
	})
}
