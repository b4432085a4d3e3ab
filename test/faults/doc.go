// Package faults breaks a loaded instance on purpose, again and again, and measures
// what its clients notice.
//
//	publishers ─┐              ┌─▶ origin     kill -9, SIGSTOP
//	players    ─┼▶ srs-proxy ──┼─▶ origin
//	new names  ─┘  kill -9     └─▶ origin     restart, reload, scale, down
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
// The figures are printed as a table of Markdown at the end.
package faults
