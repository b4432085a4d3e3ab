package main

import (
	"errors"
	"fmt"

	"srs-proxy/runtime"
)

func checkCPUs(f *facts) []finding {
	if f.cpusErr != nil {
		found := fail("cpus", "%v", f.cpusErr)
		asked := f.cfg.OriginCPUs.Union(f.cfg.ProxyCPUs)
		if off := asked.Minus(asked.Minus(f.offline)); errors.Is(f.cpusErr, runtime.ErrCPUNotAllowed) && len(off) > 0 {
			found.Text += fmt.Sprintf("; CPU %s is switched off", off)
			found = found.fixedBy("sudo chcpu -e %s", off)
		}
		return []finding{found}
	}
	plan := f.setup.cpus
	all := plan.OriginCPUs()
	text := fmt.Sprintf("%d origins on CPUs %s, proxy on %s", len(plan.Origins), all, plan.Proxy)
	if len(f.offline) > 0 {
		text += fmt.Sprintf("; CPUs %s are switched off", f.offline)
	}
	if n := len(plan.Origins); n > len(all) {
		return []finding{warn("cpus", "%s: %d origins share %d CPUs, so streams slow each other down under load", text, n, len(all)).
			fixedBy("srs-proxy up --origins auto")}
	}
	return []finding{ok("cpus", "%s", text)}
}

// core is a physical one.
type core struct{ pkg, id int }

// checkSiblings: two origins on the two threads of a core get some 60 % of a
// core each. That is right when every core is in use, and a loss while one is not.
func checkSiblings(f *facts) []finding {
	if f.cpusErr != nil {
		return nil
	}
	coreOf := make(map[int]core, len(f.host.CPUs))
	siblings := make(map[core]runtime.CPUSet)
	for _, c := range f.host.CPUs {
		k := core{c.Package, c.Core}
		coreOf[c.ID] = k
		siblings[k] = append(siblings[k], c.ID)
	}
	busy := make(map[core]runtime.CPUSet) // by core: its CPUs that have origins
	for _, set := range f.setup.cpus.Origins {
		if len(set) != 1 {
			return nil // origins that float over a node share all of it
		}
		k := coreOf[set[0]]
		busy[k] = busy[k].Union(set)
	}
	taken := make(map[core]bool)
	for k := range busy {
		taken[k] = true
	}
	for _, id := range f.setup.cpus.Proxy {
		taken[coreOf[id]] = true
	}
	shared, idle := 0, 0
	var whole runtime.CPUSet // one CPU of each core that may be had
	for k, cpus := range siblings {
		if len(busy[k]) > 1 {
			shared++
		}
		if !taken[k] {
			idle++
		}
		if !taken[k] || len(busy[k]) > 0 {
			whole = whole.Union(cpus[:1])
		}
	}
	switch {
	case shared == 0:
		return nil
	case idle == 0:
		return []finding{ok("siblings", "%d cores run an origin on each of their threads, at some 60 %% of a core's speed each: no core is free", shared)}
	}
	return []finding{warn("siblings", "%d cores run an origin on each of their threads, at some 60 %% of a core's speed each, while %d cores are free", shared, idle).
		fixedBy("srs-proxy up --cpu-layout %s --origin-cpus %s", runtime.Spread, whole)}
}

// checkQuota: a quota counts the time of all CPUs together, and who used it up
// stands still until the next period, with every stream.
func checkQuota(f *facts) []finding {
	if f.cpusErr != nil || f.host.Quota <= 0 {
		return nil
	}
	// The proxy's own share is small.
	busy := min(len(f.setup.cpus.Origins), len(f.setup.cpus.OriginCPUs()))
	if float64(busy) <= f.host.Quota+0.01 {
		return []finding{ok("quota", "the cgroup allows the time of %.4g CPUs", f.host.Quota)}
	}
	return []finding{warn("quota", "the cgroup allows the time of %.4g CPUs, and %d origins can use that of %d: at the limit all of them stand still for a part of each 100 ms",
		f.host.Quota, len(f.setup.cpus.Origins), busy).fixedBy("srs-proxy up --origins auto (or raise the quota: CPUQuota=, docker --cpus)")}
}

const (
	mib = 1 << 20
	gib = 1 << 30
	// originMemory is what an origin with a few streams takes: an idle SRS 20 MB,
	// and each stream its cache of a GOP and what slow players have not taken yet.
	originMemory = 64 * mib
	// ownMemory is for ourselves.
	ownMemory = 128 * mib
)

func checkMemory(f *facts) []finding {
	m := f.memory
	if m.Total == 0 || f.cpusErr != nil {
		return nil
	}
	n := len(f.setup.cpus.Origins)
	need := uint64(n)*originMemory + ownMemory
	whose := "this machine"
	if m.Limited {
		whose = "the cgroup"
	}
	text := fmt.Sprintf("%s of %s of %s are free", formatBytes(m.Available), formatBytes(m.Total), whose)
	var found []finding
	if m.Available < need {
		found = append(found, warn("memory", "%s; %d origins with a few streams take %s", text, n, formatBytes(need)).
			fixedBy("srs-proxy up --origins %d", max(1, (int(m.Available)-ownMemory)/originMemory)))
	} else {
		found = append(found, ok("memory", "%s", text))
	}
	if f.kernel.Overcommit == runtime.OvercommitNever && m.Reservable < 2*need {
		found = append(found, warn("memory", "vm.overcommit_memory is %d: only %s more may be reserved, and programs reserve more than they use", runtime.OvercommitNever, formatBytes(m.Reservable)).
			fixedBy("sudo sysctl -w vm.overcommit_memory=0"))
	}
	// A little of what nobody uses is always there.
	if m.SwapUsed > max(m.Total/10, gib/4) {
		found = append(found, warn("memory", "%s are swapped out: an origin whose pages come back from disk stalls its streams", formatBytes(m.SwapUsed)).
			fixedBy("sudo sysctl -w vm.swappiness=1"))
	}
	return found
}
