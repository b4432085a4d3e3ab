package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"srs-proxy/runtime"
)

// The real thing under load: every name can be published all the time, nobody is
// cut whose origin stays, and there are never fewer origins ready than there should
// be. SUPERVISOR_ORIGINS makes it a large fleet.
func TestSRSReloadAndScale(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("SUPERVISOR_ORIGINS"))
	if err != nil {
		n = 6
	}
	cfg := srsConfig(t, n)
	cfg.Ports = freePorts(t, 3*n)
	allowed, err := runtime.AllowedCPUs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, cfg).up()
	before := f.pids()
	kept := f.publish("kept", "origin-0")
	source, err := connectRTMP(t.Context(), kept.Origin.Endpoints.RTMP)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	waiting := func(what string, ok func() bool) {
		t.Helper()
		start := time.Now()
		eventually(t, what, ok)
		t.Logf("%s after %s", what, time.Since(start).Round(time.Millisecond))
	}
	names := func(n, gen int) []string {
		var all []string
		for i := range n {
			all = append(all, cfg.withDefaults().id(i, gen))
		}
		return all
	}

	load := f.underLoad(n, 16)
	start := time.Now()
	cfg.Template = template(t, "pithy_print_ms 20000;")
	result, err := f.Reload(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("reload took %s", time.Since(start).Round(time.Millisecond))
	if !slices.Equal(result.Restarted, names(n, 1)) {
		t.Errorf("restarted %v", result.Restarted)
	}
	waiting("only the old origin in use is left", func() bool { return len(f.all()) == n+1 })
	load.stop(500)
	load.stays(source, kept)
	f.release(kept)
	source.Close()
	waiting("all are new", func() bool { return len(f.all()) == n })
	for _, pid := range before {
		if alive(pid) {
			t.Errorf("pid %d is left", pid)
		}
	}

	for _, to := range []int{n / 4, n + n/4, n / 2} {
		if to == 0 {
			continue
		}
		load := f.underLoad(min(to, len(f.places())), 16)
		start := time.Now()
		if err := f.Scale(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		t.Logf("scale %d took %s", to, time.Since(start).Round(time.Millisecond))
		waiting(fmt.Sprintf("%d are left", to), func() bool { return len(f.all()) == to })
		load.stop(500)
		for _, troubled := range load.troubled {
			t.Error(troubled)
		}
	}
	for _, o := range f.statuses() {
		if got, err := runtime.AllowedCPUs(o.PID); err != nil || got.String() != o.CPUs || len(got) >= len(allowed) && len(allowed) > 1 {
			t.Errorf("%s runs on %s (%v), shown as %s", o.ID, got, err, o.CPUs)
		}
		if o.Restarts != 0 {
			t.Errorf("%s: %d restarts", o.ID, o.Restarts)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.StateDir, "*", "srs.conf")); len(left) != len(f.all()) {
		t.Errorf("configs of origins that are gone: %v", left)
	}
	pids := f.pids()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(pids...)
}
