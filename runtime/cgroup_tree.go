package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// controllers are those that a slot's limits need, in the order of features.
func controllers() []string { return []string{"memory", "cpuset", "cpu"} }

// cgroupTree is one hierarchy of groups as it concerns us.
//
//	version 1                       version 2
//	OWN        we, base             OWN            base, no process
//	├─ NAME    only a lock          ├─ NAME        we, and a lock
//	├─ NAME.0  a slot               ├─ NAME.0      a slot
//	└─ NAME.1                       └─ NAME.1
//
// Slots lie side by side below the base, not below NAME: groups share a CPU by
// their weights, level by level, so in one common group all origins together
// would weigh as much as one process outside.
type cgroupTree struct {
	v2    bool
	mount cgroupMount
	// line is the controllers' field of this tree in /proc/PID/cgroup.
	line string
	// own is our group when we looked, base where slots go.
	own, base string
	// offers are the controllers of ours that it carries, usable or not.
	offers []string
	// birth reports whether a child can be born into a group of this tree.
	birth bool

	// What follows is guarded by the mutex of Cgroups: the open NAME, locked
	// (-1: not), and what there is to undo.
	lock    int
	moved   bool
	enabled []string
}

func (t *cgroupTree) version() CgroupMode {
	if t.v2 {
		return CgroupV2
	}
	return CgroupV1
}

// findTrees lists the mounted hierarchies that could serve us, with our place in each.
func findTrees(root, name string) (trees []*cgroupTree, mode CgroupMode, err error) {
	lines, err := readMembership(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil, CgroupNone, err
	}
	mounts, err := readCgroupMounts(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, CgroupNone, err
	}
	mode = CgroupNone
	for _, m := range mounts {
		switch {
		case mode == CgroupNone && m.v2:
			mode = CgroupV2
		case mode == CgroupNone:
			mode = CgroupV1
		case mode != CgroupHybrid && m.v2 != (mode == CgroupV2):
			mode = CgroupHybrid
		}
	}
	for _, l := range lines {
		t := &cgroupTree{v2: l.controllers == "", line: l.controllers, lock: -1}
		if !t.v2 {
			names := strings.Split(l.controllers, ",")
			t.offers = intersect(controllers(), names)
			if len(t.offers) == 0 && l.controllers != systemdLine {
				continue
			}
		}
		at := slices.IndexFunc(mounts, func(m cgroupMount) bool {
			return m.v2 == t.v2 && (m.v2 || m.carries(strings.Split(l.controllers, ",")))
		})
		if at < 0 {
			continue
		}
		t.mount = mounts[at]
		t.own = t.dir(root, l.group)
		t.base = t.own
		// A unit with DelegateSubgroup=NAME, or ourselves before an upgrade in place.
		if inside := t.mount.inside(l.group); t.v2 && path.Base(inside) == name && inside != "/" {
			t.base = filepath.Dir(t.own)
		}
		if t.v2 {
			available, _, err := readOptional(filepath.Join(t.base, "cgroup.controllers"))
			if err != nil {
				return nil, mode, err
			}
			t.offers = intersect(controllers(), strings.Fields(available))
		}
		trees = append(trees, t)
	}
	return trees, mode, nil
}

// dir is the folder of a group as /proc/PID/cgroup names it.
func (t *cgroupTree) dir(root, group string) string {
	return filepath.Join(root, t.mount.point, t.mount.inside(group))
}

// membershipLine is one line of /proc/PID/cgroup, "4:cpu,cpuacct:/group" in
// version 1, "0::/group" in version 2 (cgroups(7)).
type membershipLine struct{ controllers, group string }

func readMembership(file string) ([]membershipLine, error) {
	text, _, err := readOptional(file)
	if err != nil {
		return nil, err
	}
	var lines []membershipLine
	for line := range strings.Lines(text) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s: %q is not ID:CONTROLLERS:PATH", file, clip(strings.TrimSpace(line)))
		}
		lines = append(lines, membershipLine{fields[1], fields[2]})
	}
	return lines, nil
}

// systemdLine is systemd's own tree in version 1.
const systemdLine = "name=systemd"

// undelegated says why groups of systemd are not ours to touch; empty: they are.
// It marks a group that it leaves to a unit (Delegate=yes) with an extended
// attribute. Elsewhere it takes what it finds for its own: as root we could write
// there, and our limits would last until its next reload.
func undelegated(root string, trees []*cgroupTree) string {
	if _, err := os.Stat(filepath.Join(root, "run/systemd/system")); err != nil {
		return "" // not running here
	}
	group := ""
	for _, t := range trees {
		if t.v2 || t.line == systemdLine {
			if delegated(t.base) {
				return ""
			}
			group = t.base
		}
	}
	if group == "" || os.Geteuid() != 0 {
		// Where we are not root, a group that is not ours can't be written anyway.
		return ""
	}
	return fmt.Sprintf("systemd manages %s and has not left it to us; run as a unit with Delegate=yes, or under systemd-run --scope -p Delegate=yes", group)
}

func delegated(dir string) bool {
	value := make([]byte, 8)
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		if n, err := unix.Getxattr(dir, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// readPIDs reads a cgroup.procs; a group that is gone has none. Our own pid is
// never among them: in version 1 a single thread of ours, on its way to start a
// child in there, makes all of us look like a member.
func readPIDs(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(string(data)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("%s: %q is not a pid", filepath.Join(dir, "cgroup.procs"), clip(line))
		}
		if pid != os.Getpid() { // 0 is a process outside of our pid namespace
			pids = append(pids, pid)
		}
	}
	return newCPUSet(pids), nil
}

// writeCgroup writes a file of the kernel's in one piece; it never makes one.
func writeCgroup(dir, file, text string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// makeGroup makes a group unless it is there.
func makeGroup(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is not a group", dir)
	}
	return nil
}

func intersect(a, b []string) []string {
	var both []string
	for _, s := range a {
		if slices.Contains(b, s) {
			both = append(both, s)
		}
	}
	return both
}
