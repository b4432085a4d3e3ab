package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// threadNices is the nice values of our threads.
func threadNices(t *testing.T) map[int]bool {
	t.Helper()
	tids, err := readNumbers("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	nices := make(map[int]bool)
	for _, tid := range tids {
		// The system call gives 20 - nice, so that no answer looks like an error.
		if n, err := unix.Getpriority(unix.PRIO_PROCESS, tid); err == nil {
			nices[20-n] = true
		}
	}
	return nices
}

// statNice is field 19 of a /proc/PID/stat.
func statNice(stat string) string {
	_, rest, _ := strings.Cut(stat, ") ")
	fields := strings.Fields(rest)
	if len(fields) < 17 {
		return ""
	}
	return fields[16]
}

func TestChildIsBornNice(t *testing.T) {
	s := newTestSpawner(t)
	ours := threadNices(t)
	if len(ours) != 1 {
		t.Fatalf("our threads have nice values %v", ours)
	}
	for _, nice := range []int{7, 3, 19} { // up, down again, up: no privilege needed for any
		cmd := exec.CommandContext(t.Context(), "cat", "/proc/self/stat")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := s.StartWith(cmd, StartOptions{Nice: &nice, CPUs: ourCPUs(t)[:1]}); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if want := strconv.Itoa(nice); statNice(out.String()) != want {
			t.Errorf("born with %q, want nice %s", out.String(), want)
		}
	}
	eventually(t, "our threads are as they were", func() bool { return len(threadNices(t)) == 1 })
}

func TestChildGetsItsOOMScore(t *testing.T) {
	s := newTestSpawner(t)
	before, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	score := 567
	cmd := exec.CommandContext(t.Context(), "sleep", "100")
	if err := s.StartWith(cmd, StartOptions{OOMScore: &score}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	got, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/oom_score_adj")
	if err != nil || strings.TrimSpace(string(got)) != "567" {
		t.Errorf("the child has %q (%v)", got, err)
	}
	if after, err := os.ReadFile("/proc/self/oom_score_adj"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("we have %q, had %q (%v)", after, before, err)
	}
	if err := TryOOMScore(score); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile("/proc/self/oom_score_adj"); err != nil || !bytes.Equal(before, after) {
		t.Errorf("after a try we have %q, had %q (%v)", after, before, err)
	}
}

func TestStartOptionsRefused(t *testing.T) {
	s := newTestSpawner(t)
	low, high, nice := -1001, 20, 5
	for _, tc := range []struct {
		o    StartOptions
		attr *syscall.SysProcAttr
		want string
	}{
		{StartOptions{OOMScore: &low}, nil, "OOM score -1001"},
		{StartOptions{Nice: &high}, nil, "nice 20"},
		{StartOptions{Nice: &nice}, &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}, ErrPdeathsig.Error()},
	} {
		cmd := exec.CommandContext(t.Context(), "sleep", "100")
		cmd.SysProcAttr = tc.attr
		err := s.StartWith(cmd, tc.o)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %q", err, tc.want)
		}
		if cmd.Process != nil && unix.Kill(cmd.Process.Pid, 0) == nil {
			t.Errorf("a child is left: %d", cmd.Process.Pid)
		}
	}
	if err := TryNice(20); err == nil {
		t.Error("nice 20 is taken")
	}
}

func TestWithoutPrivilege(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	runHelper(t, "unprivileged")
}

func helperUnprivileged() error {
	if err := syscall.Setuid(65534); err != nil {
		return err
	}
	// A change of user makes /proc/self root's; programs that exec have their own.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	own, err := Nice(os.Getpid())
	if err != nil {
		return err
	}
	if err := TryNice(own - 1); own > -20 && (err == nil || !strings.Contains(err.Error(), "CAP_SYS_NICE")) {
		return fmt.Errorf("nice %d: %v", own-1, err)
	}
	if err := TryNice(min(own+1, 19)); err != nil {
		return err
	}
	if err := TryOOMScore(-500); err == nil || !strings.Contains(err.Error(), "CAP_SYS_RESOURCE") {
		return fmt.Errorf("OOM score -500: %v", err)
	}
	if err := TryOOMScore(500); err != nil {
		return err
	}
	s := NewSpawner()
	defer s.Close()
	// More than ours and back again, each on its own thread.
	for _, nice := range []int{min(own+3, 19), min(own+1, 19)} {
		cmd := exec.Command("cat", "/proc/self/stat")
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := s.StartWith(cmd, StartOptions{Nice: &nice}); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil || statNice(out.String()) != strconv.Itoa(nice) {
			return fmt.Errorf("nice %d: child says %q (%v)", nice, out.String(), err)
		}
	}
	low := -500
	cmd := exec.Command("sleep", "100")
	if err := s.StartWith(cmd, StartOptions{OOMScore: &low}); err == nil || unix.Kill(cmd.Process.Pid, 0) == nil {
		return fmt.Errorf("OOM score -500: %v, and the child lives", err)
	}
	support, err := DetectCgroups(CgroupConfig{Name: "srs-proxy"})
	if err != nil {
		return err
	}
	if support.Mode != CgroupNone && (support.Any() || !strings.Contains(support.String(), "no permission to make groups")) {
		return errors.New(support.String())
	}
	return nil
}

func TestNodes(t *testing.T) {
	topology := Topology{CPUs: []CPU{{ID: 0}, {ID: 1}, {ID: 8, Node: 1}, {ID: 9, Node: 1}}}
	for cpus, want := range map[string]string{"0-1": "0", "8": "1", "1,9": "0-1", "": "", "77": ""} {
		set, err := ParseCPUSet(cpus)
		if err != nil {
			t.Fatal(err)
		}
		if got := topology.Nodes(set); got.String() != want {
			t.Errorf("nodes of %q are %q, want %q", cpus, got, want)
		}
	}
}
