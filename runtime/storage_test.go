package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadDisk(t *testing.T) {
	dir := t.TempDir()
	d, err := ReadDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d.Total == 0 || d.Free == 0 || d.Free > d.Total || d.FreeFiles > d.TotalFiles || d.Type == "" {
		t.Errorf("%+v", d)
	}
	if _, err := ReadDisk(filepath.Join(dir, "none")); err == nil {
		t.Error("a path that is not there")
	}
}

func TestReadMemory(t *testing.T) {
	m, err := ReadMemory()
	if err != nil {
		t.Fatal(err)
	}
	if m.Total == 0 || m.Available == 0 || m.Available > m.Total {
		t.Errorf("%+v", m)
	}
}

func TestMemoryLimit(t *testing.T) {
	const (
		v2Mount = "30 1 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
		v1Mount = "30 1 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	)
	for _, tc := range []struct {
		name        string
		mount       string
		member      string
		files       map[string]string
		limit, left uint64
	}{
		{name: "none"},
		{name: "v2, the nearer is the smaller", mount: v2Mount, member: "0::/a/b\n", limit: 1000, left: 400, files: map[string]string{
			"sys/fs/cgroup/a/memory.max": "5000\n", "sys/fs/cgroup/a/memory.current": "600\n",
			"sys/fs/cgroup/a/b/memory.max": "1000\n", "sys/fs/cgroup/a/b/memory.current": "900\n",
			"sys/fs/cgroup/a/b/memory.stat": "anon 1\ninactive_file 300\n",
		}},
		{name: "v2, the outer is nearly full", mount: v2Mount, member: "0::/a/b\n", limit: 1000, left: 50, files: map[string]string{
			"sys/fs/cgroup/a/memory.max": "5000\n", "sys/fs/cgroup/a/memory.current": "4950\n",
			"sys/fs/cgroup/a/b/memory.max": "1000\n", "sys/fs/cgroup/a/b/memory.current": "900\n",
		}},
		{name: "v2, none", mount: v2Mount, member: "0::/a\n", files: map[string]string{"sys/fs/cgroup/a/memory.max": "max\n"}},
		{name: "v1", mount: v1Mount, member: "4:memory:/a\n3:cpu:/x\n", limit: 2048, left: 1548, files: map[string]string{
			"sys/fs/cgroup/memory/memory.limit_in_bytes":   "9223372036854771712\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "2048\n", "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			overwrite(t, root, "proc/self/cgroup", tc.member)
			overwrite(t, root, "proc/self/mountinfo", tc.mount)
			for file, content := range tc.files {
				overwrite(t, root, file, content)
			}
			limit, left, err := memoryLimit(root)
			if err != nil || limit != tc.limit || left != tc.left {
				t.Errorf("limit %d, left %d, %v; want %d, %d", limit, left, err, tc.limit, tc.left)
			}
		})
	}
	root := t.TempDir()
	overwrite(t, root, "proc/self/cgroup", "0::/\n")
	overwrite(t, root, "proc/self/mountinfo", v2Mount)
	overwrite(t, root, "sys/fs/cgroup/memory.max", "lots\n")
	if _, _, err := memoryLimit(root); err == nil || !strings.Contains(err.Error(), "memory.max") {
		t.Errorf("a bad file: %v", err)
	}
}

func TestReadOffline(t *testing.T) {
	root := t.TempDir()
	if set, err := ReadOffline(root); err != nil || len(set) != 0 {
		t.Errorf("a host that shows nothing: %s, %v", set, err)
	}
	overwrite(t, root, "sys/devices/system/cpu/present", "0-7\n")
	overwrite(t, root, "sys/devices/system/cpu/online", "0-3,6\n")
	if set, err := ReadOffline(root); err != nil || set.String() != "4-5,7" {
		t.Errorf("%s, %v", set, err)
	}
}

func TestHasCapability(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root has capabilities for sure, others may")
	}
	if has, err := HasCapability(unix.CAP_SETUID); err != nil || !has {
		t.Errorf("CAP_SETUID: %v, %v", has, err)
	}
	if has, err := HasCapability(63); err != nil || has { // no kernel has it
		t.Errorf("capability 63: %v, %v", has, err)
	}
}
