package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestVitality(t *testing.T) {
	now := time.Unix(1000, 0)
	api := func(misses int) liveness { return liveness{misses: misses, mutedAt: now.Add(-5 * time.Second)} }
	rtmp := func(misses int, heard time.Duration) liveness {
		return liveness{misses: misses, mutedAt: now.Add(-3 * time.Second), heardAt: now.Add(-heard)}
	}
	tests := []struct {
		name          string
		v             vitality
		hung, missing bool
		why           string
	}{
		{"well", vitality{api: api(0), rtmp: rtmp(0, 9*time.Second)}, false, false, ""},
		{"the API just fell silent", vitality{api: api(1), rtmp: rtmp(0, 9*time.Second)}, false, true, "its API has not answered for 5.0 s"},
		{"the API is dead, RTMP is not", vitality{api: api(99), rtmp: rtmp(0, time.Second)}, false, false, "its API has not answered for 5.0 s"},
		{"both for a while", vitality{api: api(2), rtmp: rtmp(1, 9*time.Second)}, false, true, "its API has not answered for 5.0 s, and RTMP neither"},
		{"both", vitality{api: api(3), rtmp: rtmp(2, 9*time.Second)}, true, true, "its API has not answered for 5.0 s, and RTMP neither"},
		{"RTMP alone, twice", vitality{api: api(0), rtmp: rtmp(2, 9*time.Second)}, false, true, "RTMP has not answered for 3.0 s, but its API does"},
		{"RTMP alone", vitality{api: api(0), rtmp: rtmp(3, 9*time.Second)}, true, true, "RTMP has not answered for 3.0 s, but its API does"},
		{"full", vitality{full: true}, false, false, "it turns new clients away, as with max_connections reached"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if hung, missing, why := tt.v.hung(3), tt.v.missing(), tt.v.why(now); hung != tt.hung || missing != tt.missing || why != tt.why {
				t.Errorf("hung %t, missing %t, %q", hung, missing, why)
			}
		})
	}
}

// The handshakes come every ten periods while all is well, and every period when it
// is not, the first of those as soon as the API has missed.
func TestHandshakesWhenNeeded(t *testing.T) {
	start := time.Unix(1000, 0)
	l := liveness{nextAt: start}
	l.sent(start, 10*time.Second)
	l.answered(start)
	l.hasten(start.Add(9500*time.Millisecond), time.Second)
	if l.due(start.Add(9500 * time.Millisecond)) {
		t.Error("hastened what comes within the period")
	}
	l.hasten(start.Add(4*time.Second), time.Second)
	if !l.due(start.Add(4 * time.Second)) {
		t.Error("not hastened")
	}
	l.sent(start.Add(4*time.Second), time.Second)
	l.unsent()
	if l.expired(start.Add(time.Hour), time.Second, false) {
		t.Error("a probe that could not leave is missed")
	}
	if l.due(start.Add(4*time.Second)) || !l.due(start.Add(5*time.Second)) {
		t.Error("the next one is not a period later")
	}
}

func TestRTMPIsAskedWhenTheAPIFallsSilent(t *testing.T) {
	start := time.Unix(1000, 0)
	var v vitality
	v.rtmp.nextAt = start.Add(2200 * time.Millisecond) // its turn is within the period
	v.api.sent(start, time.Second)
	if v.apiExpired(start.Add(time.Second), 1500*time.Millisecond, false) || v.rtmp.due(start.Add(time.Second)) {
		t.Error("asked before the API has missed")
	}
	missed := start.Add(1500 * time.Millisecond)
	if !v.apiExpired(missed, 1500*time.Millisecond, false) || !v.rtmp.due(missed) {
		t.Error("not asked")
	}
	// Once: from then on it has a period of its own.
	v.rtmp.sent(missed, time.Second)
	v.rtmp.answered(missed)
	v.api.sent(missed, time.Second)
	if again := missed.Add(1500 * time.Millisecond); !v.apiExpired(again, 1500*time.Millisecond, false) || v.rtmp.nextAt.Equal(again) {
		t.Error("asked out of turn again")
	}
}

func quickProbes(cfg Config) Config {
	cfg.ProbePeriod, cfg.ProbeTimeout = 100*time.Millisecond, 250*time.Millisecond
	return cfg
}

// fault makes a slot's fake origin behave badly; the result makes it well again.
func (f *fleet) fault(slot int, name string) (undo func()) {
	f.t.Helper()
	path := filepath.Join(f.slots[slot].params.WorkDir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		f.t.Helper()
		if err := os.Remove(path); err != nil {
			f.t.Fatal(err)
		}
	}
}

func TestDeadAPIIsDegradedAndKept(t *testing.T) {
	f := newFleet(t, quickProbes(fakeConfig(t, 2, "ready"))).up()
	pid := f.slots[0].status().PID
	lease := f.publish("kept", "origin-0")
	undo := f.fault(0, "silent-api")
	f.until(0, "degraded for long", func(o OriginStatus) bool {
		// Far more than the three misses that an origin without RTMP has.
		return o.State == Degraded && strings.Contains(o.Reason, "API") && f.misses(0) > 10
	})
	if o := f.slots[0].status(); o.PID != pid {
		t.Errorf("replaced: %+v", o)
	}
	if l, err := f.bal.Lookup(t.Context(), lease.Stream); err != nil || l.ID != "origin-0" {
		t.Errorf("its stream is on %s (%v)", l.ID, err)
	}
	undo()
	f.until(0, "ready as it was", func(o OriginStatus) bool { return o.State == Ready && o.PID == pid && o.Reason == "" })
}

func (f *fleet) misses(slot int) int {
	f.health.mu.Lock()
	defer f.health.mu.Unlock()
	if t := f.health.targets[f.slots[slot]]; t != nil {
		return t.vital.api.misses
	}
	return 0
}

func TestOriginWithoutRTMPIsReplaced(t *testing.T) {
	f := newFleet(t, quickProbes(fakeConfig(t, 2, "ready"))).up()
	pid := f.slots[0].status().PID
	undo := f.fault(0, "silent-rtmp")
	f.until(0, "killed", func(o OriginStatus) bool { return strings.Contains(o.Reason, "but its API does") && o.State == Backoff })
	undo()
	f.readyAgain(0, pid)
}

func TestFullOriginIsKept(t *testing.T) {
	f := newFleet(t, quickProbes(fakeConfig(t, 2, "ready"))).up()
	pid := f.slots[0].status().PID
	undo := f.fault(0, "full")
	f.until(0, "degraded", func(o OriginStatus) bool {
		return o.State == Degraded && strings.Contains(o.Reason, "turns new clients away")
	})
	undo()
	f.until(0, "ready as it was", func(o OriginStatus) bool { return o.State == Ready && o.PID == pid })
	if o := f.slots[0].status(); o.Restarts != 0 {
		t.Errorf("%+v", o)
	}
}
