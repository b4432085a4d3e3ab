// Package runtime is the host: which CPUs there are and who gets them, limits,
// and the few facts about processes and ports that a supervisor needs.
//
//	/sys, /proc, cgroup v1/v2 ──ReadTopology──▶ Topology ──Plan──▶ a CPU set per origin, one for the proxy
//	                                                                  │              │
//	one locked OS thread: affinity, nofile, fork, exec ◀──Spawner─────┘   PinSelf ◀──┘
//	  └─ born into a cgroup of its slot ◀──Cgroups (v1, v2, both or none; see cgroup_tree.go)
//	/proc/PID/{stat,status,fd} ──▶ ProcSampler, StartTime, AllowedCPUs, PortOwner
//
// It decides nothing about origins' lives, keeps no state of its own and logs
// nothing: it returns facts and errors that name the file they came from. It is
// for Linux only, and the only package here that imports Go's runtime.
package runtime
