package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer"
	"srs-proxy/balancer/redisbalancer/redistest"
)

var costs = flag.Bool("costs", false, "measure what calls cost Redis")

// TestRedisCosts measures the constants of redisload.go:
//
//	go test ./balancer/placement -run RedisCosts -v -costs
func TestRedisCosts(t *testing.T) {
	if !*costs {
		t.Skip("a measurement: run it with -costs")
	}
	for _, origins := range []int{128, 1024} {
		server := redistest.Start(t)
		c := server.Client()
		defer c.Close()
		b, err := redisbalancer.New(t.Context(), redisbalancer.Config{Addrs: []string{server.Addr}, Timeout: 30 * time.Second, OriginTTL: time.Hour}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		o := func(i, cpu int) balancer.Origin {
			id := fmt.Sprintf("10.0.%d.%d:1935", i>>8, i&255)
			return balancer.Origin{ID: id, Service: "s", Load: balancer.Load{CPU: float64(cpu) / 1000}, Endpoints: balancer.Endpoints{RTMP: id, HTTP: id, API: id}}
		}
		for i := range origins {
			must(t, b.Update(t.Context(), o(i, 0)))
		}
		time.Sleep(3 * time.Second) // until a new store is settled
		const n = 100
		var leases []balancer.Lease
		measure := func(what string, f func(i int)) {
			before := cpu(t, c)
			for i := range n {
				f(i)
			}
			t.Logf("%5d origins: %-22s %7.1f us", origins, what, (cpu(t, c)-before)/n*1e6)
		}
		measure("PING", func(int) { must(t, c.Ping(t.Context()).Err()) })
		measure("update, as before", func(i int) { must(t, b.Update(t.Context(), o(i%origins, 0))) })
		measure("update, another load", func(i int) { must(t, b.Update(t.Context(), o(i%origins, 1+i))) })
		measure("pick, a new stream", func(i int) {
			l, err := b.Pick(t.Context(), balancer.Request{Stream: balancer.Stream{Vhost: "v", App: "live", Name: fmt.Sprint(i)}, Role: balancer.Publish})
			must(t, err)
			leases = append(leases, l)
		})
		measure("hold, the last session", func(i int) { must(t, b.Release(t.Context(), leases[i])) })
		measure("counts (stats, XREAD)", func(int) {
			_, err := b.Origins(t.Context())
			must(t, err)
		})
		measure("XREAD of one event", func(i int) {
			must(t, c.XRead(t.Context(), &redis.XReadArgs{Streams: []string{"srs-proxy-events", "0"}, Count: 1, Block: -1}).Err())
		})
		measure("XREAD of 100 events", func(i int) {
			must(t, c.XRead(t.Context(), &redis.XReadArgs{Streams: []string{"srs-proxy-events", "0"}, Count: 100, Block: -1}).Err())
		})
		// Run polls four times a second, and reads as often.
		before := cpu(t, c)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		must(t, b.Run(ctx))
		cancel()
		t.Logf("%5d origins: %-22s %7.1f us", origins, "poll and an empty read", (cpu(t, c)-before)/40*1e6)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cpu is the CPU time that the server has used, in seconds.
func cpu(t *testing.T, c *redis.Client) float64 {
	t.Helper()
	info, err := c.Info(context.Background(), "cpu").Result()
	must(t, err)
	var sum float64
	for s := bufio.NewScanner(strings.NewReader(info)); s.Scan(); {
		name, v, _ := strings.Cut(s.Text(), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			f, err := strconv.ParseFloat(v, 64)
			must(t, err)
			sum += f
		}
	}
	return sum
}
