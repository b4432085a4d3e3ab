package balancer_test

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

// The suite of Memory, on a real Redis.
func TestRedisConforms(t *testing.T) {
	server := redistest.Start(t)
	conforms(t, redisbalancer.Config{Addrs: []string{server.Addr}})
}

// The same on a Cluster of three masters. Each test has a prefix of its own, and so a slot.
func TestRedisClusterConforms(t *testing.T) {
	c := redistest.StartCluster(t, 3, false, testkit.FreePort)
	conforms(t, redisbalancer.Config{Addrs: c.Addrs()})
	for i, n := range c.Keys() {
		if n == 0 {
			t.Errorf("master %d of 3 has never had a key", i)
		}
	}
}

func conforms(t *testing.T, cfg redisbalancer.Config) {
	t.Helper()
	var prefixes atomic.Int64
	balancer.Conformance(t, func(t *testing.T, idle time.Duration) balancer.Balancer {
		cfg := cfg
		cfg.Prefix = "test" + strconv.FormatInt(prefixes.Add(1), 10) + "-"
		cfg.LeaseIdle = idle
		cfg.Settle = time.Millisecond
		cfg.Timeout = 5 * time.Second // this machine may be busy
		b, err := redisbalancer.New(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := b.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		t.Cleanup(func() {
			cancel()
			<-ended
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		return b
	})
}
