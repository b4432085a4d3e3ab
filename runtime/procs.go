package runtime

import goruntime "runtime"

// SetProcs lets n threads run Go code at once, and ends Go's own following of the
// affinity. The built-in origin sets 1: like SRS it is one thread's worth of work.
func SetProcs(n int) {
	if n > 0 {
		goruntime.GOMAXPROCS(n)
	}
}

// GoVersion is the toolchain that built this program.
func GoVersion() string { return goruntime.Version() }

// Platform is the operating system and architecture, as in linux/amd64.
func Platform() string { return goruntime.GOOS + "/" + goruntime.GOARCH }
