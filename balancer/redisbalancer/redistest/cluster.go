package redistest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const slots = 16384

// Cluster is the nodes of a Redis Cluster of one test.
type Cluster struct {
	Masters []*Server
	// Replicas are of the masters in their order, one each, or there are none.
	Replicas []*Server

	t     testing.TB
	addrs map[*Server]string // of TCP
}

// StartCluster runs masters, which share the slots evenly, until the test ends, each with a
// replica if there are to be any. A node that is silent for a second is taken for dead. freePort
// makes ports; more arguments are for each node.
func StartCluster(t testing.TB, masters int, replicas bool, freePort func(testing.TB) int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, addrs: make(map[*Server]string)}
	bus := make(map[*Server]string)
	node := func() *Server {
		port := strconv.Itoa(freePort(t))
		other := strconv.Itoa(freePort(t))
		s := Start(t, append([]string{"--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-port", other,
			"--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"}, args...)...)
		c.addrs[s], bus[s] = net.JoinHostPort("127.0.0.1", port), other
		return s
	}
	for range masters {
		c.Masters = append(c.Masters, node())
		if replicas {
			c.Replicas = append(c.Replicas, node())
		}
	}
	for i, s := range c.nodes() {
		c.do(s, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for i, s := range c.Masters {
		c.do(s, "CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1)
	}
	first := c.nodes()[0]
	_, port, _ := net.SplitHostPort(c.addrs[first])
	for _, s := range c.nodes()[1:] {
		c.do(s, "CLUSTER", "MEET", "127.0.0.1", port, bus[first])
	}
	all := fmt.Sprint("cluster_known_nodes:", len(c.nodes()))
	for _, s := range c.nodes() {
		c.await(s, all, "CLUSTER", "INFO")
	}
	for i, s := range c.Replicas {
		id := c.do(c.Masters[i], "CLUSTER", "MYID")
		c.do(s, "CLUSTER", "REPLICATE", id)
		c.await(s, "master_link_status:up", "INFO", "replication")
	}
	for _, s := range c.nodes() {
		c.await(s, "cluster_state:ok", "CLUSTER", "INFO")
	}
	return c
}

func (c *Cluster) nodes() []*Server { return slices.Concat(c.Masters, c.Replicas) }

// Addrs are the TCP addresses of the masters.
func (c *Cluster) Addrs() (all []string) {
	for _, s := range c.Masters {
		all = append(all, c.addrs[s])
	}
	return all
}

// Owner is the place among the masters of the one that had a key's slot at first.
func (c *Cluster) Owner(key string) int {
	c.t.Helper()
	slot, err := strconv.Atoi(c.do(c.Masters[0], "CLUSTER", "KEYSLOT", key))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range c.Masters {
		if slot < (i+1)*slots/len(c.Masters) {
			return i
		}
	}
	return -1
}

// Keys are how many keys each master has.
func (c *Cluster) Keys() (all []int) {
	c.t.Helper()
	for _, s := range c.Masters {
		n, err := strconv.Atoi(c.do(s, "DBSIZE"))
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// AwaitServes waits until a node takes writes: a replica was promoted, a master that was
// restarted has waited for as long as masters do.
func (c *Cluster) AwaitServes(s *Server) {
	c.t.Helper()
	c.await(s, "role:master", "INFO", "replication")
	c.await(s, "cluster_state:ok", "CLUSTER", "INFO")
}

func (c *Cluster) do(s *Server, args ...any) string {
	c.t.Helper()
	r := s.Client()
	defer r.Close()
	got, err := r.Do(context.Background(), args...).Result()
	if err != nil {
		c.t.Fatalf("%v: %v", args, err)
	}
	return fmt.Sprint(got)
}

func (c *Cluster) await(s *Server, text string, args ...any) {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(c.do(s, args...), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("%v does not come to %q:\n%s", args, text, c.do(s, args...))
		}
	}
}
