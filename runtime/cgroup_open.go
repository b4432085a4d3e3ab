package runtime

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrCgroupTaken says that another supervisor uses groups of the same name.
var ErrCgroupTaken = errors.New("the cgroup name is in use by another supervisor")

// Cgroups are the groups of one supervisor, one for each slot. It keeps no list
// of them: the kernel does, and so they outlive a crash of ours.
type Cgroups struct {
	cfg   CgroupConfig
	trees []*cgroupTree

	mu      sync.Mutex // guards support and what the trees say is guarded
	support CgroupSupport
}

// OpenCgroups makes ready to give out groups. That a host allows none, or not
// all, is no error: see Support. It takes a lock that falls with this process,
// so that no second supervisor kills our groups, or a crashed one's, as its own.
//
// Where version 2 is to limit anything, this process moves into the group NAME
// below its present one, so that the present one is free to hand out limits.
func OpenCgroups(cfg CgroupConfig) (*Cgroups, error) {
	support, trees, err := detectCgroups(cfg)
	if err != nil {
		return nil, err
	}
	c := &Cgroups{cfg: cfg, trees: trees, support: support}
	for _, t := range trees {
		if err := t.claim(cfg.Name); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		if !t.v2 {
			continue
		}
		if err := c.prepareV2(t); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

// claim makes the group NAME and locks its folder.
func (t *cgroupTree) claim(name string) error {
	dir := filepath.Join(t.base, name)
	if err := makeGroup(dir); err != nil {
		return fmt.Errorf("cgroup %s: %w", dir, err)
	}
	fd, err := openGroup(dir)
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", dir, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%s: %w; choose another name", dir, ErrCgroupTaken)
		}
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	t.lock = fd
	return nil
}

// openGroup opens the folder of a group, without an os.File: that would be closed
// when nobody refers to it any more.
func openGroup(dir string) (fd int, err error) {
	return unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// prepareV2 steps aside into NAME and hands memory and cpuset to the groups
// beside it. What turns out impossible is noted in the support.
func (c *Cgroups) prepareV2(t *cgroupTree) error {
	wanted := slices.DeleteFunc(slices.Clone(t.offers), func(controller string) bool {
		return !c.support.of(controller).OK()
	})
	if len(wanted) == 0 {
		return nil
	}
	// The top of all groups may keep its processes.
	_, below, err := readOptional(filepath.Join(t.base, "cgroup.type"))
	if err != nil {
		return err
	}
	if below && t.own == t.base {
		if err := writeCgroup(filepath.Join(t.base, c.cfg.Name), "cgroup.procs", "0"); err != nil {
			for _, controller := range wanted {
				*c.support.of(controller) = CgroupFeature{Why: "we can't step aside into a group of our own: " + err.Error()}
			}
			return nil
		}
		t.moved = true
	}
	for _, controller := range wanted {
		// A CPU controller changes how all below compete for CPUs: only for a
		// slot that asks for a quota.
		if controller != "cpu" {
			c.enable(t, controller)
		}
	}
	if t.moved && !c.support.Memory.OK() && !c.support.Cpuset.OK() && !c.support.CPU.OK() {
		return t.undo()
	}
	return nil
}

// enable gives the groups below the base a controller. The caller holds mu, or
// is the only one.
func (c *Cgroups) enable(t *cgroupTree, controller string) {
	if listed(t.base, "cgroup.subtree_control", controller) {
		return
	}
	if err := writeCgroup(t.base, "cgroup.subtree_control", "+"+controller); err != nil {
		*c.support.of(controller) = CgroupFeature{Why: fmt.Sprintf("%s can't hand it on: %v", t.base, err)}
		return
	}
	t.enabled = append(t.enabled, controller)
}

// undo takes back what prepareV2 did.
func (t *cgroupTree) undo() error {
	for len(t.enabled) > 0 {
		if err := writeCgroup(t.base, "cgroup.subtree_control", "-"+t.enabled[0]); err != nil {
			return err
		}
		t.enabled = t.enabled[1:]
	}
	if t.moved {
		if err := writeCgroup(t.own, "cgroup.procs", "0"); err != nil {
			return err
		}
		t.moved = false
	}
	return nil
}

// Support is what is in force, and why the rest is not.
func (c *Cgroups) Support() CgroupSupport {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.support
}

// Slot makes the group for one child and sets its limits: ask for it before each
// start. Only a group that still holds processes, of a predecessor of ours, is
// kept (see Leftovers); any other of the name is made anew. Limits that this host
// does not allow are no error but Missing of the group, and where there are no
// groups at all it is one that holds nobody, so that callers need not care.
func (c *Cgroups) Slot(id string, l SlotLimits) (*Cgroup, error) { return c.slot(id, 0, l) }

// Adopt is Slot for a process that runs already. A group of this slot's name that
// holds it is kept, even if it lies elsewhere since our predecessor was started
// elsewhere; otherwise the process is moved, and what memory it has remains
// counted where it was.
func (c *Cgroups) Adopt(id string, pid int, l SlotLimits) (*Cgroup, error) {
	g, err := c.slot(id, pid, l)
	if err != nil {
		return nil, err
	}
	if err := g.AddProc(pid); err != nil {
		g.release()
		return nil, err
	}
	return g, nil
}

func (c *Cgroups) slot(id string, pid int, l SlotLimits) (*Cgroup, error) {
	if err := validName(id); err != nil {
		return nil, err
	}
	g := &Cgroup{id: id, owner: c, unified: -1}
	if pid > 0 {
		lines, err := readMembership(filepath.Join(c.cfg.root(), "proc", fmt.Sprint(pid), "cgroup"))
		if err != nil {
			return nil, fmt.Errorf("cgroup of pid %d: %w", pid, processGone(err))
		}
		for _, t := range c.trees {
			at := slices.IndexFunc(lines, func(l membershipLine) bool { return l.controllers == t.line })
			if at < 0 {
				continue
			}
			dir := t.dir(c.cfg.root(), lines[at].group)
			// Never a group that we are in ourselves: it may be killed one day.
			if filepath.Base(dir) == c.groupName(id) && t.own != dir && !strings.HasPrefix(t.own, dir+"/") {
				g.dirs = append(g.dirs, groupDir{t, dir})
			}
		}
	}
	if err := g.Update(l); err != nil {
		g.release()
		return nil, err
	}
	return g, nil
}

func (c *Cgroups) groupName(id string) string { return c.cfg.Name + "." + id }

// Leftovers are the slots whose groups hold processes, as after a crash of ours,
// by id. Groups that hold none are left to Slot or RemoveAll.
func (c *Cgroups) Leftovers() (map[string][]int, error) {
	left := make(map[string][]int)
	for _, t := range c.trees {
		ids, err := c.ids(t)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			pids, err := readPIDs(filepath.Join(t.base, c.groupName(id)))
			if err != nil {
				return nil, fmt.Errorf("cgroup %s: %w", c.groupName(id), err)
			}
			if len(pids) > 0 {
				left[id] = newCPUSet(slices.Concat(left[id], pids))
			}
		}
	}
	return left, nil
}

// ids lists the slots that have a group in a tree.
func (c *Cgroups) ids(t *cgroupTree) ([]string, error) {
	entries, err := os.ReadDir(t.base)
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ours := strings.CutPrefix(e.Name(), c.cfg.Name+"."); ours && e.IsDir() && validName(id) == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// RemoveAll leaves the host as it was before us: no group, and ourselves where we
// started; only what a crashed predecessor switched on at the top of version 2
// stays so. It kills nobody; groups that hold processes stay and are named in the
// error. Only Close may follow.
func (c *Cgroups) RemoveAll() error {
	left := make(map[string]bool)
	var errs []error
	for _, t := range c.trees {
		ids, err := c.ids(t)
		errs = append(errs, err)
		for _, id := range ids {
			if err := removeGroup(filepath.Join(t.base, c.groupName(id))); err != nil {
				errs = append(errs, err)
				left[id] = true
			}
		}
	}
	if len(left) > 0 {
		ids := slices.Sorted(maps.Keys(left))
		return fmt.Errorf("cgroups of slots %s are left: %w", strings.Join(ids, ", "), errors.Join(errs...))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.trees {
		if err := t.undo(); err != nil {
			errs = append(errs, fmt.Errorf("leave %s: %w", t.base, err))
			continue
		}
		// Where we were put into NAME from outside, it is not ours to remove.
		if t.own == t.base {
			errs = append(errs, removeGroup(filepath.Join(t.base, c.cfg.Name)))
		}
	}
	return errors.Join(errs...)
}

// Close gives up the lock. The groups and what runs in them stay.
func (c *Cgroups) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, t := range c.trees {
		if t.lock >= 0 {
			errs = append(errs, unix.Close(t.lock))
			t.lock = -1
		}
	}
	return errors.Join(errs...)
}
