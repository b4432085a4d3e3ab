package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer"
	"srs-proxy/balancer/redisbalancer/redistest"
)

// check asserts what must be so in every world, and that load is as even as bound says.
func check(t *testing.T, w *world, bound float64) {
	t.Helper()
	r := w.report
	if r.moved != 0 || r.split != 0 || r.toDead != 0 {
		t.Errorf("%d streams moved though their origins live, %d sessions split, %d sent to dead origins", r.moved, r.split, r.toDead)
	}
	if r.deaths == 0 || r.cut == 0 || len(w.streams) != w.o.streams || len(r.phases) != 5 {
		t.Errorf("%d deaths cut %d streams, %d of %d live, %d moments: nothing was tested", r.deaths, r.cut, len(w.streams), w.o.streams, len(r.phases))
	}
	if r.worst > bound {
		t.Errorf("one origin has %.2f times the mean of the streams, want %.2f", r.worst, bound)
	}
	t.Logf("worst max/mean %.2f, %d streams cut by %d deaths", r.worst, r.cut, r.deaths)
}

func testOptions(origins, proxies int) options {
	o := defaultOptions()
	o.origins, o.proxies, o.streams, o.players, o.seconds = origins, proxies, 20*origins, 5, minSeconds
	return o
}

// The policy keeps streams where they are and spreads them, alone and shared.
func TestPlacement(t *testing.T) {
	for _, tt := range []struct {
		origins, proxies int
		bound            float64
	}{{128, 1, 1.7}, {256, 1, 1.7}, {128, 4, 1.8}, {512, 8, 2.4}} {
		t.Run(fmt.Sprintf("%d origins, %d proxies", tt.origins, tt.proxies), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(2) {
				o := testOptions(tt.origins, tt.proxies)
				o.seed = seed
				w, st := simulation(o)
				if err := w.run(t.Context()); err != nil {
					t.Fatal(err)
				}
				check(t, w, tt.bound)
				if l := st.load(o); (l.usual.sum() > 0) != (tt.proxies > 1) || l.worst.sum() < l.usual.sum() {
					t.Errorf("Redis: usual %+v, worst %+v", l.usual, l.worst)
				}
			}
		})
	}
}

// The same seed is the same run, to the last figure.
func TestSeed(t *testing.T) {
	print := func(seed string) string {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-origins", "32", "-proxies", "3", "-streams", "300", "-seconds", "60", "-seed", seed}, &out, &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	one, again, other := print("1"), print("1"), print("2")
	if one != again {
		t.Errorf("two runs of one seed differ:\n%s\n%s", one, again)
	}
	if one == strings.Replace(other, "seed 2", "seed 1", 1) {
		t.Error("two seeds give the same run")
	}
}

func TestOptions(t *testing.T) {
	for _, args := range []string{"-origins 1", "-proxies 0", "-streams 0", "-players -1", "-seconds 3", "-churn 2", "-kill 1", "-mbps 0", "-refresh -1", "-churn NaN", "more"} {
		var out bytes.Buffer
		if err := run(t.Context(), strings.Fields(args), &out, &out); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
}

// The same world on the real balancer, in its own time, is as even as the model says.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(64, 1)
		w := newWorld(o, rand.New(rand.NewPCG(1, 0)), []placer{balancer.NewMemory(balancer.Config{})})
		w.tick = func(int) { time.Sleep(time.Second) }
		if err := w.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(t, w, 1.7)
	})
}

// The same world on real proxies that share a real Redis. Their second is as short as
// their calls are, so they are told to look when the model's do.
func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	o := testOptions(64, 3)
	o.streams, o.players, o.churn = 640, 1, 0.002
	var proxies []placer
	var all []*redisbalancer.Redis
	for range o.proxies {
		b, err := redisbalancer.New(t.Context(), redisbalancer.Config{Addrs: []string{server.Addr}, Settle: time.Millisecond, Timeout: 20 * time.Second, OriginTTL: time.Hour}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			b.Close()
		})
		proxies, all = append(proxies, b), append(all, b)
	}
	w := newWorld(o, rand.New(rand.NewPCG(1, 0)), proxies)
	// Origins takes in what happened meanwhile, as the events do a moment later.
	look := func() {
		for _, b := range all {
			if _, err := b.Origins(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	w.tick, w.died = func(int) { look() }, look
	if err := w.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, w, 1.7)
}
