package redisbalancer

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

// limit is how long things may take on a machine that has other things to do.
const limit = 30 * time.Second

func TestMain(m *testing.M) {
	Quiet()
	// They wait for something to expire most of the time; a flag on the command line wins.
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var ctx = context.Background()

// open is a proxy's balancer, running until the test ends.
func open(t *testing.T, s *redistest.Server, change ...func(*Config)) *Redis {
	t.Helper()
	cfg := Config{Addrs: []string{s.Addr}, Settle: 500 * time.Millisecond, Timeout: 2 * time.Second, OriginTTL: 10 * time.Minute}
	for _, c := range change {
		c(&cfg)
	}
	r, err := New(t.Context(), cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	testkit.Serve(t, r.Run)
	return r
}

func stream(name string) balancer.Stream {
	return balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: name}
}

func originN(i int) balancer.Origin {
	return balancer.Origin{
		ID: fmt.Sprintf("o%03d", i), Service: "first",
		Endpoints: balancer.Endpoints{RTMP: fmt.Sprintf("127.0.0.1:%d", 20000+i), HTTP: fmt.Sprintf("127.0.0.1:%d", 30000+i)},
	}
}

// addOrigins registers n origins and waits until all proxies know.
func addOrigins(t *testing.T, n int, at *Redis, others ...*Redis) {
	t.Helper()
	for i := range n {
		if err := at.Update(ctx, originN(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range others {
		testkit.Within(t, limit, "all origins known", func() bool { return r.knows() == n })
	}
}

func (r *Redis) knows() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.origins)
}

func (r *Redis) knowsStream(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[stream(name).String()].pin != ""
}

func pick(t *testing.T, r *Redis, name string, role balancer.Role, exclude ...string) balancer.Lease {
	t.Helper()
	l, err := r.Pick(ctx, balancer.Request{Stream: stream(name), Role: role, Exclude: exclude})
	if err != nil {
		t.Fatalf("%s %s: %v", role, name, err)
	}
	return l
}

func release(t *testing.T, r *Redis, leases ...balancer.Lease) {
	t.Helper()
	for _, l := range leases {
		if err := r.Release(ctx, l); err != nil {
			t.Fatal(err)
		}
	}
}

func statusOf(t *testing.T, r *Redis, id string) balancer.Status {
	t.Helper()
	all, err := r.Origins(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == id {
			return s
		}
	}
	return balancer.Status{}
}
