package main

import "srs-proxy/runtime"

// cgroupName begins the names of our groups.
const cgroupName = "srs-proxy"

// checkCgroups says what of origins' limits can be had here. Without groups
// origins run all the same.
func checkCgroups(f *facts) []finding {
	if f.cgroups.Mode == "" {
		return nil // why is said elsewhere
	}
	if !f.cgroups.Any() {
		return []finding{ok("cgroups", "%s; origins run without limits of memory and CPU time", f.cgroups)}
	}
	return []finding{ok("cgroups", "%s", f.cgroups)}
}

func detectCgroups() (runtime.CgroupSupport, error) {
	return runtime.DetectCgroups(runtime.CgroupConfig{Name: cgroupName})
}
