package supervisor

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// srsConfig is a config with a real SRS, which the environment names.
func srsConfig(t *testing.T, n int) Config {
	t.Helper()
	binary := os.Getenv("SRS_BINARY")
	if binary == "" {
		t.Skip("SRS_BINARY names no SRS")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	version, err := srsconf.DetectVersion(ctx, binary)
	if err != nil {
		t.Fatal(err)
	}
	cfg := fakeConfig(t, n, "")
	cfg.Command, cfg.Version = []string{binary}, version
	cfg.RTC, cfg.SRT, cfg.Exporter = true, true, true
	allowed, err := runtime.AllowedCPUs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for i := range cfg.CPUs {
		cfg.CPUs[i] = allowed[i%len(allowed) : i%len(allowed)+1]
	}
	return cfg
}

func TestSRS(t *testing.T) {
	f := newFleet(t, srsConfig(t, 8)).up()
	snap := f.Snapshot(t.Context())
	if !snap.Healthy() || !strings.HasPrefix(snap.Software, "SRS ") {
		t.Errorf("%s: %+v", snap.Software, snap.Unhealthy())
	}
	seen := snap.Origins
	for _, o := range seen {
		if o.StatsError != "" || o.ServiceID == "" || "SRS "+o.Version != snap.Software {
			t.Errorf("%+v", o)
		}
		if got, err := runtime.AllowedCPUs(o.PID); err != nil || got.String() != o.CPUs {
			t.Errorf("%s runs on %s (%v), shown as %s", o.ID, got, err, o.CPUs)
		}
	}

	t.Run("kill -9", func(t *testing.T) {
		killed := time.Now()
		if err := syscall.Kill(seen[3].PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		f.readyAgain(3, seen[3].PID)
		took := time.Since(killed)
		events := f.bal.of("origin-3", killed)
		if len(events) < 2 || events[0].kind != "remove" || events[1].kind != "update" || events[1].origin.Service == seen[3].ServiceID {
			t.Fatalf("the balancer heard %+v", events)
		}
		t.Logf("out of the balancer after %s, ready again after %s", events[0].at.Sub(killed), took)
		if took > 2*time.Second && !raceEnabled {
			t.Errorf("ready again after %s", took)
		}
	})

	t.Run("SIGSTOP", func(t *testing.T) {
		stopped := time.Now()
		if err := syscall.Kill(seen[5].PID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		f.readyAgain(5, seen[5].PID)
		took := time.Since(stopped)
		t.Logf("replaced after %s", took)
		if took > 8*time.Second && !raceEnabled {
			t.Errorf("replaced after %s", took)
		}
	})

	for i, o := range f.statuses() {
		if replaced := o.PID != seen[i].PID; replaced != (i == 3 || i == 5) {
			t.Errorf("%s: pid %d became %d", o.ID, seen[i].PID, o.PID)
		}
	}
	pids := f.pids()
	start := time.Now()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	t.Logf("8 idle origins stopped in %s", took)
	if took > 2*time.Second && !raceEnabled {
		t.Errorf("stopped in %s", took)
	}
	f.nothingLeft(pids...)
	for _, o := range f.statuses() {
		if o.LastExit != "exit code 0, as ordered" {
			t.Errorf("%s: last exit %q", o.ID, o.LastExit)
		}
	}
}

func TestSRSRefusesConfig(t *testing.T) {
	cfg := srsConfig(t, 2)
	cfg.Template = template(t, "no_such_directive on;")
	err := newFleet(t, cfg).Prepare(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no_such_directive") {
		t.Fatal(err)
	}
}

// SRS would start next to whoever shares its port by SO_REUSEPORT, and get half
// of the clients each.
func TestSRSPortOfLeftoverIsSeen(t *testing.T) {
	cfg := srsConfig(t, 1)
	first := newFleet(t, cfg).up()
	cfg.StateDir = t.TempDir()
	err := newFleet(t, cfg).Prepare(t.Context())
	pid := strconv.Itoa(first.slots[0].status().PID)
	if err == nil || !strings.Contains(err.Error(), "pid "+pid) {
		t.Fatalf("pid %s: %v", pid, err)
	}
}

// A client that stays makes SIGQUIT wait: SIGTERM follows.
func TestSRSWithClientIsTerminated(t *testing.T) {
	cfg := srsConfig(t, 1)
	cfg.TermAfter, cfg.KillAfter = time.Second, 5*time.Second
	f := newFleet(t, cfg).up()
	c, err := net.Dial("tcp", cfg.withDefaults().dialAddr(cfg.Ports.Ports(0).RTMP).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(append([]byte{3}, make([]byte, 1536)...)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	pids := f.pids()
	start := time.Now()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %s", time.Since(start))
	f.nothingLeft(pids...)
	if o := f.statuses()[0]; o.LastExit != "exit code 0, as ordered" {
		t.Errorf("last exit %q", o.LastExit)
	}
}
