package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// CgroupConfig says where our groups go.
type CgroupConfig struct {
	// Name begins the name of every group of ours; "off" is no groups. Two
	// supervisors on one host need two names.
	Name string
	// Root is the folder that holds proc and sys; empty is the host's.
	Root string
}

// CgroupsOff is the name that asks for no groups.
const CgroupsOff = "off"

// Validate says whether the name can be one.
func (cfg CgroupConfig) Validate() error {
	if cfg.Name == CgroupsOff {
		return nil
	}
	return validName(cfg.Name)
}

func (cfg CgroupConfig) root() string {
	if cfg.Root == "" {
		return "/"
	}
	return cfg.Root
}

// validName keeps names to one folder's, and without the dot that parts NAME from
// the slot and the kernel's own files ("memory.max") from ours.
func validName(name string) error {
	for _, c := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", c) {
			return fmt.Errorf("cgroup name %q: want letters, digits, - and _", clip(name))
		}
	}
	if name == "" || len(name) > 64 || slices.Contains(append(controllers(), "cgroup", "io", "pids", "hugetlb", "rdma", "misc", "irq"), name) {
		return fmt.Errorf("cgroup name %q: want 1 to 64 characters, and no controller's name", clip(name))
	}
	return nil
}

// DetectCgroups finds out what groups can do here, by trying it on groups that
// it removes again. It moves no process of ours. A version 2 limit has one more
// condition, that no other process shares our group, which is looked at here and
// tried in earnest by OpenCgroups.
func DetectCgroups(cfg CgroupConfig) (CgroupSupport, error) {
	support, _, err := detectCgroups(cfg)
	return support, err
}

func detectCgroups(cfg CgroupConfig) (CgroupSupport, []*cgroupTree, error) {
	if cfg.Name == CgroupsOff {
		return noCgroups(CgroupNone, "switched off"), nil, nil
	}
	if err := validName(cfg.Name); err != nil {
		return CgroupSupport{}, nil, err
	}
	trees, mode, err := findTrees(cfg.root(), cfg.Name)
	if err != nil {
		return CgroupSupport{}, nil, fmt.Errorf("cgroups: %w", err)
	}
	if len(trees) == 0 {
		return noCgroups(CgroupNone, "no cgroup file system is mounted"), nil, nil
	}
	if why := undelegated(cfg.root(), trees); why != "" {
		return noCgroups(mode, why), nil, nil
	}
	support := noCgroups(mode, "")
	disabled := disabledControllers(cfg.root())
	for _, controller := range controllers() {
		f := support.of(controller)
		switch at := slices.IndexFunc(trees, func(t *cgroupTree) bool { return t.v2 }); {
		case disabled[controller]:
			f.Why = "the kernel was booted without it"
		case at >= 0:
			f.Why = fmt.Sprintf("not among the controllers of %s, nor mounted as version 1", trees[at].base)
		default:
			f.Why = "not mounted"
		}
	}
	var usable []*cgroupTree
	var useless []string
	for _, t := range trees {
		if t.line == systemdLine {
			continue
		}
		why := t.probe(&support)
		if why == "" {
			usable = append(usable, t)
			continue
		}
		for _, controller := range t.offers {
			*support.of(controller) = CgroupFeature{Why: why}
		}
		if !slices.Contains(useless, why) {
			useless = append(useless, why)
		}
	}
	if len(usable) == 0 {
		support.Kill.Why = cmp.Or(strings.Join(useless, "; "), "no hierarchy that could hold a limit is mounted")
		support.Birth.Why = support.Kill.Why
		return support, nil, nil
	}
	if !support.Kill.OK() {
		support.Kill.By = CgroupV1 // as in version 1: by what is listed
	}
	support.Birth.By = birthBy(usable)
	return support, usable, nil
}

// birthBy is what puts a child into all trees at its birth; empty: one of them can't.
func birthBy(trees []*cgroupTree) CgroupMode {
	by := CgroupMode("")
	for _, t := range trees {
		switch {
		case !t.birth:
			return ""
		case by == "":
			by = t.version()
		case by != t.version():
			by = CgroupHybrid
		}
	}
	return by
}

// disabledControllers reads which were switched off on the kernel's command line,
// as on boards whose firmware says cgroup_disable=memory.
func disabledControllers(root string) map[string]bool {
	text, _, err := readOptional(filepath.Join(root, "proc/cgroups"))
	if err != nil {
		return nil
	}
	disabled := make(map[string]bool)
	for line := range strings.Lines(text) {
		// "memory 0 113 0" is NAME HIERARCHY GROUPS ENABLED.
		if fields := strings.Fields(line); len(fields) == 4 && fields[3] == "0" {
			disabled[fields[0]] = true
		}
	}
	return disabled
}

// probe tries the tree on a group of its own and notes what works. The reason it
// returns is why the tree is of no use at all.
func (t *cgroupTree) probe(support *CgroupSupport) (why string) {
	dir, err := os.MkdirTemp(t.base, "srs-proxy-probe-")
	if err != nil {
		return hint(err)
	}
	defer func() {
		if err := removeGroup(dir); err != nil && why == "" {
			why = err.Error()
		}
	}()
	if t.v2 {
		t.probeV2(support, dir)
		return ""
	}
	return t.probeV1(support, dir)
}

func (t *cgroupTree) probeV1(support *CgroupSupport, dir string) (why string) {
	file := map[string]string{"memory": "memory.limit_in_bytes", "cpuset": "cpuset.cpus", "cpu": v1Quota}
	if slices.Contains(t.offers, "cpuset") {
		if err := copyCpuset(t.base, dir); err != nil {
			return hint(err)
		}
	}
	for _, controller := range t.offers {
		f, err := os.OpenFile(filepath.Join(dir, file[controller]), os.O_WRONLY, 0)
		if err != nil {
			support.of(controller).Why = hint(err)
			continue
		}
		f.Close()
		*support.of(controller) = CgroupFeature{By: CgroupV1}
	}
	// As in a start: a thread that enters a cpuset changes its affinity.
	hostMu.Lock()
	defer hostMu.Unlock()
	var err error
	onThread(func() {
		if err = writeCgroup(dir, "tasks", "0"); err == nil {
			err = writeCgroup(t.own, "tasks", "0")
		}
	})
	t.birth = err == nil
	if err != nil {
		support.Birth.Why = fmt.Sprintf("a thread of ours can't enter a group: %v", err)
	}
	return ""
}

func (t *cgroupTree) probeV2(support *CgroupSupport, dir string) {
	// In this order: nobody can be born into a group that was killed (see spent).
	if err := tryBirth(dir); err != nil {
		support.Birth.Why = fmt.Sprintf("CLONE_INTO_CGROUP takes Linux 5.7 and a seccomp filter that allows it: %v", err)
	} else {
		t.birth = true
	}
	if err := writeCgroup(dir, "cgroup.kill", "1"); err != nil {
		support.Kill.Why = "cgroup.kill takes Linux 5.14: " + err.Error()
	} else {
		support.Kill = CgroupFeature{By: CgroupV2}
	}
	why := t.obstacle()
	for _, controller := range t.offers {
		if why != "" && !listed(t.base, "cgroup.subtree_control", controller) {
			support.of(controller).Why = why
		} else {
			*support.of(controller) = CgroupFeature{By: CgroupV2}
		}
	}
}

// tryBirth has a child born into dir for a program that does not exist: all of
// the fork happens, and nothing ever runs.
func tryBirth(dir string) error {
	fd, err := openGroup(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	missing := filepath.Join(dir, "none")
	p, err := os.StartProcess(missing, []string{missing}, &os.ProcAttr{Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}})
	if err == nil { // it died before it could tell that there is no such program
		state, _ := p.Wait()
		return fmt.Errorf("a child ends at its birth: %v", state)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// obstacle says why limits can't be handed to groups below the base: version 2
// wants processes in its leaves only ("no internal processes" in the kernel's
// cgroup-v2). We step aside into a leaf; other processes are not ours to move.
func (t *cgroupTree) obstacle() string {
	f, err := os.OpenFile(filepath.Join(t.base, "cgroup.subtree_control"), os.O_WRONLY, 0)
	if err != nil {
		return hint(err)
	}
	f.Close()
	kind, below, err := readOptional(filepath.Join(t.base, "cgroup.type"))
	switch {
	case err != nil:
		return hint(err)
	case !below: // only the top has no type, and there all may stay
		return ""
	case kind != "domain":
		return fmt.Sprintf("%s is a %s group", t.base, kind)
	}
	pids, err := readPIDs(t.base)
	if err != nil {
		return hint(err)
	}
	if len(pids) == 0 {
		return ""
	}
	return fmt.Sprintf("%s has other processes (%s), and version 2 gives limits only to groups beside which nothing runs; run as a unit with Delegate=yes, or under systemd-run --scope -p Delegate=yes", t.base, nameOf(pids[0]))
}

func nameOf(pid int) string {
	name, _, err := readOptional("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil || name == "" {
		return "pid " + strconv.Itoa(pid)
	}
	return fmt.Sprintf("%s, pid %d", name, pid)
}

// listed reports whether a file of names holds one of them.
func listed(dir, file, name string) bool {
	text, _, err := readOptional(filepath.Join(dir, file))
	return err == nil && slices.Contains(strings.Fields(text), name)
}

// hint adds what would help to an error of the file system. It leaves out the
// folder where it does not matter, so that several trees have one reason.
func hint(err error) string {
	switch {
	case errors.Is(err, unix.EROFS):
		return "the cgroup mount is read-only; a container needs a writable one"
	case errors.Is(err, fs.ErrPermission):
		return "no permission to make groups; run as root, or as a unit with Delegate=yes"
	case errors.Is(err, fs.ErrNotExist):
		return "our own group is not visible here: " + err.Error()
	}
	return err.Error()
}
