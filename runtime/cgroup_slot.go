package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoCgroup says that this host gives the group nothing to answer with.
var ErrNoCgroup = errors.New("not known without a cgroup")

// How long a killed group may take to empty, and an empty one to be removed: the
// kernel frees the memory of a large process first.
const groupPatience = 5 * time.Second

// groupGrace is how long a group that is to be removed may still list processes:
// those in it are dying, or have not been told to.
const groupGrace = 200 * time.Millisecond

// Cgroup is the group of one slot, in as many trees as its limits need.
type Cgroup struct {
	id    string
	owner *Cgroups

	mu      sync.Mutex // guards what follows
	dirs    []groupDir
	unified int // open folder of the version 2 group, -1 without one
	// spent is a version 2 group that was killed. Linux remembers, and some
	// versions (6.18 does, 6.1 does not) kill whoever is born into it later:
	// fork compares the count of kills with that of the parent's own group.
	spent   bool
	inForce []string
	missing []string
	removed bool
}

// groupDir is the group in one tree.
type groupDir struct {
	tree *cgroupTree
	path string
}

// has reports whether this part of the group has a controller. In version 2 the
// kernel knows: an adopted group may lie below a base that was prepared otherwise.
func (d groupDir) has(controller string) bool {
	if d.tree.v2 {
		return listed(d.path, "cgroup.controllers", controller)
	}
	return slices.Contains(d.tree.offers, controller)
}

// Update sets the limits anew, on running processes too. A memory limit below
// what is in use is refused by version 1, and in version 2 kills at once.
func (g *Cgroup) Update(l SlotLimits) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, err := procs(g.dirs)
	if err != nil {
		return err
	}
	if err := g.extend(l); err != nil {
		return fmt.Errorf("cgroup %s: %w", g.owner.groupName(g.id), err)
	}
	g.apply(l)
	for _, pid := range before {
		if err := addProc(g.dirs, pid); err != nil {
			return err
		}
	}
	return nil
}

// extend makes the parts of the group that the limits need and that it lacks. A
// part that is there already is used, so that no old limit stays in force.
func (g *Cgroup) extend(l SlotLimits) error {
	c := g.owner
	c.mu.Lock()
	defer c.mu.Unlock()
	need := map[string]bool{
		// Memory always, for its count of kills.
		"memory": true,
		"cpuset": len(l.CPUs) > 0 || len(l.Mems) > 0,
		"cpu":    l.CPUQuota > 0,
	}
	for _, t := range c.trees {
		if slices.ContainsFunc(g.dirs, func(d groupDir) bool { return d.tree == t }) {
			continue
		}
		path := filepath.Join(t.base, c.groupName(g.id))
		// An old group without processes is not used again: its counts are of
		// others, and if it was killed (see spent) nobody can be born in it.
		pids, err := readPIDs(path)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			if err := removeGroup(path); err != nil {
				return err
			}
		}
		if len(pids) == 0 && !t.v2 && !slices.ContainsFunc(t.offers, func(controller string) bool {
			return need[controller] && c.support.of(controller).OK()
		}) {
			continue
		}
		if err := makeGroup(path); err != nil {
			return err
		}
		g.dirs = append(g.dirs, groupDir{t, path})
		if !t.v2 && slices.Contains(t.offers, "cpuset") {
			if err := copyCpuset(t.base, path); err != nil {
				return err
			}
		}
	}
	for _, d := range g.dirs {
		if d.tree.v2 && need["cpu"] && c.support.CPU.By == CgroupV2 && filepath.Dir(d.path) == d.tree.base {
			c.enable(d.tree, "cpu")
		}
		if d.tree.v2 && g.unified < 0 {
			fd, err := openGroup(d.path)
			if err != nil {
				return fmt.Errorf("%s: %w", d.path, err)
			}
			g.unified = fd
		}
	}
	return nil
}

// part is where a controller of the group is.
func (g *Cgroup) part(controller string) (groupDir, bool) {
	for _, d := range g.dirs {
		if d.has(controller) {
			return d, true
		}
	}
	return groupDir{}, false
}

// Missing says which limits were asked for and are not in force, and why.
func (g *Cgroup) Missing() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.missing)
}

// Describe is what is in force, in a few words: "v2: memory 512M, quota 0.5".
func (g *Cgroup) Describe() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.dirs) == 0 {
		return string(CgroupNone)
	}
	mode := g.dirs[0].tree.version()
	for _, d := range g.dirs {
		if d.tree.version() != mode {
			mode = CgroupHybrid
		}
	}
	if len(g.inForce) == 0 {
		return string(mode) + ": no limit"
	}
	return string(mode) + ": " + strings.Join(g.inForce, ", ")
}

// Paths are the folders of the group, for those who want to look.
func (g *Cgroup) Paths() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var paths []string
	for _, d := range g.dirs {
		paths = append(paths, d.path)
	}
	return paths
}

// AddProc moves a process into the group, all its threads with it. Its children
// stay where they are.
func (g *Cgroup) AddProc(pid int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return addProc(g.dirs, pid)
}

func addProc(dirs []groupDir, pid int) error {
	for _, d := range dirs {
		pids, err := readPIDs(d.path)
		if err == nil && slices.Contains(pids, pid) {
			continue
		}
		if err == nil {
			err = writeCgroup(d.path, "cgroup.procs", strconv.Itoa(pid))
		}
		if err != nil {
			return fmt.Errorf("move pid %d to cgroup %s: %w", pid, d.path, processGone(err))
		}
	}
	return nil
}

// Procs are the processes in the group, without the dead that nobody waited for.
func (g *Cgroup) Procs() ([]int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return procs(g.dirs)
}

func procs(dirs []groupDir) ([]int, error) {
	var all []int
	for _, d := range dirs {
		pids, err := readPIDs(d.path)
		if err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
		all = append(all, pids...)
	}
	return newCPUSet(all), nil
}

// Kill ends every process in the group and returns when they are dead, to be
// reaped by whose children they are. Of version 1 it takes no freezer: a
// listing, SIGKILL to all of it and another listing get ahead of any program
// that does not fork in order to escape. Remove the group then, and ask for a
// new Slot: no other child can be born into this one.
func (g *Cgroup) Kill() error {
	g.mu.Lock()
	dirs := slices.Clone(g.dirs)
	g.spent = true
	g.mu.Unlock()
	if len(dirs) == 0 {
		return fmt.Errorf("kill group of slot %s: %w", g.id, ErrNoCgroup)
	}
	for _, d := range dirs {
		if d.tree.v2 {
			// Best effort: before Linux 5.14 there is no such file, and the loop does it.
			_ = writeCgroup(d.path, "cgroup.kill", "1")
		}
	}
	left, err := until(func() ([]int, error) {
		pids, err := procs(dirs)
		if err != nil || len(pids) == 0 {
			return nil, err
		}
		return pids, killListed(dirs, pids)
	})
	if err != nil {
		return fmt.Errorf("kill group of slot %s: %w", g.id, err)
	}
	if len(left) > 0 {
		return fmt.Errorf("kill group of slot %s: %s and %d others survive SIGKILL", g.id, nameOf(left[0]), len(left)-1)
	}
	return nil
}

// killListed kills the listed processes that are still listed once we hold them:
// a number that was given to a stranger meanwhile is not in the group.
func killListed(dirs []groupDir, pids []int) error {
	held := make(map[int]int, len(pids))
	defer func() {
		for _, fd := range held {
			unix.Close(fd)
		}
	}()
	var bare []int
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		switch {
		case err == nil:
			held[pid] = fd
		case !errors.Is(err, unix.ESRCH): // Linux before 5.3, a strict seccomp filter, no descriptors
			bare = append(bare, pid)
		}
	}
	again, err := procs(dirs)
	if err != nil {
		return err
	}
	var errs []error
	for _, pid := range again {
		fd, ok := held[pid]
		switch {
		case ok:
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		case slices.Contains(bare, pid):
			err = unix.Kill(pid, unix.SIGKILL)
		default:
			continue // forked meanwhile, next time
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("pid %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// Remove removes the empty group; it kills nobody. The group can't be used afterwards.
func (g *Cgroup) Remove() error {
	g.mu.Lock()
	dirs := g.dirs
	g.dirs, g.inForce, g.missing, g.removed = nil, nil, nil, true
	g.mu.Unlock()
	g.release()
	var errs []error
	for _, d := range dirs {
		errs = append(errs, removeGroup(d.path))
		if base := filepath.Dir(d.path); base != d.tree.base {
			removeAbandoned(filepath.Join(base, g.owner.cfg.Name))
		}
	}
	return errors.Join(errs...)
}

// removeAbandoned removes the NAME that a crashed predecessor left below another
// base, unless somebody holds its lock.
func removeAbandoned(dir string) {
	fd, err := openGroup(dir)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		_ = unix.Rmdir(dir)
	}
}

// release closes the descriptor; the group stays.
func (g *Cgroup) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unified >= 0 {
		unix.Close(g.unified)
		g.unified = -1
	}
}

// removeGroup removes an empty group. It waits a little for processes that are
// dying, and for a thread of ours that is just ending after it started a child in there.
func removeGroup(dir string) error {
	started := time.Now()
	var pids []int
	var refused error
	_, err := until(func() ([]int, error) {
		refused = unix.Rmdir(dir)
		if refused == nil || errors.Is(refused, fs.ErrNotExist) {
			refused = nil
			return nil, nil
		}
		if !errors.Is(refused, unix.EBUSY) {
			return nil, refused
		}
		var err error
		if pids, err = readPIDs(dir); err != nil || len(pids) > 0 && time.Since(started) > groupGrace {
			return nil, err
		}
		return []int{0}, nil // what keeps it is not a process: once more
	})
	switch {
	case err == nil && refused == nil:
		return nil
	case len(pids) > 0:
		return fmt.Errorf("cgroup %s still has processes (%s)", dir, nameOf(pids[0]))
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, cmp.Or(err, refused))
}

// until repeats a step until it leaves nothing, fails, or patience ends.
func until(step func() (left []int, err error)) ([]int, error) {
	deadline := time.Now().Add(groupPatience)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		left, err := step()
		if err != nil || len(left) == 0 || time.Now().After(deadline) {
			return left, err
		}
		time.Sleep(pause)
	}
}
