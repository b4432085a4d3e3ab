package runtime

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// machine is a topology with the CPU numbers of common x86 servers: first
// siblings of all cores first, socket after socket, then all second siblings.
func machine(sockets, cores, smt int) Topology {
	var t Topology
	for s := range smt {
		for p := range sockets {
			for c := range cores {
				core := p*cores + c
				t.CPUs = append(t.CPUs, CPU{ID: s*sockets*cores + core, Core: core, Package: p, Node: p})
			}
		}
	}
	return t
}

func (t Topology) withQuota(q float64) Topology { t.Quota = q; return t }

func show(sets []CPUSet) string {
	var parts []string
	for _, s := range sets {
		parts = append(parts, s.String())
	}
	return strings.Join(parts, " ")
}

func TestPlan(t *testing.T) {
	for _, tc := range []struct {
		name    string
		topo    Topology
		req     PlanRequest
		proxy   string
		origins string // all sets
		n       int    // or only their number
	}{
		{name: "one CPU is shared", topo: machine(1, 1, 1), proxy: "0", origins: "0"},
		{name: "two are shared", topo: machine(1, 2, 1), proxy: "0-1", origins: "0 1"},
		{name: "three are shared", topo: machine(1, 3, 1), proxy: "0-2", origins: "0 1 2"},
		{name: "of four one is the proxy's", topo: machine(1, 4, 1), proxy: "0", origins: "1 2 3"},
		{name: "siblings last, the proxy's too", topo: machine(1, 4, 2), proxy: "0", origins: "1 2 3 4 5 6 7"},
		{name: "eight of sixty-four, in whole cores of both sockets", topo: machine(2, 16, 2), proxy: "0-1,16-17,32-33,48-49", n: 56},
		{
			name: "spread over sockets, cores first", topo: machine(2, 4, 2), req: PlanRequest{Origins: 8},
			proxy: "0,8", origins: "4 1 5 2 6 3 7 12",
		},
		{
			name: "compact fills siblings and cores", topo: machine(2, 4, 2), req: PlanRequest{Origins: 8, Layout: Compact},
			proxy: "0,8", origins: "1 9 2 10 3 11 4 12",
		},
		{
			name: "numa floats within the node", topo: machine(2, 4, 2), req: PlanRequest{Origins: 3, Layout: NUMA},
			proxy: "0,8", origins: "1-3,9-11 4-7,12-15 4-7,12-15",
		},
		{name: "more origins than CPUs", topo: machine(1, 2, 1), req: PlanRequest{Origins: 5}, proxy: "0-1", origins: "0 1 0 1 0"},
		{name: "neighbours share in compact", topo: machine(1, 2, 1), req: PlanRequest{Origins: 5, Layout: Compact}, proxy: "0-1", origins: "0 0 0 1 1"},
		{name: "128 on 2", topo: machine(1, 2, 1), req: PlanRequest{Origins: 128}, proxy: "0-1", n: 128},
		{name: "quota of 2.5", topo: machine(1, 16, 1).withQuota(2.5), proxy: "0-15", origins: "0 1"},
		{name: "quota below one core", topo: machine(1, 16, 1).withQuota(0.5), proxy: "0-15", origins: "0"},
		{name: "quota of 8 of 64: the proxy gets its share of the 8", topo: machine(2, 16, 2).withQuota(8), proxy: "0", n: 7},
		{name: "quota over the machine", topo: machine(1, 4, 1).withQuota(100), proxy: "0", origins: "1 2 3"},
		{name: "a quota does not bound what is asked for", topo: machine(1, 4, 1).withQuota(1), req: PlanRequest{Origins: 3}, proxy: "0-3", origins: "0 1 2"},
		{name: "origin CPUs given, the rest is the proxy's", topo: machine(1, 8, 1), req: PlanRequest{OriginCPUs: CPUSet{2, 3}}, proxy: "0-1,4-7", origins: "2 3"},
		{name: "all CPUs given to origins", topo: machine(1, 4, 1), req: PlanRequest{OriginCPUs: CPUSet{0, 1, 2, 3}}, proxy: "0-3", origins: "0 1 2 3"},
		{name: "proxy CPUs given, the rest is the origins'", topo: machine(1, 4, 1), req: PlanRequest{ProxyCPUs: CPUSet{3}}, proxy: "3", origins: "0 1 2"},
		{name: "all CPUs given to the proxy", topo: machine(1, 2, 1), req: PlanRequest{ProxyCPUs: CPUSet{0, 1}}, proxy: "0-1", origins: "0 1"},
		{name: "both given", topo: machine(1, 8, 1), req: PlanRequest{OriginCPUs: CPUSet{4, 5}, ProxyCPUs: CPUSet{5, 6}}, proxy: "5-6", origins: "4 5"},
		{name: "given and quota", topo: machine(1, 8, 1).withQuota(2), req: PlanRequest{OriginCPUs: CPUSet{4, 5, 6, 7}}, proxy: "0-3", origins: "4 5"},
		{name: "a set out of order", topo: machine(1, 4, 1), req: PlanRequest{OriginCPUs: CPUSet{3, 1, 3}}, proxy: "0,2", origins: "1 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			plan, err := tc.topo.Plan(tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if got := plan.Proxy.String(); got != tc.proxy {
				t.Errorf("proxy on %s, want %s", got, tc.proxy)
			}
			if got := show(plan.Origins); tc.n == 0 && got != tc.origins || tc.n > 0 && len(plan.Origins) != tc.n {
				t.Errorf("%d origins on %s, want %s%d", len(plan.Origins), got, tc.origins, tc.n)
			}
		})
	}
}

func TestPlanErrors(t *testing.T) {
	topo := machine(1, 4, 1)
	for _, tc := range []struct {
		topo Topology
		req  PlanRequest
		says []string
	}{
		{topo, PlanRequest{OriginCPUs: CPUSet{3, 4, 9}}, []string{"CPU 4,9", "origins' CPUs 3-4,9", "which are 0-3"}},
		{topo, PlanRequest{ProxyCPUs: CPUSet{7}}, []string{"proxy's CPUs 7", "which are 0-3"}},
		{topo, PlanRequest{Origins: -1}, []string{"-1 origins"}},
		{topo, PlanRequest{Layout: "round"}, []string{`"round"`, "spread, compact or numa"}},
		{Topology{}, PlanRequest{}, []string{"without CPUs"}},
	} {
		_, err := tc.topo.Plan(tc.req)
		if err == nil {
			t.Errorf("%+v: no error", tc.req)
			continue
		}
		for _, s := range tc.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q does not say %q", err, s)
			}
		}
		if asked := len(tc.req.OriginCPUs)+len(tc.req.ProxyCPUs) > 0; asked != errors.Is(err, ErrCPUNotAllowed) {
			t.Errorf("%q: is ErrCPUNotAllowed: %v", err, !asked)
		}
	}
}

func TestParseLayout(t *testing.T) {
	for in, want := range map[string]Layout{"": Spread, "spread": Spread, "compact": Compact, "numa": NUMA} {
		if got, err := ParseLayout(in); err != nil || got != want {
			t.Errorf("ParseLayout(%q) = %q, %v", in, got, err)
		}
	}
	if _, err := ParseLayout("Spread"); err == nil {
		t.Error("an unknown layout is accepted")
	}
}

// randomTopology is anything a kernel might show: holes, uneven nodes, cores with
// one to four siblings, CPUs in any order.
func randomTopology(r *rand.Rand) Topology {
	var t Topology
	ids := r.Perm(256)
	for node := range 1 + r.IntN(4) {
		for range 1 + r.IntN(8) {
			core := -1
			for range 1 + r.IntN(4) {
				id := ids[0]
				ids = ids[1:]
				if core < 0 {
					core = id
				}
				t.CPUs = append(t.CPUs, CPU{ID: id, Core: core, Package: node / 2, Node: node})
			}
		}
	}
	if r.IntN(2) == 0 {
		t.Quota = r.Float64() * 1.5 * float64(len(t.CPUs))
	}
	return t
}

func TestPlanProperties(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		topo := randomTopology(r)
		allowed := topo.Allowed()
		req := PlanRequest{Layout: []Layout{"", Spread, Compact, NUMA}[r.IntN(4)]}
		if r.IntN(2) == 0 {
			req.Origins = 1 + r.IntN(200)
		}
		if r.IntN(3) == 0 {
			req.OriginCPUs = randomSubset(r, allowed, 0.5)
		}
		if r.IntN(3) == 0 {
			req.ProxyCPUs = randomSubset(r, allowed, 0.3)
		}
		before := fmt.Sprintf("%+v %+v", topo, req)
		plan, err := topo.Plan(req)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if after := fmt.Sprintf("%+v %+v", topo, req); after != before {
			t.Fatalf("seed %d: Plan changed its arguments", seed)
		}
		if err := checkPlan(topo, req, plan); err != nil {
			t.Fatalf("seed %d: %v\n%s\n%+v", seed, err, before, plan)
		}
		// The same again, even when the CPUs come in another order.
		shuffled := topo
		shuffled.CPUs = slices.Clone(topo.CPUs)
		r.Shuffle(len(shuffled.CPUs), func(i, j int) {
			shuffled.CPUs[i], shuffled.CPUs[j] = shuffled.CPUs[j], shuffled.CPUs[i]
		})
		again, err := shuffled.Plan(req)
		if err != nil || !reflect.DeepEqual(plan, again) {
			t.Fatalf("seed %d: planned again: %+v, %v", seed, again, err)
		}
	}
}

func checkPlan(topo Topology, req PlanRequest, plan Plan) error {
	allowed := topo.Allowed()
	if len(plan.Proxy) == 0 || len(plan.Proxy.Minus(allowed)) > 0 {
		return fmt.Errorf("the proxy is on %s", plan.Proxy)
	}
	if len(req.ProxyCPUs) > 0 && !plan.Proxy.Equal(req.ProxyCPUs) {
		return errors.New("the proxy is not where it was asked to be")
	}
	decided := len(req.OriginCPUs) == 0 && len(req.ProxyCPUs) == 0
	if decided && len(allowed) >= 4 && topo.Quota == 0 {
		if share := len(allowed) / 8; len(plan.Proxy) < max(1, share) || len(plan.Proxy) > share+1 {
			return fmt.Errorf("the proxy has %d of %d CPUs", len(plan.Proxy), len(allowed))
		}
	}

	// The CPUs that origins may be on.
	pool := req.OriginCPUs
	if len(pool) == 0 {
		if pool = allowed.Minus(plan.Proxy); len(pool) == 0 {
			pool = allowed
		}
	}
	n := len(plan.Origins)
	switch {
	case req.Origins > 0 && n != req.Origins:
		return fmt.Errorf("%d origins", n)
	case req.Origins == 0 && (n < 1 || n > len(pool)):
		return fmt.Errorf("auto made %d origins of %d CPUs", n, len(pool))
	case req.Origins == 0 && topo.Quota > 0 && n > max(1, int(topo.Quota+0.01)):
		return fmt.Errorf("auto made %d origins of a quota of %v", n, topo.Quota)
	case req.Origins == 0 && topo.Quota == 0 && n != len(pool):
		return fmt.Errorf("auto made %d origins of %d CPUs without a quota", n, len(pool))
	}

	perCPU, perCore, perNode := map[int]int{}, map[int]int{}, map[int]int{}
	sizes := map[int]int{}
	byID := map[int]CPU{}
	for _, c := range topo.CPUs {
		byID[c.ID] = c
		if pool.Contains(c.ID) {
			perCPU[c.ID], perCore[c.Core] = 0, 0
			sizes[c.Node]++
		}
	}
	for _, set := range plan.Origins {
		if len(set) == 0 || len(set.Minus(pool)) > 0 {
			return fmt.Errorf("an origin is on %q, outside of %s", set, pool)
		}
		if req.Layout != NUMA && len(set) != 1 {
			return fmt.Errorf("an origin has %d CPUs", len(set))
		}
		perCPU[set[0]]++
		perCore[byID[set[0]].Core]++
		perNode[byID[set[0]].Node]++
		for _, id := range set {
			if byID[id].Node != byID[set[0]].Node {
				return fmt.Errorf("an origin is on two nodes: %s", set)
			}
		}
		if req.Layout == NUMA && len(set) != sizes[byID[set[0]].Node] {
			return fmt.Errorf("an origin floats over %s, a part of its node", set)
		}
	}
	if req.Layout == NUMA {
		for node, size := range sizes {
			exact := float64(n) * float64(size) / float64(len(pool))
			if d := float64(perNode[node]) - exact; d <= -1 || d >= 1 {
				return fmt.Errorf("node %d has %d origins, its share is %.2f", node, perNode[node], exact)
			}
		}
		return nil
	}
	if least, most := bounds(perCPU); most-least > 1 {
		return fmt.Errorf("between %d and %d origins a CPU", least, most)
	}
	if least, most := bounds(perCore); req.Layout != Compact && decided && n <= len(perCore)-len(plan.Proxy) && most > 1 {
		return fmt.Errorf("siblings are in use (%d and %d origins a core) while cores are free", least, most)
	}
	return nil
}

func bounds(counts map[int]int) (least, most int) {
	first := true
	for _, n := range counts {
		if first {
			least, most, first = n, n, false
		}
		least, most = min(least, n), max(most, n)
	}
	return least, most
}

func TestProxyLoops(t *testing.T) {
	for name, c := range map[string]struct {
		plan Plan
		want int
	}{
		"one CPU":                 {Plan{Origins: []CPUSet{{0}, {0}}, Proxy: CPUSet{0}}, 1},
		"two, shared":             {Plan{Origins: []CPUSet{{0}, {1}}, Proxy: CPUSet{0, 1}}, 1},
		"three, shared":           {Plan{Origins: []CPUSet{{0}, {1}, {2}}, Proxy: CPUSet{0, 1, 2}}, 1},
		"its own":                 {Plan{Origins: []CPUSet{{2}, {3}}, Proxy: CPUSet{0, 1}}, 2},
		"two of its own of four":  {Plan{Origins: []CPUSet{{2, 3}, {2, 3}}, Proxy: CPUSet{0, 1, 2, 3}}, 3},
		"no origins of this host": {Plan{Proxy: CPUSet{0, 1, 2, 3}}, 4},
	} {
		if got := c.plan.ProxyLoops(); got != c.want {
			t.Errorf("%s: %d loops, want %d", name, got, c.want)
		}
	}
}
