package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// How long a killed group may take to empty, and an empty one to be removed: the
// kernel frees the memory of a large process first.
const groupPatience = 5 * time.Second

// groupGrace is how long a group that is to be removed may still list processes:
// those in it are dying, or have not been told to.
const groupGrace = 200 * time.Millisecond

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
