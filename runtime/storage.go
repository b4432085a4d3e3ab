package runtime

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/disk"
	"github.com/shirou/gopsutil/v3/mem"
)

// Disk is the room in the file system of a path, in bytes and in files. What
// counts as free is what a user without privileges may take.
type Disk struct {
	Total, Free           uint64
	TotalFiles, FreeFiles uint64 // TotalFiles is 0 where files are not counted, as on btrfs
	// Type is the file system's, as in ext4 or tmpfs.
	Type string
}

// ReadDisk looks at the file system that path, which must exist, is on.
func ReadDisk(path string) (Disk, error) {
	u, err := disk.Usage(path)
	if err != nil {
		return Disk{}, fmt.Errorf("file system of %s: %w", path, err)
	}
	return Disk{Total: u.Total, Free: u.Free, TotalFiles: u.InodesTotal, FreeFiles: u.InodesFree, Type: u.Fstype}, nil
}

// Memory is this host's, or what the memory cgroups leave of it, in bytes.
type Memory struct {
	Total, Available uint64
	// Limited says that a cgroup is what bounds Total.
	Limited bool
	// SwapUsed is the host's.
	SwapUsed uint64
	// Reservable is what may still be reserved while overcommit is off.
	Reservable uint64
}

// ReadMemory reads the host's memory and the limits of our cgroups.
func ReadMemory() (Memory, error) {
	v, err := mem.VirtualMemory()
	if err != nil {
		return Memory{}, fmt.Errorf("memory: %w", err)
	}
	m := Memory{
		Total: v.Total, Available: v.Available, SwapUsed: v.SwapTotal - v.SwapFree,
		Reservable: v.CommitLimit - min(v.CommitLimit, v.CommittedAS),
	}
	limit, left, err := memoryLimit("/")
	if err != nil {
		return Memory{}, err
	}
	if limit > 0 && limit < m.Total {
		m.Total, m.Limited = limit, true
		m.Available = min(m.Available, left)
	}
	return m, nil
}

// memoryLimit is the smallest limit of our memory cgroups, of version 1 or 2, on
// the way up the hierarchy, and the least that one of them has left. 0 is no limit.
func memoryLimit(root string) (limit, left uint64, err error) {
	dirs, err := memoryGroups(root)
	if err != nil {
		return 0, 0, err
	}
	for _, dir := range dirs {
		for _, name := range []struct{ limit, usage string }{
			{"memory.max", "memory.current"}, {"memory.limit_in_bytes", "memory.usage_in_bytes"},
		} {
			text, found, err := readOptional(filepath.Join(dir, name.limit))
			if err != nil {
				return 0, 0, err
			}
			if !found || text == "max" {
				continue
			}
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("%s: %q is not a number of bytes", filepath.Join(dir, name.limit), clip(text))
			}
			// Version 1 says "none" by a number near 2^63.
			if n >= 1<<60 {
				continue
			}
			free := n - min(n, usedMemory(dir, name.usage))
			if limit == 0 {
				limit, left = n, free
			}
			limit, left = min(limit, n), min(left, free)
		}
	}
	return limit, left, nil
}

// usedMemory is what a group uses, less the file pages that it gives back at no
// price, as the kubelet counts; 0 where it does not say.
func usedMemory(dir, file string) uint64 {
	usage, _, _ := readOptional(filepath.Join(dir, file))
	used, err := strconv.ParseUint(usage, 10, 64)
	if err != nil {
		return 0
	}
	stat, _, _ := readOptional(filepath.Join(dir, "memory.stat"))
	inactive := ""
	for line := range strings.Lines(stat) {
		// Version 1 counts a group without and, by the second name, with those below it.
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key {
		case "inactive_file", "total_inactive_file":
			inactive = value
		}
	}
	n, _ := strconv.ParseUint(inactive, 10, 64)
	return used - min(used, n)
}

// memoryGroups are the folders of the groups that bound our memory, innermost first.
func memoryGroups(root string) ([]string, error) {
	membership, _, err := readOptional(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil, err
	}
	mounts, err := readCgroupMounts(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	var dirs []string
	for line := range strings.Lines(membership) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		controllers := strings.Split(fields[1], ",")
		v2 := fields[1] == ""
		if !v2 && !slices.Contains(controllers, "memory") {
			continue
		}
		for _, m := range mounts {
			if v2 && m.v2 || !v2 && m.carries(controllers) {
				dirs = append(dirs, m.upward(root, fields[2])...)
				break
			}
		}
	}
	return dirs, nil
}
