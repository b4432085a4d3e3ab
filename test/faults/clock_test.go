package faults

import (
	"context"
	"sync"
	"time"
)

// clock is how late this process itself was run. A player cannot see a frame while the
// machine gives its own process no time: silence of that length says nothing of the
// program under test, or that the program took the machine away.
type clock struct {
	mu   sync.Mutex // guards late
	late time.Duration
}

// clockTick is how often a clock looks.
const clockTick = 10 * time.Millisecond

func (c *clock) run(ctx context.Context) {
	tick := time.NewTicker(clockTick)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		c.mu.Lock()
		c.late = max(c.late, now.Sub(last)-clockTick)
		c.mu.Unlock()
		last = now
	}
}

func (c *clock) mark() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = 0
}

// worst is the longest since the mark.
func (c *clock) worst() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.late
}
