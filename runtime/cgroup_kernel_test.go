package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests of this file use the kernel's groups, whatever of them there is; see
// cgroup_modes_test.go for how they see other modes than this host's.

var testGroup atomic.Int64

func testGroupName() string {
	return fmt.Sprintf("srs-proxy-test-%d-%d", os.Getpid(), testGroup.Add(1))
}

// sweepStale removes what tests left that were killed themselves; their children
// ended on their own since.
func sweepStale() {
	trees, _, err := findTrees("/", "srs-proxy")
	if err != nil {
		return
	}
	for _, tree := range trees {
		stale, _ := filepath.Glob(filepath.Join(tree.base, "srs-proxy-test-*"))
		for _, dir := range stale {
			pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), "srs-proxy-test-"), "-")
			if _, err := os.Stat("/proc/" + pid); err != nil {
				_ = unix.Rmdir(dir)
			}
		}
	}
}

// openTestCgroups opens groups that are gone after the test, with all in them.
func openTestCgroups(t *testing.T, name string) *Cgroups {
	t.Helper()
	c, err := OpenCgroups(CgroupConfig{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sweep(t, c) })
	if support := c.Support(); !support.Any() {
		t.Skip(support)
	}
	return c
}

func sweep(t *testing.T, c *Cgroups) {
	t.Helper()
	for _, tree := range c.trees {
		ids, err := c.ids(tree)
		if err != nil {
			t.Error(err)
		}
		for _, id := range ids {
			g := &Cgroup{id: id, owner: c, dirs: []groupDir{{tree, filepath.Join(tree.base, c.groupName(id))}}, unified: -1}
			if err := g.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := errors.Join(c.RemoveAll(), c.Close()); err != nil {
		t.Error(err)
	}
	for _, tree := range c.trees {
		left, err := filepath.Glob(filepath.Join(tree.base, c.cfg.Name+"*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %q (%v)", left, err)
		}
	}
}

// need skips a test where a feature is missing, with the host's reason.
func need(t *testing.T, c *Cgroups, features ...string) {
	t.Helper()
	support := c.Support()
	for _, f := range features {
		if !support.of(f).OK() {
			t.Skipf("no %s: %s", f, support.of(f).Why)
		}
	}
}

func newSlot(t *testing.T, c *Cgroups, id string, l SlotLimits) *Cgroup {
	t.Helper()
	g, err := c.Slot(id, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.release)
	return g
}

// startIn starts a child in a group; it is killed and waited for after the test.
func startIn(t *testing.T, s *Spawner, g *Cgroup, argv ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	if err := s.StartWith(cmd, StartOptions{Cgroup: g}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// wantInside checks a /proc/PID/cgroup against the parts of a group.
func wantInside(t *testing.T, membership string, c *Cgroups, g *Cgroup) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.dirs {
		want := ":" + d.tree.line + ":"
		found := false
		for line := range strings.Lines(membership) {
			if line = strings.TrimSpace(line); strings.Contains(line, want) {
				found = strings.HasSuffix(line, "/"+c.groupName(g.id))
			}
		}
		if !found {
			t.Errorf("not in %s:\n%s", d.path, membership)
		}
	}
}

// threadGroups is the groups that our threads are in, without those that end.
func threadGroups(t *testing.T) map[string]bool {
	t.Helper()
	tids, err := readNumbers("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	groups := make(map[string]bool)
	for _, tid := range tids {
		if data, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(tid) + "/cgroup"); err == nil {
			groups[string(data)] = true
		}
	}
	return groups
}

// Inside from its first instruction: the move after the start, which would hide
// a birth elsewhere, is left out here.
func TestCgroupBirth(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	need(t, c, "birth")
	g := newSlot(t, c, "0", SlotLimits{CPUs: ourCPUs(t)[:1], CPUQuota: 1})
	before := threadGroups(t)
	o := StartOptions{Cgroup: g}
	cmd := exec.CommandContext(t.Context(), "cat", "/proc/self/cgroup", "/proc/thread-self/cgroup")
	var out bytes.Buffer
	cmd.Stdout = &out
	var err error
	onThread(func() {
		restore, e := o.mark()
		if err = e; err != nil {
			return
		}
		defer restore()
		o.aim(cmd)
		err = cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	wantInside(t, out.String(), c, g)
	eventually(t, "our threads are where they were", func() bool {
		now := threadGroups(t)
		for group := range now {
			if !before[group] {
				return false
			}
		}
		return true
	})
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

func TestCgroupOOM(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	need(t, c, "memory")
	g := newSlot(t, c, "0", SlotLimits{MemoryMax: 96 << 20})
	if missing := g.Missing(); len(missing) > 0 {
		t.Fatal(missing)
	}
	if text := g.Describe(); !strings.Contains(text, "memory 96M") {
		t.Errorf("described as %q", text)
	}
	if n, err := g.OOMKills(); n != 0 || err != nil {
		t.Errorf("%d OOM kills before there is anybody (%v)", n, err)
	}
	host, err := HostOOMKills()
	if err != nil {
		t.Fatal(err)
	}
	s := newTestSpawner(t)
	cmd, stderr := helperCmd(t, "eat-memory")
	if err := s.StartWith(cmd, StartOptions{Cgroup: g}); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Fatalf("ended by %v: %s", err, stderr)
	}
	// No waiting: the count is there before the death.
	if n, err := g.OOMKills(); n != 1 || err != nil {
		t.Errorf("%d OOM kills, want 1 (%v)", n, err)
	}
	if now, err := HostOOMKills(); err != nil || now <= host {
		t.Errorf("the host counts %d OOM kills, %d before (%v)", now, host, err)
	}
	// The next one has room enough.
	if err := g.Update(SlotLimits{}); err != nil {
		t.Fatal(err)
	}
	if text := g.Describe(); !strings.HasSuffix(text, "no limit") {
		t.Errorf("described as %q", text)
	}
	startIn(t, s, g, "sleep", "100")
	if n, err := g.MemoryCurrent(); n == 0 || err != nil {
		t.Errorf("a running process has %d bytes (%v)", n, err)
	}
}

// helperEatMemory would end by itself at 1 GiB.
func helperEatMemory() error {
	for range 1 << 6 {
		m, err := unix.Mmap(-1, 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		for i := 0; i < len(m); i += 4096 {
			m[i] = 1
		}
	}
	return errors.New("there was no limit")
}

func TestCgroupQuota(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	need(t, c, "cpu")
	g := newSlot(t, c, "0", SlotLimits{CPUQuota: 0.2, Nice: 5})
	if missing := g.Missing(); len(missing) > 0 {
		t.Fatal(missing)
	}
	s := newTestSpawner(t)
	cmd := startIn(t, s, g, "sh", "-c", "while :; do :; done")
	var now Throttling
	// It wants all of a CPU; where others want it too, the quota does not end in every period.
	eventually(t, "20 periods in which the quota ended", func() bool {
		var err error
		if now, err = g.Throttling(); err != nil {
			t.Fatal(err)
		}
		return now.Throttled >= 20
	})
	if now.Time <= 0 {
		t.Errorf("throttled %+v", now)
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	used, err := parseStat(data)
	if err != nil {
		t.Fatal(err)
	}
	// A period of 20 ms at 0.2 cores is 4 ms, 0.4 ticks; what is free on other
	// CPUs at a change of period may add a little.
	if ticks := used.utime + used.stime; ticks > now.Periods {
		t.Errorf("used %d ticks in %d periods", ticks, now.Periods)
	}
	if err := g.Update(SlotLimits{}); err != nil {
		t.Fatal(err)
	}
	before, err := g.Throttling()
	if err != nil {
		t.Fatal(err)
	}
	grown, err := parseStatOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "half a second of CPU time", func() bool {
		now, err := parseStatOf(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return now.utime >= grown.utime+50
	})
	if after, err := g.Throttling(); err != nil || after.Throttled > before.Throttled+1 {
		t.Errorf("without a quota still throttled: %+v, then %+v (%v)", before, after, err)
	}
}

func parseStatOf(pid int) (stat, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

func TestCgroupCpuset(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	need(t, c, "cpuset")
	all := ourCPUs(t)
	last := CPUSet{all[len(all)-1]}
	topology, err := ReadTopology("/")
	if err != nil {
		t.Fatal(err)
	}
	mems := topology.Nodes(last)
	g := newSlot(t, c, "0", SlotLimits{CPUs: last, Mems: mems})
	if missing := g.Missing(); len(missing) > 0 {
		t.Fatal(missing)
	}
	s := newTestSpawner(t)
	for _, cpus := range []CPUSet{nil, last} { // by the cage alone, and with the affinity too
		cmd := exec.CommandContext(t.Context(), "grep", "-E", "^(Cpus|Mems)_allowed_list", "/proc/self/status")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := s.StartWith(cmd, StartOptions{CPUs: cpus, Cgroup: g}); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("Cpus_allowed_list:\t%s\nMems_allowed_list:\t%s\n", last, mems); out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
	sets, err := threadSets()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "our threads have all CPUs", func() bool {
		if sets, err = threadSets(); err != nil {
			t.Fatal(err)
		}
		for _, set := range sets {
			if !set.Equal(all) {
				return false
			}
		}
		return true
	})
	// A running child feels a change.
	child := startIn(t, s, g, "sleep", "100")
	if err := g.Update(SlotLimits{CPUs: all[:1]}); err != nil {
		t.Fatal(err)
	}
	if set, err := AllowedCPUs(child.Process.Pid); err != nil || !set.Equal(all[:1]) {
		t.Errorf("after the update on %s, want %s (%v)", set, all[:1], err)
	}
	// What does not exist is told.
	if err := g.Update(SlotLimits{Mems: CPUSet{maxCPU - 1}}); err != nil {
		t.Fatal(err)
	}
	if missing := g.Missing(); len(missing) != 1 || !strings.Contains(missing[0], "nodes 8191") {
		t.Errorf("missing %q", missing)
	}
}
