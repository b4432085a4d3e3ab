package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// needCgroups skips where the host lets us limit nothing.
func (in *instance) needCgroups(t *testing.T, controllers ...string) {
	t.Helper()
	has := in.status().Cgroups
	for _, c := range controllers {
		if !strings.Contains(strings.SplitN(has, ";", 2)[0], c+" v") {
			t.Skipf("no %s groups here: %s", c, has)
		}
	}
}

// groupDir is where a process's group of a controller is, and whether that is of
// version 2, as the kernel tells it.
func groupDir(t *testing.T, pid int, controller string) (dir string, v2 bool) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	unified := ""
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case f[1] == "":
			unified = f[2]
		case slices.Contains(strings.Split(f[1], ","), controller):
			return filepath.Join(mountOf(t, controller), f[2]), false
		}
	}
	return filepath.Join(mountOf(t, ""), unified), true
}

// mountOf is where the hierarchy of a version 1 controller is mounted, or for none
// that of version 2.
func mountOf(t *testing.T, controller string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if controller == "" && f[2] == "cgroup2" || f[2] == "cgroup" && slices.Contains(strings.Split(f[3], ","), controller) {
			return f[1]
		}
	}
	t.Fatalf("no hierarchy of %q is mounted", controller)
	return ""
}

func groupValue(t *testing.T, dir, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// TestLimits: what was asked for is what the kernel holds each origin to, what
// status says, and gone with the origins.
func TestLimits(t *testing.T) {
	t.Parallel()
	own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	nice := min(20-own+1, 19)
	in := up(t, 2, "--memory-max", "256M", "--cpu-quota", "0.5", "--nice", strconv.Itoa(nice), "--oom-score", "321")
	in.needCgroups(t, "memory", "cpu")
	var dirs []string
	for _, o := range in.status().Origins {
		memory, v2 := groupDir(t, o.PID, "memory")
		cpu, cpuV2 := groupDir(t, o.PID, "cpu")
		dirs = append(dirs, memory, cpu)
		file := "memory.limit_in_bytes"
		if v2 {
			file = "memory.max"
		}
		if got := groupValue(t, memory, file); got != strconv.Itoa(256<<20) {
			t.Errorf("%s: %s is %s", o.ID, file, got)
		}
		var quota string
		if cpuV2 {
			quota = groupValue(t, cpu, "cpu.max")
		} else {
			quota = groupValue(t, cpu, "cpu.cfs_quota_us") + " " + groupValue(t, cpu, "cpu.cfs_period_us")
		}
		var time, period int
		if _, err := fmt.Sscan(quota, &time, &period); err != nil || 2*time != period {
			t.Errorf("%s: quota %q is not half of the time", o.ID, quota)
		}
		if got, err := syscall.Getpriority(syscall.PRIO_PROCESS, o.PID); err != nil || 20-got != nice {
			t.Errorf("%s: nice %d, want %d (%v)", o.ID, 20-got, nice, err)
		}
		if got := groupValue(t, fmt.Sprintf("/proc/%d", o.PID), "oom_score_adj"); got != "321" {
			t.Errorf("%s: oom_score_adj %s", o.ID, got)
		}
		for _, want := range []string{"memory 256M", "quota 0.5", fmt.Sprintf("nice %d", nice), "OOM score 321"} {
			if !strings.Contains(o.Limits, want) {
				t.Errorf("%s: limits %q lack %q", o.ID, o.Limits, want)
			}
		}
		if len(o.NotInForce) > 0 {
			t.Errorf("%s: not in force: %q", o.ID, o.NotInForce)
		}
	}
	r := srsProxy(t, "status", "-o", "wide", "--state-dir", in.stateDir)
	if !strings.Contains(r.out, "\ncgroups: ") || !strings.Contains(r.out, "\nlimits, all origins: ") || strings.Contains(r.out, "not in force") {
		t.Errorf("status -o wide:\n%s", r.out)
	}
	in.publish(t, "limited")
	awaitFrames(t, 5, 10*time.Second, in.playRTMP(t, "limited"))
	in.stop()
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left (%v)", dir, err)
		}
	}
}

// TestLimitsNotInForce: a limit that cannot be had is no reason not to serve, and
// none to keep quiet.
func TestLimitsNotInForce(t *testing.T) {
	t.Parallel()
	in := up(t, 2, "--cgroup", "off", "--memory-max", "256M")
	r := srsProxy(t, "status", "-o", "wide", "--state-dir", in.stateDir)
	for _, want := range []string{"\ncgroups: none", "\nnot in force, all origins: memory 256M: switched off", "OOM score "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("status -o wide lacks %q:\n%s", want, r.out)
		}
	}
	if got := strings.Count(in.err.String(), "limits of origins are not in force"); got != 1 {
		t.Errorf("%d words of it in the log", got)
	}
	// By default the kernel takes an origin before it takes us.
	own := groupValue(t, fmt.Sprintf("/proc/%d", in.cmd.Process.Pid), "oom_score_adj")
	for _, pid := range in.originPIDs() {
		theirs := groupValue(t, fmt.Sprintf("/proc/%d", pid), "oom_score_adj")
		a, errA := strconv.Atoi(own)
		b, errB := strconv.Atoi(theirs)
		if errA != nil || errB != nil || b <= a && a < 1000 {
			t.Errorf("OOM score of srs-proxy %s, of an origin %s", own, theirs)
		}
	}
	check := srsProxy(t, "check", "--srs", "builtin", "--state-dir", t.TempDir(), "--port-base", strconv.Itoa(in.ports.base), "--cgroup", "off", "--memory-max", "256M")
	for _, want := range []string{"cgroups     switched off by flag --cgroup", "WARN  limits      not in force: memory limit 256M: switched off"} {
		if !strings.Contains(check.out, want) {
			t.Errorf("check lacks %q:\n%s%s", want, check.out, check.err)
		}
	}
}

// TestOneCgroupName: two instances never share groups.
func TestOneCgroupName(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("e2e-%d", os.Getpid())
	in := up(t, 1, "--cgroup", name)
	in.needCgroups(t, "memory")
	second := launch(t, 1, "--cgroup", name)
	if code := second.waitEnd(readyWithin); code == 0 {
		t.Error("a second instance runs with the same groups")
	}
	if got := second.err.String(); !strings.Contains(got, "in use by another supervisor; choose another name with --cgroup") {
		t.Errorf("the second one says %q", got)
	}
	in.publish(t, "untouched").stop()
}

// eat makes the group of an origin run out of memory: a process that takes ever
// more is put into it, and the origin's OOM score has the kernel take the origin.
func eat(t *testing.T, origin int) {
	t.Helper()
	dir, _ := groupDir(t, origin, "memory")
	cmd := exec.Command("sh", "-c", "read go && exec tail /dev/zero") // an endless line, which tail keeps
	feed, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		t.Skip("no process can be moved into the group: ", err)
	}
	if _, err := io.WriteString(feed, "go\n"); err != nil {
		t.Fatal(err)
	}
}

// TestOutOfMemory: an origin that the kernel killed because its group was full is
// named so, in status and log, and started again; nobody else notices.
func TestOutOfMemory(t *testing.T) {
	in := up(t, 3, "--memory-max", "128M", "--oom-score", "1000")
	in.needCgroups(t, "memory")
	c := newCrowd(t, in, 9)
	victim, names := c.fullest(t)
	before := in.status()
	start := time.Now()
	eat(t, victim.PID)
	var o originStatus
	eventually(t, 20*time.Second, "the end of the origin", func() (bool, string) {
		o = in.status().origin(victim.ID)
		return o.Exit.PID == victim.PID, fmt.Sprintf("%+v", o)
	})
	t.Logf("killed within %s: %s", time.Since(start).Round(time.Millisecond), o.LastExit)
	if !o.Exit.OOM || !strings.HasPrefix(o.LastExit, "killed by SIGKILL: out of memory") {
		t.Errorf("last exit %q, OOM %v", o.LastExit, o.Exit.OOM)
	}
	for _, name := range names {
		c.republish(t, name, time.Second, 3*time.Second)
	}
	eventually(t, 10*time.Second, "the origin is ready again", func() (bool, string) {
		o = in.status().origin(victim.ID)
		return o.State == "ready" && o.PID != victim.PID && o.Restarts == 1, fmt.Sprintf("%+v", o)
	})
	if log := in.err.String(); !strings.Contains(log, "origin="+victim.ID) || !strings.Contains(log, "out of memory") {
		t.Error("no word of it in the log")
	}
	if table := srsProxy(t, "status", "-o", "wide", "--state-dir", in.stateDir); !strings.Contains(table.out, "out of memory") {
		t.Errorf("status -o wide:\n%s", table.out)
	}
	// The new process has the whole limit to itself: what ate is gone with the group.
	dir, v2 := groupDir(t, o.PID, "memory")
	file := "memory.limit_in_bytes"
	if v2 {
		file = "memory.max"
	}
	if got := groupValue(t, dir, file); got != strconv.Itoa(128<<20) {
		t.Errorf("the new process's limit is %s", got)
	}
	if pids := strings.Fields(groupValue(t, dir, "cgroup.procs")); !slices.Equal(pids, []string{strconv.Itoa(o.PID)}) {
		t.Errorf("in its group are %v", pids)
	}
	for _, b := range before.Origins {
		if now := in.status().origin(b.ID); b.ID != victim.ID && (now.PID != b.PID || now.Restarts != 0) {
			t.Errorf("%s was pid %d and is %+v", b.ID, b.PID, now)
		}
	}
	c.checkOthers(t, names)
}

// TestAdoptedLimits: origins that outlived an srs-proxy get the limits of the next
// one without a restart; only a nice value is a process's from its birth.
func TestAdoptedLimits(t *testing.T) {
	t.Parallel()
	in := up(t, 2, "--memory-max", "256M")
	in.needCgroups(t, "memory")
	pids := in.originPIDs()
	next := func(flags ...string) *instance {
		in.signal(syscall.SIGKILL)
		in.waitEnd(5 * time.Second)
		n := in.again()
		n.cmd.Args = append(n.cmd.Args, flags...)
		n.args = n.cmd.Args[1:]
		return n.start().waitReady(readyWithin)
	}
	in = next("--memory-max", "300M", "--oom-score", "400")
	if now := in.originPIDs(); !slices.Equal(now, pids) {
		t.Errorf("pids %v became %v", pids, now)
	}
	for _, o := range in.status().Origins {
		dir, v2 := groupDir(t, o.PID, "memory")
		file := "memory.limit_in_bytes"
		if v2 {
			file = "memory.max"
		}
		if got := groupValue(t, dir, file); got != strconv.Itoa(300<<20) || !strings.Contains(o.Limits, "memory 300M") {
			t.Errorf("%s: %s is %s, limits %q", o.ID, file, got, o.Limits)
		}
		if got := groupValue(t, fmt.Sprintf("/proc/%d", o.PID), "oom_score_adj"); got != "400" {
			t.Errorf("%s: oom_score_adj %s", o.ID, got)
		}
	}
	in = next("--nice", "19")
	eventually(t, 20*time.Second, "nice origins in the place of the others", func() (bool, string) {
		s := in.status()
		for _, o := range s.Origins {
			if slices.Contains(pids, o.PID) || o.State != "ready" {
				return false, fmt.Sprintf("%+v", o)
			}
			if got, err := syscall.Getpriority(syscall.PRIO_PROCESS, o.PID); err != nil || 20-got != 19 {
				t.Fatalf("%s: nice %d (%v)", o.ID, 20-got, err)
			}
		}
		return len(s.Origins) == 2, fmt.Sprintf("%d origins", len(s.Origins))
	})
	for _, pid := range pids {
		endProcess(pid) // they are our children since the first kill
	}
}
