package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// CPU is one logical CPU. CPUs with the same Package and Core are SMT siblings:
// they share one physical core's execution units.
type CPU struct {
	ID int
	// Core numbers the physical core by its lowest CPU, not by the kernel's
	// core_id, which repeats between the dies or clusters of a package.
	Core    int
	Package int
	Node    int
}

// Topology is what this process may use of the host.
type Topology struct {
	// CPUs, by ID, are only those this process may run on: the scheduler's
	// affinity, within the cpuset cgroup (v1 or v2), and online.
	CPUs []CPU
	// Quota is how many cores' worth of time the CPU quotas of the cgroups
	// allow (v1 cfs_quota, v2 cpu.max), the smallest on the way up the
	// hierarchy. 0 is no quota.
	Quota float64
}

// ReadTopology reads the topology below root: "/" on a host, a folder with
// copies of /proc and /sys in tests. A process that pins itself narrows what it
// sees here, so read this first.
//
// Files that a kernel or container may lack (topology, NUMA nodes, cgroups) are
// optional: without them each CPU is its own core on node 0. A file that is
// there but makes no sense is an error that names it.
func ReadTopology(root string) (Topology, error) {
	allowed, err := allowedCPUs(filepath.Join(root, "proc/self/status"))
	if err != nil {
		return Topology{}, err
	}
	online, found, err := readCPUSet(filepath.Join(root, "sys/devices/system/cpu/online"))
	if err != nil {
		return Topology{}, err
	}
	if found {
		allowed = allowed.intersect(online)
	}
	groups, err := readCgroups(root)
	if err != nil {
		return Topology{}, err
	}
	cpuset, found, err := groups.cpuset()
	if err != nil {
		return Topology{}, err
	}
	if found {
		allowed = allowed.intersect(cpuset)
	}
	if len(allowed) == 0 {
		return Topology{}, fmt.Errorf("no CPU is left for this process: affinity, cpuset cgroup (%s) and online CPUs (%s) do not overlap", cpuset, online)
	}
	t := Topology{}
	if t.Quota, err = groups.quota(); err != nil {
		return Topology{}, err
	}
	nodes, err := readNodes(filepath.Join(root, "sys/devices/system/node"))
	if err != nil {
		return Topology{}, err
	}
	for _, id := range allowed {
		cpu, err := readCPU(root, id)
		if err != nil {
			return Topology{}, err
		}
		cpu.Node = nodes[id]
		t.CPUs = append(t.CPUs, cpu)
	}
	return t, nil
}

// Allowed is the set of all CPUs of t.
func (t Topology) Allowed() CPUSet { return idSet(t.CPUs) }

// readCPU finds the core and package of one CPU.
func readCPU(root string, id int) (CPU, error) {
	dir := filepath.Join(root, "sys/devices/system/cpu", "cpu"+strconv.Itoa(id), "topology")
	cpu := CPU{ID: id, Core: id}
	// core_cpus_list is the name since Linux 5.5, the other one the old name.
	for _, name := range []string{"core_cpus_list", "thread_siblings_list"} {
		siblings, found, err := readCPUSet(filepath.Join(dir, name))
		if err != nil {
			return CPU{}, err
		}
		if found && siblings.Contains(id) {
			cpu.Core = siblings[0]
			break
		}
	}
	text, found, err := readOptional(filepath.Join(dir, "physical_package_id"))
	if err != nil || !found {
		return cpu, err
	}
	if cpu.Package, err = strconv.Atoi(text); err != nil {
		return CPU{}, fmt.Errorf("%s: %q is not a package number", filepath.Join(dir, "physical_package_id"), clip(text))
	}
	// -1 is "unknown", as on many ARM boards.
	cpu.Package = max(cpu.Package, 0)
	return cpu, nil
}

// readNodes maps CPU to NUMA node; a kernel without NUMA has no such folder.
func readNodes(dir string) (map[int]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("NUMA nodes: %w", err)
	}
	nodes := make(map[int]int)
	for _, e := range entries {
		number, isNode := strings.CutPrefix(e.Name(), "node")
		node, err := strconv.Atoi(number)
		if !isNode || err != nil {
			continue
		}
		// A node of memory only has an empty list.
		cpus, _, err := readCPUSet(filepath.Join(dir, e.Name(), "cpulist"))
		if err != nil {
			return nil, err
		}
		for _, id := range cpus {
			nodes[id] = node
		}
	}
	return nodes, nil
}

// allowedCPUs reads Cpus_allowed_list from a /proc/PID/status.
func allowedCPUs(file string) (CPUSet, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CPU affinity: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		list, found := strings.CutPrefix(line, "Cpus_allowed_list:")
		if !found {
			continue
		}
		set, err := ParseCPUSet(list)
		if err != nil {
			return nil, fmt.Errorf("%s: Cpus_allowed_list: %w", file, err)
		}
		if len(set) == 0 {
			return nil, fmt.Errorf("%s: Cpus_allowed_list is empty", file)
		}
		return set, nil
	}
	return nil, fmt.Errorf("%s: no Cpus_allowed_list", file)
}

// readCPUSet reads a file that holds one CPU list, if the file is there.
func readCPUSet(file string) (set CPUSet, found bool, err error) {
	text, found, err := readOptional(file)
	if err != nil || !found {
		return nil, false, err
	}
	if set, err = ParseCPUSet(text); err != nil {
		return nil, false, fmt.Errorf("%s: %w", file, err)
	}
	return set, true, nil
}

// readOptional reads a small file, trimmed, if it is there.
func readOptional(file string) (text string, found bool, err error) {
	data, err := os.ReadFile(file)
	if absent(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	return strings.TrimSpace(string(data)), true, nil
}

// absent tells a file that this host does not show (or not to us) from one that
// can't be read. Hardened containers hide parts of /sys by permission.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}
