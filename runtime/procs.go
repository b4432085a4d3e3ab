package runtime

import goruntime "runtime"

// LimitProcs lets n threads run Go code at once. The built-in origin sets 1:
// like SRS it is one thread's worth of work. The proxy needs no such call,
// because Go follows the affinity that PinSelf sets.
func LimitProcs(n int) {
	if n > 0 {
		goruntime.GOMAXPROCS(n)
	}
}

// GoVersion is the toolchain that built this program.
func GoVersion() string { return goruntime.Version() }

// Platform is the operating system and architecture, as in linux/amd64.
func Platform() string { return goruntime.GOOS + "/" + goruntime.GOARCH }
