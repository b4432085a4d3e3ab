package main

import (
	"fmt"
	"strings"

	"srs-proxy/runtime"
)

// checkCgroups says which control groups there are and what of the origins' limits
// is in force. Without groups origins run all the same.
func checkCgroups(f *facts) []finding {
	if f.cgroups.Mode == "" {
		return nil // why is said elsewhere
	}
	switch {
	case f.cfg.Cgroup == runtime.CgroupsOff:
		return []finding{ok("cgroups", "switched off by %s; origins run without limits of memory and CPU time", f.cfg.value("cgroup").place())}
	case !f.cgroups.Any():
		return []finding{ok("cgroups", "%s; origins run without limits of memory and CPU time", f.cgroups)}
	}
	return []finding{ok("cgroups", "%s", f.cgroups)}
}

// checkLimits looks at what was asked for each origin, and whether it can be had.
func checkLimits(f *facts) []finding {
	var found []finding
	for _, err := range []error{f.priorityErr, f.oomScoreErr} {
		if err != nil {
			found = append(found, fail("limits", "%v", err).fixedBy("run it with more privileges (root, AmbientCapabilities=), or leave it out"))
		}
	}
	limits := f.setup.slotLimits()
	if f.cgroups.Mode != "" {
		for _, missing := range f.cgroups.Missing(limits) {
			found = append(found, warn("limits", "not in force: %s", missing))
		}
	}
	if len(found) > 0 {
		return found
	}
	var all []string
	if limits.MemoryMax > 0 {
		all = append(all, "memory "+formatBytes(limits.MemoryMax))
	}
	if limits.CPUQuota > 0 {
		all = append(all, fmt.Sprintf("the time of %.4g CPUs", limits.CPUQuota))
	}
	if len(limits.Mems) > 0 {
		all = append(all, "memory of its own NUMA node only")
	}
	if f.cfg.Nice.given {
		all = append(all, fmt.Sprintf("nice %d", f.cfg.Nice.n))
	}
	if f.setup.oomScore != nil {
		all = append(all, fmt.Sprintf("OOM score %d", *f.setup.oomScore))
	}
	if len(all) == 0 {
		return nil
	}
	return []finding{ok("limits", "each origin has %s", strings.Join(all, ", "))}
}
