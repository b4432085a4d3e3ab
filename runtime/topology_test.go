package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
)

// hostTree unpacks testdata/NAME.txt, files after "-- PATH --" lines as in a
// txtar archive, and returns the folder.
func hostTree(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	file := ""
	contents := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		if path, found := strings.CutPrefix(strings.TrimSpace(line), "-- "); found {
			file = strings.TrimSuffix(path, " --")
			contents[file] = ""
			continue
		}
		if file != "" {
			contents[file] += line
		}
	}
	for file, content := range contents {
		overwrite(t, root, file, content)
	}
	return root
}

func overwrite(t *testing.T, root, file, content string) {
	t.Helper()
	path := filepath.Join(root, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadTopology(t *testing.T) {
	for _, tc := range []struct {
		host  string
		cpus  string
		quota float64
		// nodes and cores are CPU lists; cores as "siblings/siblings/...", only the first four.
		nodes, cores string
	}{
		{host: "vm-hybrid", cpus: "0-1", nodes: "n0p0:0-1", cores: "0/1"},
		{host: "two-sockets-v2-cpuset", cpus: "0-7,16-23,32-39,48-55", nodes: "n0p0:0-7,32-39 n1p1:16-23,48-55", cores: "0,32/16,48/1,33/17,49"},
		{host: "v1-quota", cpus: "0-7", quota: 4, nodes: "n0p0:0-7", cores: "0-1/2-3/4-5/6-7"},
		{host: "container-2.5", cpus: "0-15", quota: 2.5, nodes: "n0p0:0-15", cores: "0/1/2/3"},
		{host: "container-v1", cpus: "1-2", quota: 1.2, nodes: "n0p0:1-2", cores: "1/2"},
		{host: "offline-cpus", cpus: "0-2,6", nodes: "n0p0:0-2,6", cores: "0-1/2/6"},
		{host: "no-numa", cpus: "0-3", nodes: "n0p0:0-1 n0p1:2-3", cores: "0/2/1/3"},
		{host: "arm-no-smt", cpus: "0-5", nodes: "n0p0:0-5", cores: "0/1/2/3"},
	} {
		t.Run(tc.host, func(t *testing.T) {
			topo, err := ReadTopology(hostTree(t, tc.host))
			if err != nil {
				t.Fatal(err)
			}
			if got := topo.Allowed().String(); got != tc.cpus {
				t.Errorf("CPUs %s, want %s", got, tc.cpus)
			}
			if topo.Quota != tc.quota {
				t.Errorf("quota %v, want %v", topo.Quota, tc.quota)
			}
			var nodes []string
			for _, n := range byNode(topo.compact()) {
				nodes = append(nodes, fmt.Sprintf("n%dp%d:%s", n[0].Node, n[0].Package, idSet(n)))
			}
			if got := strings.Join(nodes, " "); got != tc.nodes {
				t.Errorf("nodes %s, want %s", got, tc.nodes)
			}
			// The first siblings of all cores come first in spread order.
			var cores []string
			for _, c := range topo.spread() {
				core := topo.coreOf(c)
				if core[0] == c.ID && len(cores) < 4 {
					cores = append(cores, core.String())
				}
			}
			if got := strings.Join(cores, "/"); got != tc.cores {
				t.Errorf("cores %s, want %s", got, tc.cores)
			}
		})
	}
}

func (t Topology) coreOf(c CPU) CPUSet {
	return idSet(slices.DeleteFunc(slices.Clone(t.CPUs), func(o CPU) bool { return !siblings(o, c) }))
}

func TestReadTopologyNamesTheBadFile(t *testing.T) {
	for _, tc := range []struct{ host, file, content string }{
		{"vm-hybrid", "proc/self/status", "Name:\tx\n"},
		{"vm-hybrid", "proc/self/status", "Cpus_allowed_list:\t\n"},
		{"vm-hybrid", "proc/self/status", "Cpus_allowed_list:\tffff\n"},
		{"vm-hybrid", "proc/self/cgroup", "what is this\n"},
		{"vm-hybrid", "proc/self/mountinfo", "1 2 3\n"},
		{"vm-hybrid", "sys/devices/system/cpu/online", "\x00\xff"},
		{"vm-hybrid", "sys/devices/system/node/node0/cpulist", "0-"},
		{"vm-hybrid", "sys/devices/system/cpu/cpu1/topology/core_cpus_list", "one"},
		{"vm-hybrid", "sys/devices/system/cpu/cpu1/topology/physical_package_id", "zero"},
		{"vm-hybrid", "sys/fs/cgroup/cpuset/cpuset.effective_cpus", "all"},
		{"v1-quota", "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "none"},
		{"v1-quota", "sys/fs/cgroup/cpu,cpuacct/system.slice/cpu.cfs_period_us", "0"},
		{"container-2.5", "sys/fs/cgroup/cpu.max", "lots"},
		{"container-2.5", "sys/fs/cgroup/cpu.max", "250000"},
		{"container-2.5", "sys/fs/cgroup/cpu.max", "-1 100000"},
		{"container-2.5", "sys/fs/cgroup/cpu.max", "250000 0"},
	} {
		t.Run(filepath.Base(tc.file)+"="+tc.content, func(t *testing.T) {
			root := hostTree(t, tc.host)
			overwrite(t, root, tc.file, tc.content)
			topo, err := ReadTopology(root)
			if err == nil {
				t.Fatalf("read as %+v", topo)
			}
			if !strings.Contains(err.Error(), filepath.Join(root, tc.file)) {
				t.Errorf("%q does not name the file", err)
			}
		})
	}
	if _, err := ReadTopology(t.TempDir()); err == nil || !strings.Contains(err.Error(), "proc/self/status") {
		t.Errorf("an empty host: %v", err)
	}
	root := hostTree(t, "vm-hybrid")
	overwrite(t, root, "sys/devices/system/cpu/online", "7")
	if _, err := ReadTopology(root); err == nil || !strings.Contains(err.Error(), "no CPU is left") {
		t.Errorf("affinity and online CPUs that do not overlap: %v", err)
	}
}

// A hardened container may hide folders by permission; root reads them anyway,
// so this can't be shown on the file system when run as root.
func TestHiddenFilesAreOptional(t *testing.T) {
	if !absent(fmt.Errorf("open: %w", os.ErrPermission)) || !absent(fmt.Errorf("open: %w", os.ErrNotExist)) || absent(nil) || absent(os.ErrInvalid) {
		t.Error("absent is wrong")
	}
}

func TestReadTopologyOfThisHost(t *testing.T) {
	topo, err := ReadTopology("/")
	if err != nil {
		t.Fatal(err)
	}
	allowed, err := AllowedCPUs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got := topo.Allowed(); len(got) == 0 || len(got.Minus(allowed)) > 0 {
		t.Errorf("CPUs %s, of an affinity of %s", got, allowed)
	}
	if n := goruntime.NumCPU(); len(topo.CPUs) != n {
		t.Errorf("%d CPUs, Go sees %d", len(topo.CPUs), n)
	}
	plan, err := topo.Plan(PlanRequest{})
	if err != nil || len(plan.Origins) == 0 {
		t.Errorf("plan %+v, %v", plan, err)
	}
	t.Logf("%+v: %+v", topo, plan)
}
