package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// An origin's ffmpegs that left its process group, and one that goes on forking.
func TestCgroupKill(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	s := newTestSpawner(t)
	for round := range 3 {
		g := newSlot(t, c, strconv.Itoa(round), SlotLimits{})
		startIn(t, s, g, "sh", "-c", `setsid sh -c 'sleep 100 & wait' &
			while sleep 0.01; do setsid sleep 100 & done`)
		var pids []int
		eventually(t, "grandchildren", func() bool {
			var err error
			if pids, err = g.Procs(); err != nil {
				t.Fatal(err)
			}
			return len(pids) > 8
		})
		if err := g.Kill(); err != nil {
			t.Fatal(err)
		}
		if left, err := g.Procs(); err != nil || len(left) > 0 {
			t.Errorf("left after the kill: %v (%v)", left, err)
		}
		for _, pid := range pids {
			if st, err := parseStatOf(pid); err == nil && st.state != 'Z' && st.state != 'X' {
				t.Errorf("pid %d is alive, state %c", pid, st.state)
			}
		}
		if err := g.Kill(); err != nil {
			t.Errorf("of an empty group: %v", err)
		}
		paths := g.Paths()
		if len(paths) == 0 {
			t.Error("a group without folders")
		}
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		for _, path := range paths {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left (%v)", path, err)
			}
		}
	}
}

// A killed group has children again: moved in, and born into one made anew.
func TestCgroupAfterKill(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	s := newTestSpawner(t)
	g := newSlot(t, c, "0", SlotLimits{})
	for round := range 4 {
		if round == 2 {
			g = newSlot(t, c, "0", SlotLimits{})
		}
		cmd := startIn(t, s, g, "sleep", "100")
		if pids, err := g.Procs(); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
			t.Fatalf("round %d: %v in the group, want %d (%v)", round, pids, cmd.Process.Pid, err)
		}
		if err := g.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
			t.Errorf("round %d: ended by %v", round, err)
		}
	}
}

func TestCgroupRemoveKillsNobody(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	g := newSlot(t, c, "0", SlotLimits{})
	cmd := startIn(t, newTestSpawner(t), g, "sleep", "100")
	if err := c.RemoveAll(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("sleep, pid %d", cmd.Process.Pid)) {
		t.Errorf("remove with a process inside: %v", err)
	}
	if err := unix.Kill(cmd.Process.Pid, 0); err != nil {
		t.Errorf("the process: %v", err)
	}
	if pids, err := g.Procs(); err != nil || len(pids) != 1 {
		t.Errorf("group has %v (%v)", pids, err)
	}
}

func TestCgroupFiftyAtOnce(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	need(t, c, "birth")
	s := newTestSpawner(t)
	all := ourCPUs(t)
	var slots sync.WaitGroup
	for i := range 50 {
		slots.Go(func() {
			l := SlotLimits{MemoryMax: 64 << 20, CPUs: all[:1+i%len(all)]}
			if i%2 == 0 {
				l.CPUQuota = 0.5
			}
			g, err := c.Slot(strconv.Itoa(i), l)
			if err != nil {
				t.Error(err)
				return
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", "cat /proc/self/cgroup; sleep 100 & wait")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.StartWith(cmd, StartOptions{Cgroup: g, CPUs: l.CPUs, Nofile: 1000}); err != nil {
				t.Error(err)
				return
			}
			first, err := bufio.NewReader(out).ReadString('\n')
			if err != nil || first == "" {
				t.Errorf("slot %d says %q (%v)", i, first, err)
			}
			if data, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cgroup"); err != nil {
				t.Error(err)
			} else {
				wantInside(t, string(data), c, g)
			}
			if err := g.Kill(); err != nil {
				t.Error(err)
				_ = cmd.Process.Kill()
			}
			_ = cmd.Wait()
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
	slots.Wait()
	if left, err := c.Leftovers(); err != nil || len(left) > 0 {
		t.Errorf("left over %v (%v)", left, err)
	}
}

// A supervisor is killed; the next one finds the groups, and keeps them.
func TestCgroupCrash(t *testing.T) {
	name := testGroupName()
	super, stderr := helperCmd(t, "supervise")
	super.Env = append(super.Env, "SRS_PROXY_RUNTIME_TEST_NAME="+name)
	out, err := super.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := super.Start(); err != nil {
		t.Fatal(err)
	}
	waited := false
	kill := func() {
		if !waited {
			waited = true
			_ = super.Process.Kill()
			_ = super.Wait()
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		kill()
		if strings.Contains(stderr.String(), "SKIP") {
			t.Skip(stderr)
		}
		t.Fatalf("%v: %s", err, stderr)
	}
	origin, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(origin, unix.SIGKILL) })

	if _, err := OpenCgroups(CgroupConfig{Name: name}); !errors.Is(err, ErrCgroupTaken) {
		t.Errorf("the name of a living supervisor: %v", err)
	}
	kill()
	c := openTestCgroups(t, name)
	left, err := c.Leftovers()
	if err != nil || len(left) != 1 || !slices.Equal(left["7"], []int{origin}) {
		t.Fatalf("left over %v, want slot 7 with %d (%v)", left, origin, err)
	}
	g, err := c.Adopt("7", origin, SlotLimits{MemoryMax: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(origin) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	wantInside(t, string(data), c, g)
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the origin is dead", func() bool {
		st, err := parseStatOf(origin)
		return err != nil || st.state == 'Z'
	})
}

// helperSupervise starts an origin in slot 7 and waits to be killed.
func helperSupervise() error {
	c, err := OpenCgroups(CgroupConfig{Name: os.Getenv("SRS_PROXY_RUNTIME_TEST_NAME")})
	if err != nil {
		return err
	}
	if support := c.Support(); !support.Any() {
		return fmt.Errorf("SKIP %s", support)
	}
	g, err := c.Slot("7", SlotLimits{MemoryMax: 64 << 20})
	if err != nil {
		return err
	}
	cmd := exec.Command("sleep", "100")
	if err := NewSpawner().StartWith(cmd, StartOptions{Cgroup: g}); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	return unix.Pause()
}

// A process without a group, and one whose group lies below another base.
func TestCgroupAdopt(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	plain := exec.CommandContext(t.Context(), "sleep", "100")
	if err := plain.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = plain.Process.Kill()
		_ = plain.Wait()
	})
	g, err := c.Adopt("0", plain.Process.Pid, SlotLimits{CPUQuota: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(plain.Process.Pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	wantInside(t, string(data), c, g)

	// The same group, seen by a supervisor whose base is elsewhere.
	other := &Cgroups{cfg: c.cfg, support: c.Support()}
	for _, tree := range c.trees {
		elsewhere := *tree
		elsewhere.base = filepath.Join(tree.base, c.cfg.Name)
		other.trees = append(other.trees, &elsewhere)
	}
	kept, err := other.Adopt("0", plain.Process.Pid, SlotLimits{CPUQuota: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kept.release)
	if got, want := kept.Paths(), g.Paths(); !slices.Equal(got, want) {
		t.Errorf("kept in %q, want %q", got, want)
	}
	if err := kept.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = plain.Wait()
	// The other base's NAME is not abandoned: we hold its lock.
	if err := kept.Remove(); err != nil {
		t.Error(err)
	}
	for _, tree := range c.trees {
		if _, err := os.Stat(filepath.Join(tree.base, c.cfg.Name)); err != nil {
			t.Error(err)
		}
	}
	if err := newTestSpawner(t).StartWith(exec.CommandContext(t.Context(), "true"), StartOptions{Cgroup: kept}); err == nil {
		t.Error("a child starts in a group that was removed")
	}
	if _, err := c.Adopt("1", plain.Process.Pid, SlotLimits{}); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("adopt the dead: %v", err)
	}
}

// A limit that needs another part of the group takes along who is in there.
func TestCgroupUpdateMoves(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	need(t, c, "cpu")
	g := newSlot(t, c, "0", SlotLimits{})
	cmd := startIn(t, newTestSpawner(t), g, "sleep", "100")
	if _, err := g.Throttling(); c.Support().CPU.By == CgroupV1 && !errors.Is(err, ErrNoCgroup) {
		t.Errorf("throttling without a quota: %v", err)
	}
	if err := g.Update(SlotLimits{CPUQuota: 0.5}); err != nil {
		t.Fatal(err)
	}
	if text, missing := g.Describe(), g.Missing(); !strings.Contains(text, "quota 0.5") || len(missing) > 0 {
		t.Errorf("described as %q, missing %q", text, missing)
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	wantInside(t, string(data), c, g)
	if _, err := g.Throttling(); err != nil {
		t.Error(err)
	}
}

// While a thread of ours is in there to start a child, Kill must not take us for
// a member.
func TestCgroupWeAreNoMember(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	g := newSlot(t, c, "0", SlotLimits{})
	dirs := g.threadDirs()
	if len(dirs) == 0 {
		t.Skip("no thread enters a group of version 2")
	}
	var pids []int
	var raw []byte
	var err, killed error
	onThread(func() {
		restore, e := StartOptions{Cgroup: g}.mark()
		if err = e; err != nil {
			return
		}
		defer restore()
		if raw, err = os.ReadFile(filepath.Join(dirs[0].path, "cgroup.procs")); err != nil {
			return
		}
		pids, err = g.Procs()
		if len(pids) == 0 {
			killed = g.Kill()
		}
	})
	if err != nil || len(pids) > 0 || killed != nil {
		t.Errorf("members %v (%v), kill: %v", pids, err, killed)
	}
	if want := strconv.Itoa(os.Getpid()) + "\n"; string(raw) != want {
		t.Errorf("this test shows nothing: the kernel lists %q, want %q", raw, want)
	}
}

// Where a child can't be born inside it is moved there before Start returns.
func TestCgroupMoveAfterStart(t *testing.T) {
	c := openTestCgroups(t, testGroupName())
	for _, tree := range c.trees {
		tree.birth = false
	}
	g := newSlot(t, c, "0", SlotLimits{CPUQuota: 1})
	cmd := startIn(t, newTestSpawner(t), g, "sleep", "100")
	data, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	wantInside(t, string(data), c, g)
}

func TestCgroupOff(t *testing.T) {
	c, err := OpenCgroups(CgroupConfig{Name: CgroupsOff})
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Slot("0", SlotLimits{MemoryMax: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	cmd := startIn(t, newTestSpawner(t), g, "sleep", "100")
	if err := g.Kill(); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("kill: %v", err)
	}
	if missing := g.Missing(); g.Describe() != "none" || len(missing) != 1 || missing[0] != "memory 1M: switched off" {
		t.Errorf("%s, missing %q", g.Describe(), missing)
	}
	if err := unix.Kill(cmd.Process.Pid, 0); err != nil {
		t.Error(err)
	}
	if err := errors.Join(g.Remove(), c.RemoveAll(), c.Close()); err != nil {
		t.Error(err)
	}
}
