package supervisor

import (
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestScale measures a fleet as large as SUPERVISOR_ORIGINS says: how long until
// all are ready, what watching them costs while idle, how long until all are gone.
func TestScale(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("SUPERVISOR_ORIGINS"))
	if err != nil {
		t.Skip("SUPERVISOR_ORIGINS is no number: nothing to measure")
	}
	cfg := srsConfig(t, n)
	start := time.Now()
	f := newFleet(t, cfg).up()
	t.Logf("%d ready after %s, of that CPU of ours %s", n, time.Since(start).Round(time.Millisecond), cpuTime(t))
	time.Sleep(3 * time.Second)
	const idle = 20 * time.Second
	before := cpuTime(t)
	time.Sleep(idle)
	used := cpuTime(t) - before
	t.Logf("idle for %s: %s of CPU, %.2f %% of a core", idle, used, 100*used.Seconds()/idle.Seconds())
	before, start = cpuTime(t), time.Now()
	snap := f.Snapshot(t.Context())
	t.Logf("a snapshot took %s and %s of CPU", time.Since(start).Round(time.Millisecond), cpuTime(t)-before)
	if !snap.Healthy() {
		t.Errorf("unhealthy: %+v", snap.Unhealthy())
	}
	for _, o := range snap.Origins {
		if o.Restarts > 0 || o.StatsError != "" {
			t.Errorf("%s: %d restarts, %s", o.ID, o.Restarts, o.StatsError)
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	t.Logf("%s", status)
	pids := f.pids()
	start = time.Now()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %s", time.Since(start).Round(time.Millisecond))
	f.nothingLeft(pids...)
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(time.Millisecond)
}
