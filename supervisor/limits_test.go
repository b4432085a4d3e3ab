package supervisor

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"srs-proxy/runtime"
)

// cagedConfig is a config with groups of the test's own, as far as the host has any.
func cagedConfig(t *testing.T, n int, mode string) Config {
	t.Helper()
	cfg := fakeConfig(t, n, mode)
	cfg.Cgroup = "srs-proxy-test-" + strconv.Itoa(os.Getpid()) + "-" + strconv.Itoa(cfg.Ports.Base)
	c, err := runtime.OpenCgroups(runtime.CgroupConfig{Name: cfg.Cgroup})
	if err != nil {
		t.Fatal(err)
	}
	support := c.Support()
	if err := c.RemoveAll(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if !support.Memory.OK() {
		t.Skip("no memory groups here: " + support.String())
	}
	return cfg
}

func TestOOMIsNamed(t *testing.T) {
	cfg := cagedConfig(t, 2, "eater")
	cfg.MemoryMax = 256 << 20
	f := newFleet(t, cfg).up()
	before := f.slots[1].status()
	if !strings.Contains(before.Limits, "memory 256M") || len(before.NotInForce) > 0 {
		t.Errorf("limits %q, not in force %q", before.Limits, before.NotInForce)
	}
	sibling := f.slots[0].status().PID
	undo := f.fault(1, "eat")
	o := f.until(1, "dead", func(o OriginStatus) bool { return o.Exit != nil })
	undo()
	if !strings.HasPrefix(o.LastExit, "killed by SIGKILL: out of memory") || !o.Exit.OOM || o.Exit.Signal != "SIGKILL" || o.Exit.PID != before.PID {
		t.Errorf("last exit %q, %+v", o.LastExit, o.Exit)
	}
	eventually(t, "a word in the log", func() bool { return strings.Contains(f.logs.String(), "out of memory") })
	f.readyAgain(1, before.PID)
	// The count is of one process: who is killed next died of something else.
	pid := f.slots[1].status().PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o = f.readyAgain(1, pid)
	if o.Exit.OOM || !strings.HasPrefix(o.LastExit, "killed by SIGKILL after") {
		t.Errorf("last exit %q", o.LastExit)
	}
	if now := f.slots[0].status().PID; now != sibling {
		t.Errorf("the sibling's pid %d became %d", sibling, now)
	}
	groups := f.slots[0].proc.cage.Paths()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft()
	for _, dir := range groups {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}

// With groups nothing escapes, and it ends with its origin rather than with all.
func TestEscapedGrandchildEndsWithItsOrigin(t *testing.T) {
	f := newFleet(t, cagedConfig(t, 1, "escape")).up()
	pid, grandchild := f.slots[0].status().PID, f.grandchild(0)
	f.setMode(0, "ready")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.readyAgain(0, pid)
	if alive(grandchild) {
		t.Error("the grandchild lives on, or is a zombie")
	}
}

// Limits are the process's from its birth, so other ones are another process.
func TestReloadOfLimits(t *testing.T) {
	cfg := cagedConfig(t, 2, "ready")
	f := newFleet(t, cfg).up()
	nice := 5
	cfg.MemoryMax, cfg.Nice = 512<<20, &nice
	result, err := f.Reload(t.Context(), cfg)
	if err != nil || len(result.Restarted) != 2 {
		t.Fatalf("%+v, %v", result, err)
	}
	f.settled("origin-0.1", "origin-1.1")
	o := f.row("origin-0.1")
	if got, err := syscall.Getpriority(syscall.PRIO_PROCESS, o.PID); err != nil || 20-got != nice {
		t.Errorf("nice %d (%v)", 20-got, err)
	}
	if !strings.Contains(o.Limits, "memory 512M") {
		t.Errorf("limits %q", o.Limits)
	}
}

// A start that came to nothing leaves no group behind.
func TestGroupsOfAStartThatFailed(t *testing.T) {
	cfg := cagedConfig(t, 1, "ready")
	groups := func() (found []string) {
		_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == cfg.Cgroup {
				found = append(found, path)
			}
			return nil // groups of others come and go
		})
		return found
	}
	s := New(cfg, newRecorder(), slog.New(slog.DiscardHandler))
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(groups()) == 0 {
		t.Error("no group is made: this test sees nothing")
	}
	s.Close() // what comes after Prepare went wrong
	if left := groups(); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}
