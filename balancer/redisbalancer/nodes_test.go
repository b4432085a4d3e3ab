package redisbalancer

import (
	"fmt"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

// of is a proxy's configuration for a Cluster.
func of(c *redistest.Cluster) func(*Config) {
	return func(cfg *Config) {
		faulty(cfg)
		cfg.Addrs, cfg.Cluster, cfg.Timeout = c.Addrs(), true, 2*time.Second // nodes write to the disk when one dies
	}
}

// home is the place of the master that has all our keys.
func home(c *redistest.Cluster) int { return c.Owner("{srs-proxy}:srs-proxy-epoch") }

// Of three masters one has our keys. It dies and comes back empty, or its replica takes over;
// or another one dies, which is none of our business.
func TestClusterMasterKilled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		replicas bool
		kill     func(c *redistest.Cluster) (end func(), away bool)
		lasts    time.Duration
	}{
		{name: "without a replica", lasts: time.Second, kill: func(c *redistest.Cluster) (func(), bool) {
			s := c.Masters[home(c)]
			s.Kill()
			return func() {
				s.Start()
				c.AwaitServes(s)
			}, true
		}},
		{name: "with a replica", replicas: true, kill: func(c *redistest.Cluster) (func(), bool) {
			at := home(c)
			c.Masters[at].Kill()
			return func() { c.AwaitServes(c.Replicas[at]) }, true
		}},
		{name: "another one, without a replica", lasts: 3 * time.Second, kill: func(c *redistest.Cluster) (func(), bool) {
			c.Masters[(home(c)+1)%3].Kill()
			return func() {}, false
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := redistest.StartCluster(t, 3, tt.replicas, testkit.FreePort, "--cluster-require-full-coverage", "no")
			survives(t, func() *Redis { return open(t, c.Masters[0], of(c)) }, func() (func(), bool) { return tt.kill(c) }, tt.lasts)
		})
	}
}

// A replica that did not get the last of what its master had takes over: what was decided
// since is written back before anything new is decided.
func TestClusterReplicaIsBehind(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, true, testkit.FreePort, "--cluster-replica-validity-factor", "0")
	long := func(cfg *Config) { cfg.Hold, cfg.Settle = 10*time.Minute, 6*time.Second }
	a := open(t, c.Masters[0], of(c), long)
	addOrigins(t, 8, a)
	pick(t, a, "early", balancer.Publish)
	at := home(c)
	c.Replicas[at].Stop()
	master := c.Masters[at].Client()
	defer master.Close()
	// What is in a connection's buffers would arrive.
	if err := master.Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err(); err != nil {
		t.Fatal(err)
	}
	var late []balancer.Lease
	for i := range 50 {
		late = append(late, pick(t, a, fmt.Sprint("late", i), balancer.Publish))
	}
	a.recovering.Lock() // it is the last to come back
	c.Masters[at].Kill()
	c.Replicas[at].Continue()
	c.AwaitServes(c.Replicas[at])
	b := open(t, c.Masters[0], of(c), long) // knows nothing but what Redis says
	testkit.Within(t, limit, "the new master reached", func() bool { return !b.isAway() })
	time.AfterFunc(time.Second, a.recovering.Unlock)
	for _, l := range late {
		if p := pick(t, b, l.Stream.Name, balancer.Publish); p.Origin.ID != l.Origin.ID {
			t.Fatalf("%s is on %s, a publisher is sent to %s", l.Stream.Name, l.Origin.ID, p.Origin.ID)
		}
	}
}
