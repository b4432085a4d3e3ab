//go:build race

package supervisor

// raceEnabled: the race detector makes processes slow, so promised times are
// measured without it.
const raceEnabled = true
