// Package faults breaks a loaded instance on purpose, again and again, and measures
// what its clients notice.
//
//	publishers ─┐              ┌─▶ origin     kill -9, SIGSTOP, a deaf API, out of memory,
//	players    ─┼▶ srs-proxy ──┼─▶ origin     its port taken, a flood of output
//	new names  ─┘  │           └─▶ origin     restart, reload, scale, down
//	               │
//	               ├ kill -9, with the state file forged or a leftover in its way
//	               ├ no descriptors left, a full disk, nobody who reads its log
//	               └ reload of what cannot be followed
//
// Every frame carries the number of its publisher's session and its own, so that a
// player knows what it has missed and for how long. A fault may be felt by the
// streams of the origin that it hits, within bounds; all others feel nothing.
//
// It takes minutes and wants the machine for itself, so it is asked for:
//
//	SRS_PROXY_FAULTS=1             run it; without, only a small one
//	SRS_BINARY=/path/to/srs        origins are SRS in place of the built-in one
//	SRS_PROXY_FAULTS_ROUNDS=20     how often each fault is repeated
//	SRS_PROXY_FAULTS_CRASHLOOP=10m a crash loop of one origin, by the clock
//	SRS_PROXY_FAULTS_RATE=25       frames a second of each publisher
//	SRS_PROXY_FAULTS_ORIGINS, _PUBLISHERS, _PLAYERS: 32, 64 and 200
//	SRS_PROXY_FAULTS_PROGRAM=PATH  a srs-proxy that is built already
//
// Some of them take a privilege and say so when they skip: a deaf API that of a
// debugger (ptrace), a full disk that of mounting, in a namespace of its own, and
// out of memory a cgroup of the memory controller.
//
// A jump of the machine's clock is no test: it would be that of all who use the
// machine. A time namespace moves CLOCK_MONOTONIC and CLOCK_BOOTTIME alone, and only
// before its first process; and Go asks the vDSO for the time, where neither a
// preloaded library nor seccomp comes in between.
//
// The figures are printed as a table of Markdown at the end.
package faults
