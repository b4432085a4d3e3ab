package runtime

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFindTrees(t *testing.T) {
	for _, tc := range []struct {
		host string
		mode CgroupMode
		want []string // VERSION OFFERS OWN BASE
	}{
		{"vm-hybrid", CgroupHybrid, []string{
			"v1  /sys/fs/cgroup/systemd /sys/fs/cgroup/systemd",
			"v1 memory /sys/fs/cgroup/memory/jobs/7 /sys/fs/cgroup/memory/jobs/7",
			"v1 cpuset /sys/fs/cgroup/cpuset /sys/fs/cgroup/cpuset",
			"v1 cpu /sys/fs/cgroup/cpu /sys/fs/cgroup/cpu",
			"v2  /sys/fs/cgroup/unified /sys/fs/cgroup/unified",
		}},
		{"v2-service", CgroupV2, []string{
			"v2 memory,cpu /sys/fs/cgroup/system.slice/srs-proxy.service /sys/fs/cgroup/system.slice/srs-proxy.service",
		}},
		// The unit says DelegateSubgroup=srs-proxy: the base is the unit's own group.
		{"v2-subgroup", CgroupV2, []string{
			"v2 memory,cpuset,cpu /sys/fs/cgroup/system.slice/media.service/srs-proxy /sys/fs/cgroup/system.slice/media.service",
		}},
		{"v1-container", CgroupV1, []string{
			// cpu and cpuacct share a hierarchy, and the mounts begin at the container's group.
			"v1  /sys/fs/cgroup/systemd /sys/fs/cgroup/systemd",
			"v1 memory /sys/fs/cgroup/memory /sys/fs/cgroup/memory",
			"v1 cpu /sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct",
		}},
		{"no-numa", CgroupNone, nil},
	} {
		t.Run(tc.host, func(t *testing.T) {
			root := hostTree(t, tc.host)
			trees, mode, err := findTrees(root, "srs-proxy")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, tree := range trees {
				got = append(got, string(tree.version())+" "+strings.Join(tree.offers, ",")+" "+
					strings.TrimPrefix(tree.own, root)+" "+strings.TrimPrefix(tree.base, root))
			}
			if mode != tc.mode || !slices.Equal(got, tc.want) {
				t.Errorf("mode %s, trees\n%s\nwant %s\n%s", mode, strings.Join(got, "\n"), tc.mode, strings.Join(tc.want, "\n"))
			}
		})
	}
}

// A copied tree has no kernel behind it: nothing can be usable, each thing for a
// reason, and nothing may be left in it.
func TestDetectCgroupsOnCopies(t *testing.T) {
	for _, tc := range []struct {
		host string
		edit func(root string)
		why  string
	}{
		{"v2-service", func(root string) { overwrite(t, root, "run/systemd/system/.keep", "") }, "Delegate=yes"},
		{"v2-service", func(string) {}, "srs-proxy.service has other processes"},
		{"no-numa", func(string) {}, "no cgroup file system is mounted"},
		{"vm-hybrid", func(string) {}, "our own group is not visible here"},
		{"v2-subgroup", func(root string) {
			overwrite(t, root, "proc/cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t9\t0\n")
			overwrite(t, root, "sys/fs/cgroup/system.slice/media.service/cgroup.controllers", "cpuset cpu")
		}, "no memory: the kernel was booted without it"},
	} {
		root := hostTree(t, tc.host)
		tc.edit(root)
		if os.Geteuid() != 0 && strings.Contains(tc.why, "Delegate") {
			continue // a question for root only
		}
		before := listing(t, root)
		support, err := DetectCgroups(CgroupConfig{Name: "srs-proxy", Root: root})
		if err != nil {
			t.Errorf("%s: %v", tc.host, err)
		}
		if text := support.String(); !strings.Contains(text, tc.why) {
			t.Errorf("%s: %s\nwant %q in it", tc.host, text, tc.why)
		}
		if support.Birth.OK() {
			t.Errorf("%s: a child can be born into a copy: %s", tc.host, support)
		}
		if after := listing(t, root); !slices.Equal(after, before) {
			t.Errorf("%s: was\n%q\nis\n%q", tc.host, before, after)
		}
	}
}

func listing(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestDetectCgroupsNamesBadFiles(t *testing.T) {
	for file, content := range map[string]string{
		"proc/self/cgroup":    "4:memory\n",
		"proc/self/mountinfo": "35 31 0:32 / cgroup\n",
	} {
		root := hostTree(t, "vm-hybrid")
		overwrite(t, root, file, content)
		if _, err := DetectCgroups(CgroupConfig{Name: "srs-proxy", Root: root}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: error %v", file, err)
		}
	}
}

func TestCgroupNames(t *testing.T) {
	for name, good := range map[string]bool{
		"srs-proxy": true, "3": true, "A_b-9": true, strings.Repeat("x", 64): true,
		"": false, ".": false, "..": false, "a.b": false, "a/b": false, "memory": false, "cgroup": false, "ä": false, "a\n": false, strings.Repeat("x", 65): false,
	} {
		if err := validName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := OpenCgroups(CgroupConfig{Name: "../escape"}); err == nil {
		t.Error("a name with a path is taken")
	}
}

func TestCgroupSupportText(t *testing.T) {
	v1, v2 := CgroupFeature{By: CgroupV1}, CgroupFeature{By: CgroupV2}
	no := CgroupFeature{Why: "X has other processes (bash, pid 7)"}
	for _, tc := range []struct {
		support CgroupSupport
		want    string
	}{
		{CgroupSupport{Mode: CgroupHybrid, Memory: v1, Cpuset: v1, CPU: v1, Kill: v2, Birth: CgroupFeature{By: CgroupHybrid}},
			"hybrid: memory v1, cpuset v1, cpu v1, kill v2, birth v1+v2"},
		{CgroupSupport{Mode: CgroupV2, Memory: no, Cpuset: CgroupFeature{Why: "not there"}, CPU: no, Kill: v2, Birth: v2},
			"v2: kill v2, birth v2; no memory, cpu: X has other processes (bash, pid 7); no cpuset: not there"},
		{noCgroups(CgroupNone, "switched off"), "none: nothing in use; no memory, cpuset, cpu, kill, birth: switched off"},
	} {
		if got := tc.support.String(); got != tc.want {
			t.Errorf("%q\nwant %q", got, tc.want)
		}
	}
	all := SlotLimits{CPUs: CPUSet{0}, Mems: CPUSet{1}, CPUQuota: 1.5, MemoryMax: 512 << 20}
	support := noCgroups(CgroupV1, "no")
	want := []string{"memory limit 512M: no", "memory bound to NUMA nodes 1: no", "CPU quota 1.5: no"}
	if got := support.Missing(all); !slices.Equal(got, want) {
		t.Errorf("missing %q, want %q", got, want)
	}
	support.Memory, support.CPU = v2, v2
	if got := support.Missing(SlotLimits{CPUQuota: 2, MemoryMax: 1}); got != nil {
		t.Errorf("missing %q of what is there", got)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64]string{512 << 20: "512M", 3 << 30: "3G", 1536 << 10: "1536K", 1000: "1000", 1 << 20: "1M"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// The kernel's own table, sched_prio_to_weight.
func TestNiceShares(t *testing.T) {
	for nice, want := range map[int]int{0: 1024, 1: 820, -1: 1277, 5: 335, 10: 110, 19: 15, -10: 9548, -20: 88761} {
		if got := niceShares(nice); got < want*98/100 || got > want*102/100 {
			t.Errorf("nice %d: %d, want about %d", nice, got, want)
		}
	}
}

// fakeGroup is a group of files without a kernel.
func fakeGroup(t *testing.T, v2 bool, files map[string]string) *Cgroup {
	t.Helper()
	base := t.TempDir()
	dir := filepath.Join(base, "srs-proxy.0")
	for name, content := range files {
		overwrite(t, dir, name, content)
	}
	tree := &cgroupTree{v2: v2, base: base, own: base, offers: controllers()}
	owner := &Cgroups{cfg: CgroupConfig{Name: "srs-proxy"}, trees: []*cgroupTree{tree}}
	return &Cgroup{id: "0", owner: owner, dirs: []groupDir{{tree, dir}}, unified: -1}
}

func TestCgroupStats(t *testing.T) {
	const files = "cgroup.controllers"
	for _, tc := range []struct {
		name  string
		v2    bool
		files map[string]string
	}{
		{"v1", false, map[string]string{
			"memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
			"memory.usage_in_bytes": "1048576\n",
			"cpu.stat":              "nr_periods 100\nnr_throttled 7\nthrottled_time 1500000\nnr_bursts 0\n",
		}},
		{"v2", true, map[string]string{
			files:            "cpuset cpu io memory pids\n",
			"memory.events":  "low 0\nhigh 0\nmax 55\noom 4\noom_kill 3\noom_group_kill 0\n",
			"memory.current": "1048576\n",
			"cpu.stat":       "usage_usec 9\nuser_usec 9\nsystem_usec 0\nnr_periods 100\nnr_throttled 7\nthrottled_usec 1500\n",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := fakeGroup(t, tc.v2, tc.files)
			if n, err := g.OOMKills(); n != 3 || err != nil {
				t.Errorf("OOM kills %d, %v", n, err)
			}
			if n, err := g.MemoryCurrent(); n != 1<<20 || err != nil {
				t.Errorf("memory %d, %v", n, err)
			}
			want := Throttling{Periods: 100, Throttled: 7, Time: 1500 * time.Microsecond}
			if got, err := g.Throttling(); got != want || err != nil {
				t.Errorf("throttling %+v, %v", got, err)
			}
			for file := range tc.files {
				if file != files {
					overwrite(t, g.dirs[0].path, file, "oom_kill x\nnr_periods x\n")
				}
			}
			_, err1 := g.OOMKills()
			_, err2 := g.MemoryCurrent()
			_, err3 := g.Throttling()
			for _, err := range []error{err1, err2, err3} {
				if err == nil || !strings.Contains(err.Error(), g.dirs[0].path) {
					t.Errorf("of a file that makes no sense: %v", err)
				}
			}
		})
	}
	none := &Cgroup{id: "0", owner: &Cgroups{support: noCgroups(CgroupNone, "off")}, unified: -1}
	if _, err := none.OOMKills(); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("without a group: %v", err)
	}
	// Linux before 4.13 does not count.
	old := fakeGroup(t, false, map[string]string{"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"})
	if _, err := old.OOMKills(); !errors.Is(err, ErrNoCgroup) {
		t.Errorf("without the count: %v", err)
	}
}

// What is written, by version; a folder of files takes anything.
func TestCgroupLimitsWritten(t *testing.T) {
	l := SlotLimits{CPUs: CPUSet{2, 3}, CPUQuota: 0.5, MemoryMax: 1 << 30, Nice: 5}
	for _, tc := range []struct {
		name    string
		v2      bool
		limits  SlotLimits
		files   map[string]string
		written map[string]string
	}{
		{"v2", true, l,
			map[string]string{"cgroup.controllers": "cpuset cpu memory", "memory.max": "max", "memory.swap.max": "max", "cpu.max": "max 100000", "cpu.weight.nice": "0", "cpuset.cpus": "", "cpuset.mems": "", "cpuset.cpus.effective": "2-3"},
			map[string]string{"memory.max": "1073741824", "memory.swap.max": "0", "cpu.max": "10000 20000", "cpu.weight.nice": "5", "cpuset.cpus": "2-3"}},
		{"v2, nothing asked", true, SlotLimits{},
			map[string]string{"cgroup.controllers": "cpuset cpu memory", "memory.max": "5000", "cpu.max": "10000 20000", "cpu.weight.nice": "5", "cpuset.cpus": "1", "cpuset.mems": "", "cpuset.cpus.effective": "0-7"},
			map[string]string{"memory.max": "max", "cpu.max": "max", "cpu.weight.nice": "0", "cpuset.cpus": "0-7", "cpuset.mems": ""}},
		{"v2, a tiny quota", true, SlotLimits{CPUQuota: 0.02},
			map[string]string{"cgroup.controllers": "cpu", "cpu.max": "max 100000"}, map[string]string{"cpu.max": "2000 100000"}},
		{"v1", false, l,
			map[string]string{"memory.limit_in_bytes": "", "memory.memsw.limit_in_bytes": "", v1Quota: "", v1Period: "", "cpu.shares": "", "cpuset.cpus": "0-7", "cpuset.mems": "0", "cpuset.effective_cpus": "2-3", "cpuset.effective_mems": "0"},
			map[string]string{"memory.limit_in_bytes": "1073741824", "memory.memsw.limit_in_bytes": "1073741824", v1Quota: "10000", v1Period: "20000", "cpu.shares": "336", "cpuset.cpus": "2-3"}},
		{"v1, nothing asked, no swap accounting", false, SlotLimits{},
			map[string]string{"memory.limit_in_bytes": "", v1Quota: "", v1Period: "", "cpu.shares": "", "cpuset.cpus": "2", "cpuset.mems": "0", "cpuset.effective_cpus": "0-7", "cpuset.effective_mems": "0"},
			map[string]string{"memory.limit_in_bytes": "-1", v1Quota: "-1", "cpu.shares": "1024", "cpuset.cpus": "0-7"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := fakeGroup(t, tc.v2, tc.files)
			for name, all := range map[string]string{"cpuset.cpus.effective": "0-7", "cpuset.effective_cpus": "0-7", "cpuset.mems.effective": "0", "cpuset.effective_mems": "0"} {
				overwrite(t, filepath.Dir(g.dirs[0].path), name, all)
			}
			g.apply(tc.limits)
			if len(g.missing) > 0 {
				t.Errorf("missing %q", g.missing)
			}
			for file, want := range tc.written {
				// A write to the kernel replaces; a write to a file overwrites its beginning.
				got, _, err := readOptional(filepath.Join(g.dirs[0].path, file))
				if err != nil || !strings.HasPrefix(got, want) {
					t.Errorf("%s is %q, want %q (%v)", file, got, want, err)
				}
			}
		})
	}
	// Of the nodes only those that have memory for us.
	g := fakeGroup(t, true, map[string]string{"cpuset.mems": "", "cpuset.mems.effective": "0"})
	overwrite(t, filepath.Dir(g.dirs[0].path), "cpuset.mems.effective", "0")
	if err := applyMems(g.dirs[0], SlotLimits{Mems: CPUSet{0, 1}}); err != nil {
		t.Error(err)
	}
	if err := applyMems(g.dirs[0], SlotLimits{Mems: CPUSet{1}}); err == nil || !strings.Contains(err.Error(), "only nodes 0 have memory") {
		t.Errorf("a node without memory: %v", err)
	}
	for _, quota := range []float64{0.001, -1, math.NaN()} {
		g := fakeGroup(t, true, map[string]string{"cgroup.controllers": "cpu", "cpu.max": "max 100000"})
		if err := applyQuota(g.dirs[0], SlotLimits{CPUQuota: quota}); err == nil {
			t.Errorf("a quota of %g is taken", quota)
		}
	}
}
