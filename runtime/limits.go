package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// What a child is born with besides CPUs and descriptors.
//
// Its group. A version 2 group takes the child at the clone (CLONE_INTO_CGROUP).
// Version 1 knows no such thing, but there each thread has its own group in each
// tree, and a child inherits those of the thread that forks it. So that thread
// enters the groups first: by writing "0" to their "tasks", which concerns it
// alone, takes no process-wide lock and needs no privilege beyond that file.
// Memory is not charged by threads, but by the process's first thread, so ours
// goes on being charged where it was; the child has a memory of its own from its
// exec on.
//
// Its nice value. In Linux each thread has one, and a child inherits that too,
// from the first instruction and for all threads it will have. (After the start
// there would be threads to look for.) But the way back from a higher nice value
// takes privilege.
//
// Hence both are done on a thread that is used for one child and then ended. That
// is why such a child can't have a Pdeathsig: it would get it at once.
//
// Its oom_score_adj belongs to whole processes, so to set ours for the moment of
// the fork would offer us up to the kernel. It is written to the child after its
// start, before Start returns. Nothing is decided by it in that millisecond unless the
// host is out of memory right then.

// StartOptions is what a child gets; zero values are what we have ourselves.
type StartOptions struct {
	CPUs   CPUSet
	Nofile uint64 // soft RLIMIT_NOFILE
	Cgroup *Cgroup
	// Nice and OOMScore are absolute: -20 to 19, and -1000 to 1000.
	Nice, OOMScore *int
}

// ErrPdeathsig refuses a child whose parent thread will end at once.
var ErrPdeathsig = errors.New("a parent death signal would come at once")

// ownThread reports whether the child takes a thread that is of no other use after.
func (o StartOptions) ownThread() bool {
	return o.Nice != nil || o.Cgroup != nil && len(o.Cgroup.threadDirs()) > 0
}

// mark makes the calling thread what the child is to inherit.
func (o StartOptions) mark() (restore func(), err error) {
	restore = func() {}
	if o.Nice != nil {
		if err := setNice(*o.Nice); err != nil {
			return restore, err
		}
	}
	if o.Cgroup == nil {
		return restore, nil
	}
	if o.Cgroup.gone() {
		return restore, errors.New("its cgroup was removed")
	}
	entered := o.Cgroup.threadDirs()
	// The thread ends anyway, but not at a moment that is known. Until then the
	// group can't be removed.
	restore = func() {
		for _, d := range entered {
			_ = writeCgroup(d.tree.own, "tasks", "0")
		}
	}
	for _, d := range entered {
		if err := writeCgroup(d.path, "tasks", "0"); err != nil {
			restore()
			return func() {}, fmt.Errorf("enter cgroup: %w", err)
		}
	}
	return restore, nil
}

// aim has a child born into the version 2 group.
func (o StartOptions) aim(cmd *exec.Cmd) {
	if o.Cgroup == nil {
		return
	}
	if fd := o.Cgroup.birthFD(); fd >= 0 {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, fd
	}
}

// finish does what can be done to a running child only: its OOM score, and its
// groups where it was not born inside. A child that has ended needs neither.
func (o StartOptions) finish(pid int) error {
	if o.Cgroup != nil {
		if err := o.Cgroup.AddProc(pid); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	if o.OOMScore != nil {
		if err := setOOMScore(strconv.Itoa(pid), *o.OOMScore); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func (g *Cgroup) gone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.removed
}

// threadDirs are the parts of the group that a child inherits from a thread.
func (g *Cgroup) threadDirs() []groupDir {
	g.mu.Lock()
	defer g.mu.Unlock()
	var dirs []groupDir
	for _, d := range g.dirs {
		if !d.tree.v2 && d.tree.birth {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// birthFD is the version 2 group to be born into, or -1.
func (g *Cgroup) birthFD() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range g.dirs {
		if d.tree.v2 && d.tree.birth && !g.spent {
			return g.unified
		}
	}
	return -1
}

// TryNice tells whether children can have this nice value, by trying it on a
// thread made for that.
func TryNice(nice int) (err error) {
	onThread(func() { err = setNice(nice) })
	return err
}

// setNice concerns the calling thread only.
func setNice(nice int) error {
	if nice < -20 || nice > 19 {
		return fmt.Errorf("nice %d: want -20 to 19", nice)
	}
	err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("nice %d is less than ours, which takes CAP_SYS_NICE or a higher RLIMIT_NICE: %w", nice, err)
	}
	return os.NewSyscallError("setpriority", err)
}

// TryOOMScore tells whether children can have this oom_score_adj, by giving it to
// this process for a moment; it is for a process that will start no origins.
func TryOOMScore(score int) error {
	hostMu.Lock()
	defer hostMu.Unlock()
	ours, err := OOMScore()
	if err != nil {
		return err
	}
	if err := setOOMScore("self", score); err != nil {
		return err
	}
	return setOOMScore("self", ours)
}

// OOMScore is this process's own oom_score_adj.
func OOMScore() (int, error) {
	const file = "/proc/self/oom_score_adj"
	text, _, err := readOptional(file)
	if err != nil {
		return 0, fmt.Errorf("OOM score: %w", err)
	}
	score, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number", file, clip(text))
	}
	return score, nil
}

// SetOOMScore gives a process that runs already another oom_score_adj.
func SetOOMScore(pid, score int) error { return setOOMScore(strconv.Itoa(pid), score) }

// Nice is the nice value of the main thread of process pid.
func Nice(pid int) (int, error) {
	// The system call, unlike the library's function, returns 20 less the value.
	n, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	return 20 - n, os.NewSyscallError("getpriority", err)
}

func setOOMScore(pid string, score int) error {
	if score < -1000 || score > 1000 {
		return fmt.Errorf("OOM score %d: want -1000 to 1000", score)
	}
	err := writeCgroup(filepath.Join("/proc", pid), "oom_score_adj", strconv.Itoa(score))
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("OOM score %d is less than the lowest so far, which takes CAP_SYS_RESOURCE: %w", score, err)
	}
	return err
}

// Nodes are the NUMA nodes of some CPUs, for SlotLimits.Mems.
func (t Topology) Nodes(cpus CPUSet) CPUSet {
	var nodes []int
	for _, cpu := range t.CPUs {
		if cpus.Contains(cpu.ID) {
			nodes = append(nodes, cpu.Node)
		}
	}
	return newCPUSet(nodes)
}
