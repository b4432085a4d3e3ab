package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// However an origin crashes, in ten minutes it is started 32 times at most, and
// goes on being started.
func TestCrashLoopIsRateLimited(t *testing.T) {
	tests := []struct {
		name         string
		lives, ready time.Duration
		least        int
	}{
		{"at once", 0, 0, 25},
		{"before it is ready", 50 * time.Millisecond, 0, 25},
		{"never ready in time", 30 * time.Second, 0, 9},
		{"soon after it was ready", 2 * time.Second, time.Second, 20},
		{"just before it counts as well", 60 * time.Second, 59 * time.Second, 7},
		{"when it just counts as well", 61 * time.Second, 60 * time.Second, 9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{StateDir: "/nowhere", CPUs: make([]runtime.CPUSet, 1)}
				sup := New(cfg, newRecorder(), slog.New(slog.DiscardHandler))
				sup.anyReady.Store(true)
				s := newSlot(sup, sup.now, birth{ports: srsconf.PortPlan{}.Ports(0)})
				starts := 0
				s.life = func(ctx context.Context) (time.Duration, error) {
					starts++
					s.to(Starting, "")
					select {
					case <-ctx.Done():
						return 0, nil
					case <-time.After(tt.lives):
						s.everReady = tt.ready > 0
						return tt.ready, errors.New("crashed")
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				if err := s.run(ctx); err != nil {
					t.Fatal(err)
				}
				if starts > 32 || starts < tt.least {
					t.Errorf("%d starts in ten minutes", starts)
				}
				if got := s.status().Restarts; got != starts-1 {
					t.Errorf("%d restarts are shown of %d starts", got, starts)
				}
			})
		})
	}
}
