package supervisor

import (
	"testing"
	"time"
)

// LastTick is what a watchdog hangs on: it stands still when the loop does, for a
// lock that somebody holds too.
func TestLastTick(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	f := newFleet(t, cfg)
	if at := f.LastTick(); !at.IsZero() {
		t.Errorf("ticked at %s before anything ran", at)
	}
	f.up()
	eventually(t, "ticks", func() bool { return time.Since(f.LastTick()) < f.cfg.ProbePeriod })
	f.health.mu.Lock()
	// The tick that is under way waits for the lock, so there is one more at most.
	time.Sleep(2 * f.cfg.ProbePeriod / ticksPerPeriod)
	before := f.LastTick()
	time.Sleep(5 * f.cfg.ProbePeriod / ticksPerPeriod)
	after := f.LastTick()
	f.health.mu.Unlock()
	if !before.Equal(after) {
		t.Errorf("it ticked at %s and at %s while it could not", before, after)
	}
	eventually(t, "ticks again", func() bool { return f.LastTick().After(after) })
}
