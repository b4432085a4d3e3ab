package faults

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOutOfMemory makes the memory cgroup of an origin run full under load: the kernel
// kills the origin, which is named so, and nobody else notices.
func TestOutOfMemory(t *testing.T) {
	long(t)
	in, l, f := loaded(t, "one origin out of memory in its cgroup", "--memory-max", "128M", "--oom-score", "1000")
	if groups := in.mustStatus().Cgroups; !strings.Contains(strings.SplitN(groups, ";", 2)[0], "memory v") {
		t.Skip("no memory cgroups here: ", groups)
	}
	repeat(t, in, l, f, func(round int) []string { return memoryRound(in, l, f, in.victims(round, 1)[0]) })
}

func memoryRound(in *instance, l *load, f *fault, victim originStatus) (wrong []string) {
	hit := in.namesOf([]originStatus{victim})
	before := in.mustStatus()
	glutton, err := newGlutton(victim.PID)
	if err != nil {
		return []string{err.Error()}
	}
	defer glutton.end()
	l.mark()
	died, err := glutton.eat(victim.PID)
	if err != nil {
		return []string{err.Error()}
	}
	// What counts begins with the kernel's kill.
	begin := l.marked
	l.marked = died
	wrong = l.recover(hit, afterDeath, f)
	time.Sleep(time.Until(l.marked.Add(felt)))
	wrong = append(wrong, l.unharmed(hit, f)...)
	wrong = append(wrong, l.single()...)
	wrong = append(wrong, in.siblings(before, []originStatus{victim})...)
	if now := in.origin(victim.ID); now.Exit.PID != victim.PID || !now.Exit.OOM || !strings.HasPrefix(now.LastExit, "killed by SIGKILL: out of memory") {
		wrong = append(wrong, fmt.Sprintf("%s died of a full cgroup, and its status says %+v", victim.ID, now))
	}
	at, ok := in.logged(victim.ID, "origin ended", begin)
	if !ok || !strings.Contains(in.told(victim.ID), "out of memory") {
		wrong = append(wrong, "the log does not say that "+victim.ID+" was out of memory: "+in.told(victim.ID))
	}
	f.detected.add(max(0, at.Sub(died)))
	return wrong
}

// glutton is a process that takes ever more memory, in an origin's cgroup. The OOM
// score of the origin has the kernel take that one, and what eats goes with the group.
type glutton struct {
	cmd  *exec.Cmd
	feed io.Writer
}

func newGlutton(pid int) (*glutton, error) {
	group, err := memoryGroup(pid)
	if err != nil {
		return nil, err
	}
	g := &glutton{cmd: exec.Command("sh", "-c", "read go && exec tail /dev/zero")} // an endless line, which tail keeps
	if g.feed, err = g.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(g.cmd.Process.Pid)), 0); err != nil {
		g.end()
		return nil, err
	}
	return g, nil
}

// eat returns when a process has died of it.
func (g *glutton) eat(pid int) (time.Time, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return time.Time{}, fmt.Errorf("pid %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if _, err := io.WriteString(g.feed, "go\n"); err != nil {
		return time.Time{}, err
	}
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		if n > 0 {
			return time.Now(), nil
		}
		if err != nil && err != unix.EINTR { //nolint:errorlint // a bare errno
			return time.Time{}, err
		}
	}
	return time.Time{}, fmt.Errorf("pid %d lives on in a full cgroup", pid)
}

func (g *glutton) end() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

// memoryGroup is the folder of a process's memory cgroup, of either version.
func memoryGroup(pid int) (string, error) {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	unified, memory := "", ""
	for line := range strings.Lines(string(groups)) {
		switch f := strings.SplitN(strings.TrimSpace(line), ":", 3); {
		case f[1] == "":
			unified = f[2]
		case slices.Contains(strings.Split(f[1], ","), "memory"):
			memory = f[2]
		}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if memory != "" && f[2] == "cgroup" && slices.Contains(strings.Split(f[3], ","), "memory") {
			return filepath.Join(f[1], memory), nil
		}
		if memory == "" && f[2] == "cgroup2" {
			return filepath.Join(f[1], unified), nil
		}
	}
	return "", fmt.Errorf("pid %d has no memory cgroup", pid)
}
