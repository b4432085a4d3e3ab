package faults

import (
	"fmt"
	"testing"
	"time"
)

// TestStop ends everything under load (N3).
func TestStop(t *testing.T) {
	long(t)
	f := figures.fault("SIGTERM under load")
	for round := range suite.rounds {
		f.rounds++
		t.Run(fmt.Sprint(round+1), func(t *testing.T) {
			in := up(t, suite.size.origins, 0)
			l := newLoad(t, in, suite.size, f)
			if f.cpu == 0 {
				f.cpu = cores(2 * time.Second)
			}
			l.mark()
			took := in.stop()
			f.took.add(took)
			if took > stopWithin {
				t.Errorf("stopped after %s, %s are allowed", ms(took), stopWithin)
			}
			in.checkNothingLeft() // while clients still try to come back
			l.stop()
		})
	}
}
