package runtime

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNoCgroup says that this host gives the group nothing to answer with.
var ErrNoCgroup = errors.New("not known without a cgroup")

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

// release closes the descriptor; the group stays.
func (g *Cgroup) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unified >= 0 {
		unix.Close(g.unified)
		g.unified = -1
	}
}
