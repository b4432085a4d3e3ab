package supervisor

import "time"

const (
	firstRestart = 100 * time.Millisecond
	slowRestart  = time.Second
	maxRestart   = 30 * time.Second
	// jitter keeps origins that fell together from starting together.
	jitter = 0.2
)

// backoff says how long to wait before the next start: 100 ms after the first
// failure, then 1 s doubling to 30 s. The zero value has seen no failure.
type backoff struct {
	failures int
}

// next counts a failure and returns the wait that it asks for, shortened by up
// to 20 %: random is in [0,1).
func (b *backoff) next(random float64) time.Duration {
	wait := firstRestart
	if b.failures > 0 {
		wait = maxRestart
		if doublings := b.failures - 1; doublings < 5 {
			wait = min(maxRestart, slowRestart<<doublings)
		}
	}
	b.failures++
	return wait - time.Duration(random*jitter*float64(wait))
}

// reset forgets the failures.
func (b *backoff) reset() { b.failures = 0 }
