package runtime

import goruntime "runtime"

// LimitProcs lets n threads run Go code at once. The built-in origin sets 1,
// as SRS has one thread, and the proxy the size of its CPU set: Go looks at the
// affinity only once, before we change it.
func LimitProcs(n int) {
	if n > 0 {
		goruntime.GOMAXPROCS(n)
	}
}

// GoVersion is the toolchain that built this program.
func GoVersion() string { return goruntime.Version() }

// Platform is the operating system and architecture, as in linux/amd64.
func Platform() string { return goruntime.GOOS + "/" + goruntime.GOARCH }
