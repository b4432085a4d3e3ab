// Package e2e tests the program as its users have it: the built binary, real
// processes, real clients.
//
//	ffmpeg, librtmp, GStreamer ─┐              ┌─▶ origin (built-in, or SRS)
//	raw RTMP and HTTP clients  ─┼▶ srs-proxy ──┼─▶ origin
//	random bytes               ─┘    up        └─▶ origin
//
// Every test starts an instance of its own, with its own state dir and ports, and
// proves at the end that nothing of it is left. The environment decides on more:
//
//	SRS_BINARY=/path/to/srs   run everything with SRS in place of the built-in origin
//	SRS_PROXY_E2E_FULL=1      the heavy tests too (128 origins)
//	SRS_PROXY_FAULTS=1        faults of Redis and of origins at full length
//	SRS_PROXY_E2E_RACE=1      build the program with the race detector
//
// It does not look inside the program: what it knows of it is the command line.
package e2e
