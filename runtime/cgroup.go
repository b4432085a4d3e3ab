package runtime

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// cgroups are the folders that hold this process's limits, one list per kind of
// limit. Each list runs from the process's own group up to the top of the mount:
// a limit of any of them holds for all below.
//
// Version 1 mounts one hierarchy per controller, version 2 one for all, and a
// hybrid host has both with each controller in one of them. So nobody asks here
// which it is: every mounted hierarchy that could hold a limit is looked at, and
// the files that exist count.
type cgroups struct {
	cpu, cpusets []string
}

// A limit file's name tells its version, so both can be tried in any folder.
const (
	v1Quota  = "cpu.cfs_quota_us"  // microseconds a period, -1 is none
	v1Period = "cpu.cfs_period_us" // microseconds
	v2Quota  = "cpu.max"           // "max 100000" or "250000 100000"
)

// readCgroups finds the folders from /proc/self/cgroup and mountinfo. A host
// without them has no cgroup limits.
func readCgroups(root string) (cgroups, error) {
	var found cgroups
	membership, ok, err := readOptional(filepath.Join(root, "proc/self/cgroup"))
	if err != nil || !ok {
		return found, err
	}
	mounts, err := readCgroupMounts(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return found, err
	}
	for line := range strings.Lines(membership) {
		// "4:cpu,cpuacct:/group" in version 1, "0::/group" in version 2 (cgroups(7)).
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			return found, fmt.Errorf("%s: %q is not ID:CONTROLLERS:PATH", filepath.Join(root, "proc/self/cgroup"), clip(strings.TrimSpace(line)))
		}
		controllers, group := strings.Split(fields[1], ","), fields[2]
		v2 := fields[1] == ""
		for _, m := range mounts {
			if v2 && m.v2 || !v2 && m.carries(controllers) {
				dirs := m.upward(root, group)
				if v2 || slices.Contains(controllers, "cpu") {
					found.cpu = append(found.cpu, dirs...)
				}
				if v2 || slices.Contains(controllers, "cpuset") {
					found.cpusets = append(found.cpusets, dirs...)
				}
				break
			}
		}
	}
	return found, nil
}

// cgroupMount is one mounted hierarchy. A container often sees only the part
// below top, mounted at point.
type cgroupMount struct {
	v2      bool
	options []string // of version 1: the controllers among others
	top     string
	point   string
}

// readCgroupMounts picks the cgroup file systems out of mountinfo:
//
//	35 24 0:30 /top /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
func readCgroupMounts(file string) ([]cgroupMount, error) {
	text, _, err := readOptional(file)
	if err != nil {
		return nil, err
	}
	var mounts []cgroupMount
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		left, right, ok := strings.Cut(line, " - ")
		mount, super := strings.Fields(left), strings.Fields(right)
		if !ok || len(mount) < 6 || len(super) < 2 {
			return nil, fmt.Errorf("%s: %q is not a mount", file, clip(line))
		}
		if super[0] != "cgroup" && super[0] != "cgroup2" {
			continue
		}
		mounts = append(mounts, cgroupMount{
			v2:      super[0] == "cgroup2",
			options: strings.Split(super[len(super)-1], ","),
			top:     unescapeMount(mount[3]),
			point:   unescapeMount(mount[4]),
		})
	}
	return mounts, nil
}

// unescapeMount undoes the octal escapes of blanks in mountinfo (proc(5)).
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// carries reports whether m is the version 1 hierarchy of these controllers.
func (m cgroupMount) carries(controllers []string) bool {
	return !m.v2 && !slices.ContainsFunc(controllers, func(c string) bool { return !slices.Contains(m.options, c) })
}

// inside is where a group of /proc/PID/cgroup is below the mount's point. The
// group is told from the root of the cgroup namespace. Without such a namespace a
// container reads the host's path and its mount starts at top.
func (m cgroupMount) inside(group string) string {
	inside := path.Clean("/" + group)
	if m.top != "/" {
		rest, below := strings.CutPrefix(inside, m.top)
		if below && (rest == "" || rest[0] == '/') {
			inside = path.Clean("/" + rest)
		}
	}
	return inside
}

// upward lists the folders from the group up to the mount's top.
func (m cgroupMount) upward(root, group string) []string {
	inside := m.inside(group)
	base := filepath.Join(root, m.point)
	if _, err := os.Stat(filepath.Join(base, inside)); err != nil {
		// Our own group is outside of what is mounted here; the mount's top is
		// the closest that can be read.
		inside = "/"
	}
	dirs := []string{filepath.Join(base, inside)}
	for inside != "/" {
		inside = path.Dir(inside)
		dirs = append(dirs, filepath.Join(base, inside))
	}
	return dirs
}

// cpuset is the CPUs of the nearest group that names any. The kernel already
// keeps a group's effective CPUs within those of its parents.
func (g cgroups) cpuset() (set CPUSet, found bool, err error) {
	for _, dir := range g.cpusets {
		// In effect, v2 then v1; then as configured, for v1 kernels that lack the former.
		for _, name := range []string{"cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"} {
			set, _, err := readCPUSet(filepath.Join(dir, name))
			if err != nil {
				return nil, false, err
			}
			if len(set) > 0 {
				return set, true, nil
			}
		}
	}
	return nil, false, nil
}

// quota is the smallest of the quotas of all groups, in cores; 0 is none.
func (g cgroups) quota() (float64, error) {
	smallest := 0.0
	for _, dir := range g.cpu {
		for _, read := range []func(string) (float64, error){readQuotaV1, readQuotaV2} {
			cores, err := read(dir)
			if err != nil {
				return 0, err
			}
			if cores > 0 && (smallest == 0 || cores < smallest) {
				smallest = cores
			}
		}
	}
	return smallest, nil
}

// readQuotaV1 reads the pair of files of version 1 (sched-bwc in the kernel's documentation).
func readQuotaV1(dir string) (float64, error) {
	file := filepath.Join(dir, v1Quota)
	quota, found, err := readOptional(file)
	if err != nil || !found {
		return 0, err
	}
	us, err := strconv.ParseInt(quota, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number of microseconds", file, clip(quota))
	}
	if us <= 0 {
		return 0, nil
	}
	period, found, err := readOptional(filepath.Join(dir, v1Period))
	if err != nil || !found {
		return 0, err
	}
	return quotaCores(us, period, filepath.Join(dir, v1Period))
}

// readQuotaV2 reads cpu.max: "$MAX $PERIOD", where $MAX may be "max" (cgroup-v2
// in the kernel's documentation).
func readQuotaV2(dir string) (float64, error) {
	file := filepath.Join(dir, v2Quota)
	text, found, err := readOptional(file)
	if err != nil || !found {
		return 0, err
	}
	quota, period, _ := strings.Cut(text, " ")
	if quota == "max" {
		return 0, nil
	}
	us, err := strconv.ParseInt(quota, 10, 64)
	if err != nil || us <= 0 {
		return 0, fmt.Errorf("%s: %q is not a quota and a period", file, clip(text))
	}
	return quotaCores(us, period, file)
}

func quotaCores(us int64, periodText, file string) (float64, error) {
	period, err := strconv.ParseInt(periodText, 10, 64)
	if err != nil || period <= 0 {
		return 0, fmt.Errorf("%s: %q is not a period in microseconds", file, clip(periodText))
	}
	return float64(us) / float64(period), nil
}
