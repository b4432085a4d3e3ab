package runtime

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// OOMKills counts the processes of the group that the kernel killed for want of
// memory, the host's or the group's, since the group was made: it was raised
// before the process died of it. ErrNoCgroup where it isn't counted.
func (g *Cgroup) OOMKills() (uint64, error) {
	d, err := g.counted("memory")
	if err != nil {
		return 0, err
	}
	file := "memory.oom_control" // "oom_kill N" since Linux 4.13
	if d.tree.v2 {
		file = "memory.events"
	}
	return readKey(filepath.Join(d.path, file), "oom_kill")
}

// MemoryCurrent is what the group has in use, page cache and kernel memory
// included. ErrNoCgroup where it isn't counted.
func (g *Cgroup) MemoryCurrent() (uint64, error) {
	d, err := g.counted("memory")
	if err != nil {
		return 0, err
	}
	file := filepath.Join(d.path, "memory.usage_in_bytes")
	if d.tree.v2 {
		file = filepath.Join(d.path, "memory.current")
	}
	text, _, err := readOptional(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number", file, clip(text))
	}
	return n, nil
}

// Throttling tells how often a CPU quota made the group stand still.
type Throttling struct {
	Periods   uint64 // with any work in them
	Throttled uint64 // of them, those in which the quota ran out
	// Time is summed over CPUs.
	Time time.Duration
}

// Throttling reads the counters. ErrNoCgroup without a quota.
func (g *Cgroup) Throttling() (Throttling, error) {
	d, err := g.counted("cpu")
	if err != nil {
		return Throttling{}, err
	}
	file := filepath.Join(d.path, "cpu.stat")
	key, unit := "throttled_time", time.Nanosecond
	if d.tree.v2 {
		key, unit = "throttled_usec", time.Microsecond
	}
	var t Throttling
	if t.Periods, err = readKey(file, "nr_periods"); err != nil {
		return Throttling{}, err
	}
	if t.Throttled, err = readKey(file, "nr_throttled"); err != nil {
		return Throttling{}, err
	}
	n, err := readKey(file, key)
	t.Time = time.Duration(n) * unit //nolint:gosec // 292 years fit
	return t, err
}

func (g *Cgroup) counted(controller string) (groupDir, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, found := g.part(controller)
	if !found {
		return d, fmt.Errorf("slot %s: %w", g.id, ErrNoCgroup)
	}
	return d, nil
}

// readKey finds a number in a file of "KEY NUMBER" lines. A key that the kernel
// does not have is ErrNoCgroup.
func readKey(file, key string) (uint64, error) {
	text, _, err := readOptional(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != key {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %s %q is not a number", file, key, clip(value))
		}
		return n, nil
	}
	return 0, fmt.Errorf("%s: no %s: %w", file, key, ErrNoCgroup)
}

// HostOOMKills counts all processes that the kernel killed for want of memory
// since the boot, in whatever group. Where groups don't count, a child that died
// of SIGKILL while this rose probably was one.
func HostOOMKills() (uint64, error) { return readKey("/proc/vmstat", "oom_kill") }
