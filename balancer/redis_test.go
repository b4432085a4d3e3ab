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
)

// The suite of Memory, on a real Redis.
func TestRedisConforms(t *testing.T) {
	server := redistest.Start(t)
	var prefixes atomic.Int64
	balancer.Conformance(t, func(t *testing.T, idle time.Duration) balancer.Balancer {
		b, err := redisbalancer.New(t.Context(), redisbalancer.Config{
			Addrs:     []string{server.Addr},
			Prefix:    "test" + strconv.FormatInt(prefixes.Add(1), 10) + "-",
			LeaseIdle: idle,
			Settle:    time.Millisecond,
			Timeout:   5 * time.Second, // this machine may be busy
		}, slog.New(slog.DiscardHandler))
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
