package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// modeEnv has the test binary run in a mount namespace of its own, with less of
// the host's groups to see, or in a version 2 group of its own.
const modeEnv = "SRS_PROXY_RUNTIME_TEST_CGROUPS"

// TestCgroupModes runs the tests of groups again, as on hosts of other kinds.
func TestCgroupModes(t *testing.T) {
	if os.Getenv(modeEnv) != "" {
		t.Skip("this is such a run")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount and unmount in a namespace")
	}
	_, host, err := findTrees("/", "srs-proxy")
	if err != nil {
		t.Fatal(err)
	}
	if host == CgroupNone {
		t.Skip("no cgroups are mounted here")
	}
	for _, tc := range []struct {
		mode string
		on   func() bool
		want string // in the support's line
		runs []string
	}{
		{"v1", func() bool { return host != CgroupV2 }, "v1: ", []string{"Birth", "Kill", "Crash", "Adopt"}},
		{"v2", func() bool { return host != CgroupV1 }, "v2: ", nil},
		{"none", func() bool { return true }, "none: nothing in use; no memory, cpuset, cpu, kill, birth: no cgroup file system is mounted", nil},
		{"readonly", func() bool { return true }, string(host) + ": nothing in use; no memory, cpuset, cpu, kill, birth: the cgroup mount is read-only", nil},
		{"delegated", func() bool { return v2Top() != "" }, "v2: memory v2", []string{"Birth", "OOM", "Quota", "Kill", "Crash", "Adopt"}},
		{"crowded", func() bool { return v2Top() != "" }, "has other processes (sleep, pid", []string{"Birth", "Kill"}},
	} {
		t.Run(tc.mode, func(t *testing.T) {
			if !tc.on() {
				t.Skipf("not to be had on this %s host", host)
			}
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), exe, "-test.run", "^TestCgroup(Birth|OOM|Quota|Cpuset|Kill|AfterKill|RemoveKillsNobody|FiftyAtOnce|Crash|Adopt|UpdateMoves|WeAreNoMember|MoveAfterStart|ModeSeen)$", "-test.v")
			cmd.Env = append(os.Environ(), modeEnv+"="+tc.mode)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			out, err := cmd.CombinedOutput()
			if errors.Is(err, unix.EPERM) {
				t.Skip("no mount namespace is allowed here")
			}
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			if !strings.Contains(string(out), tc.want) {
				t.Errorf("want %q in\n%s", tc.want, out)
			}
			for _, name := range tc.runs {
				if !strings.Contains(string(out), "--- PASS: TestCgroup"+name+" ") {
					t.Errorf("TestCgroup%s did not run:\n%s", name, out)
				}
			}
		})
	}
}

func TestCgroupModeSeen(t *testing.T) {
	c, err := OpenCgroups(CgroupConfig{Name: testGroupName()})
	if err != nil {
		t.Fatal(err)
	}
	defer sweep(t, c)
	t.Log(c.Support())
}

// v2Top is the top of the version 2 tree if it can limit memory.
func v2Top() string {
	trees, _, err := findTrees("/", "srs-proxy")
	if err != nil {
		return ""
	}
	for _, t := range trees {
		if top := t.mount.point; t.v2 && listed(top, "cgroup.controllers", "memory") {
			return top
		}
	}
	return ""
}

// runWithCgroups runs the tests in the mode asked for.
func runWithCgroups(m *testing.M) int {
	mode := os.Getenv(modeEnv)
	var undo func()
	var err error
	switch mode {
	case "":
		sweepStale()
	case "delegated", "crowded":
		undo, err = enterGroup(mode == "crowded")
	default:
		err = hideCgroups(mode)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if undo != nil {
		undo()
	}
	return code
}

// hideCgroups takes away some of the mounts, in this mount namespace.
func hideCgroups(mode string) error {
	mounts, err := readCgroupMounts("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, m := range mounts {
		switch {
		case mode == "readonly":
			err = unix.Mount("", m.point, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
		case mode == "none" || m.v2 != (mode == "v2"):
			err = unix.Unmount(m.point, unix.MNT_DETACH)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.point, err)
		}
	}
	return nil
}

// enterGroup puts this process into a group at the top of the version 2 tree, as
// systemd does with a delegated unit, alone or with a stranger.
func enterGroup(crowded bool) (undo func(), err error) {
	trees, _, err := findTrees("/", "srs-proxy")
	if err != nil {
		return nil, err
	}
	top := v2Top()
	group := filepath.Join(top, fmt.Sprintf("srs-proxy-unit-%d", os.Getpid()))
	home := ""
	for _, t := range trees {
		if t.v2 {
			home = t.own
		}
	}
	var enabled []string
	for _, controller := range controllers() {
		if listed(top, "cgroup.controllers", controller) && !listed(top, "cgroup.subtree_control", controller) {
			if err := writeCgroup(top, "cgroup.subtree_control", "+"+controller); err != nil {
				return nil, err
			}
			enabled = append(enabled, controller)
		}
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		return nil, err
	}
	// So that a systemd on this host is known to keep away.
	_ = unix.Setxattr(group, "trusted.delegate", []byte("1"), 0)
	var other *exec.Cmd
	undo = func() {
		if other != nil {
			_ = other.Process.Kill()
			_ = other.Wait()
		}
		err := errors.Join(writeCgroup(home, "cgroup.procs", "0"), removeGroup(group))
		for _, controller := range enabled {
			err = errors.Join(err, writeCgroup(top, "cgroup.subtree_control", "-"+controller))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if err := writeCgroup(group, "cgroup.procs", "0"); err != nil {
		undo()
		return nil, err
	}
	if crowded {
		other = exec.Command("sleep", "100")
		if err := other.Start(); err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}

// Where systemd runs and has not said that a group is ours, it is not.
func TestCgroupDelegation(t *testing.T) {
	root := hostTree(t, "v2-service")
	trees, _, err := findTrees(root, "srs-proxy")
	if err != nil {
		t.Fatal(err)
	}
	if why := undelegated(root, trees); why != "" {
		t.Errorf("without systemd: %s", why)
	}
	overwrite(t, root, "run/systemd/system/.keep", "")
	if why := undelegated(root, trees); (why != "") != (os.Geteuid() == 0) {
		t.Errorf("with systemd: %q", why)
	}
	if err := unix.Setxattr(trees[0].base, "trusted.delegate", []byte("1"), 0); err != nil {
		t.Skipf("no extended attributes here: %v", err)
	}
	if why := undelegated(root, trees); why != "" {
		t.Errorf("delegated: %s", why)
	}
}
