package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Layout is the order in which origins get CPUs.
type Layout string

// The layouts. Spread and Compact pin each origin to one CPU; when there are
// more origins than CPUs, CPUs hold several, in numbers that differ by at most one.
const (
	// Spread gives distinct physical cores first, SMT siblings last, and takes
	// turns between the NUMA nodes. It is the fastest for few origins.
	Spread Layout = "spread"
	// Compact fills node by node, core by core, siblings together, and leaves the
	// rest of the machine to others. Origins that share a CPU are neighbours.
	Compact Layout = "compact"
	// NUMA puts consecutive origins on the same node, on each node as many as its
	// share of the CPUs, and lets an origin float over that node's CPUs: its
	// memory stays near, and the kernel evens out busy and idle origins.
	NUMA Layout = "numa"
)

// ParseLayout reads a layout's name; empty is Spread.
func ParseLayout(name string) (Layout, error) {
	switch l := Layout(name); l {
	case "":
		return Spread, nil
	case Spread, Compact, NUMA:
		return l, nil
	}
	return "", fmt.Errorf("CPU layout %q: want %s, %s or %s", clip(name), Spread, Compact, NUMA)
}

// ErrCPUNotAllowed says that a set names CPUs that this process may not use.
var ErrCPUNotAllowed = errors.New("not among the CPUs that this process may use")

// PlanRequest is what the operator asked for; the zero value leaves all to Plan.
type PlanRequest struct {
	Origins               int    // 0 = auto
	OriginCPUs, ProxyCPUs CPUSet // empty = decide
	Layout                Layout // empty = Spread
}

// Plan is where everything runs.
type Plan struct {
	Origins []CPUSet // by slot; never empty, no set is empty
	Proxy   CPUSet
}

// Plan gives each origin and the proxy its CPUs. It looks at nothing but its
// arguments, and the same arguments give the same plan.
//
// Left to decide, the proxy gets one CPU in eight, whole cores first, and the
// origins the rest; on one to three CPUs both share all. If one of the sets is
// given, the other is what it leaves, or everything when it leaves nothing. Both
// given may overlap. Auto is one origin for each of the origins' CPUs, but with
// a CPU quota never more than its whole cores, of which the proxy takes its share.
func (t Topology) Plan(r PlanRequest) (Plan, error) {
	layout, err := ParseLayout(string(r.Layout))
	if err != nil {
		return Plan{}, err
	}
	if r.Origins < 0 {
		return Plan{}, fmt.Errorf("%d origins: want at least 1, or 0 for auto", r.Origins)
	}
	allowed := t.Allowed()
	if len(allowed) == 0 {
		return Plan{}, errors.New("a topology without CPUs")
	}
	originCPUs, err := within(allowed, r.OriginCPUs, "origins'")
	if err != nil {
		return Plan{}, err
	}
	proxyCPUs, err := within(allowed, r.ProxyCPUs, "proxy's")
	if err != nil {
		return Plan{}, err
	}

	// What the quota leaves of the machine; all of it without one.
	cores := len(allowed)
	if t.Quota > 0 {
		// 2.99 cores are what rounding to periods made of 3; 2.5 are 2.
		cores = max(1, min(cores, int(t.Quota+0.01)))
	}
	auto := min(len(originCPUs), cores)
	switch {
	case len(originCPUs) > 0 && len(proxyCPUs) > 0:
	case len(originCPUs) > 0:
		proxyCPUs = rest(allowed, originCPUs)
	case len(proxyCPUs) > 0:
		originCPUs = rest(allowed, proxyCPUs)
		auto = min(len(originCPUs), cores)
	default:
		share := proxyShare(cores)
		proxyCPUs = t.proxyCPUs(share, layout)
		originCPUs = rest(allowed, proxyCPUs)
		auto = max(1, cores-share)
		if share == 0 {
			proxyCPUs, originCPUs, auto = allowed, allowed, cores
		}
	}
	n := r.Origins
	if n == 0 {
		n = auto
	}
	return Plan{Origins: t.place(n, originCPUs, layout), Proxy: proxyCPUs}, nil
}

// OriginCPUs is all that any of the origins has.
func (p Plan) OriginCPUs() CPUSet {
	var all CPUSet
	for _, set := range p.Origins {
		all = all.Union(set)
	}
	return all
}

// ProxyLoops is how many event loops of a protocol the proxy's CPUs are for: one for each
// that is its own, and for two of those that it shares with origins, which need as much of
// them. On two shared CPUs a second loop only takes turns with the first, at 10 to 20 %
// more CPU time for the same load (docs/RELAY.md).
func (p Plan) ProxyLoops() int {
	own := len(p.Proxy.Minus(p.OriginCPUs()))
	return max(1, own+(len(p.Proxy)-own)/2)
}

// proxyShare is how many of n cores are the proxy's own: one in eight, rounded,
// at least one; 0 when there are too few to set any aside. Relaying costs a
// fraction of serving, so an eighth keeps up with origins that are all busy.
func proxyShare(n int) int {
	if n < 4 {
		return 0
	}
	return max(1, (n+4)/8)
}

// within copies and sorts a set that was asked for, and checks it.
func within(allowed, asked CPUSet, whose string) (CPUSet, error) {
	set := newCPUSet(slices.Clone(asked))
	if bad := set.Minus(allowed); len(bad) > 0 {
		return nil, fmt.Errorf("CPU %s of the %s CPUs %s: %w, which are %s", bad, whose, set, ErrCPUNotAllowed, allowed)
	}
	return set, nil
}

// rest is what taken leaves of all, or all when it leaves nothing.
func rest(all, taken CPUSet) CPUSet {
	if left := all.Minus(taken); len(left) > 0 {
		return left
	}
	return all
}

// proxyCPUs picks n CPUs: the first in Compact's order, so whole cores. The
// other layouts take a core from each node in turn, so that each node keeps the
// same room for origins and the proxy is near to all of them.
func (t Topology) proxyCPUs(n int, layout Layout) CPUSet {
	cpus := t.compact()
	if layout != Compact {
		turn := make(map[int]int, len(cpus)) // by CPU: the index of its core within its node
		for _, node := range byNode(cpus) {
			core := -1
			for i, c := range node {
				if i == 0 || !siblings(c, node[i-1]) {
					core++
				}
				turn[c.ID] = core
			}
		}
		slices.SortStableFunc(cpus, func(a, b CPU) int { return cmp.Compare(turn[a.ID], turn[b.ID]) })
	}
	return idSet(cpus[:n])
}

// place gives n origins their CPUs out of pool.
func (t Topology) place(n int, pool CPUSet, layout Layout) []CPUSet {
	origins := make([]CPUSet, n)
	inPool := func(cpus []CPU) []CPU {
		return slices.DeleteFunc(cpus, func(c CPU) bool { return !pool.Contains(c.ID) })
	}
	switch layout {
	case Compact:
		cpus := inPool(t.compact())
		for i := range origins {
			at := i
			if n > len(cpus) {
				at = i * len(cpus) / n // blocks of neighbours
			}
			origins[i] = CPUSet{cpus[at].ID}
		}
	case NUMA:
		nodes := byNode(inPool(t.compact()))
		i := 0
		for k, count := range shares(n, nodes) {
			for range count {
				origins[i] = idSet(nodes[k])
				i++
			}
		}
	default:
		cpus := inPool(t.spread())
		for i := range origins {
			origins[i] = CPUSet{cpus[i%len(cpus)].ID}
		}
	}
	return origins
}

// compact is all CPUs in the order node, package, core, sibling.
func (t Topology) compact() []CPU {
	return slices.SortedFunc(slices.Values(t.CPUs), func(a, b CPU) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Package, b.Package),
			cmp.Compare(a.Core, b.Core), cmp.Compare(a.ID, b.ID))
	})
}

// spread is all CPUs, each core's first sibling before any second one, and taking
// turns between nodes among those. A core that the proxy is on has its first
// sibling taken, so its second comes late, as it should.
func (t Topology) spread() []CPU {
	type rank struct{ sibling, turn int }
	cpus := t.compact()
	ranks := make(map[int]rank, len(cpus))
	for _, node := range byNode(cpus) {
		sibling := 0
		turns := make(map[int]int) // by sibling: how many of this node so far
		for i, c := range node {
			sibling++
			if i == 0 || !siblings(c, node[i-1]) {
				sibling = 0
			}
			ranks[c.ID] = rank{sibling, turns[sibling]}
			turns[sibling]++
		}
	}
	slices.SortStableFunc(cpus, func(a, b CPU) int {
		ra, rb := ranks[a.ID], ranks[b.ID]
		return cmp.Or(cmp.Compare(ra.sibling, rb.sibling), cmp.Compare(ra.turn, rb.turn))
	})
	return cpus
}

func siblings(a, b CPU) bool { return a.Package == b.Package && a.Core == b.Core }

// byNode cuts CPUs in compact order into one list per memory domain. Packages
// count as domains too: a kernel without NUMA shows two sockets as one node.
func byNode(cpus []CPU) [][]CPU {
	type domain struct{ node, pkg int }
	lists := make(map[domain][]CPU)
	for _, c := range cpus {
		d := domain{c.Node, c.Package}
		lists[d] = append(lists[d], c)
	}
	order := slices.SortedFunc(maps.Keys(lists), func(a, b domain) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.pkg, b.pkg))
	})
	nodes := make([][]CPU, 0, len(order))
	for _, d := range order {
		nodes = append(nodes, lists[d])
	}
	return nodes
}

// shares divides n over the nodes by their number of CPUs, with the largest
// remainders rounded up: each count is less than one off its exact share.
func shares(n int, nodes [][]CPU) []int {
	total := 0
	for _, node := range nodes {
		total += len(node)
	}
	counts := make([]int, len(nodes))
	order := make([]int, len(nodes))
	left := n
	for i, node := range nodes {
		counts[i] = n * len(node) / total
		left -= counts[i]
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(n*len(nodes[b])%total, n*len(nodes[a])%total)
	})
	for _, i := range order[:left] {
		counts[i]++
	}
	return counts
}

func idSet(cpus []CPU) CPUSet {
	ids := make([]int, 0, len(cpus))
	for _, c := range cpus {
		ids = append(ids, c.ID)
	}
	return newCPUSet(ids)
}
