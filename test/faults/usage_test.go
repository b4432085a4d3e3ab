package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// usage is what a process has of the machine. Descriptors are those that are no pipes:
// the proxy keeps idle pipes for the next burst, up to pipesKept.
type usage struct{ descriptors, pipes, threads, rss int }

// pipesKept are the ends of 64 pipes.
const pipesKept = 2 * 64

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors and %d of pipes, %d threads, %d MiB", u.descriptors, u.pipes, u.threads, u.rss>>20)
}

func usageOf(pid int) usage {
	var u usage
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		switch what, err := os.Readlink(filepath.Join(dir, e.Name())); {
		case err != nil:
		case strings.HasPrefix(what, "pipe:"):
			u.pipes++
		default:
			u.descriptors++
		}
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch key {
		case "Threads":
			u.threads, _ = strconv.Atoi(fields[0])
		case "VmRSS":
			kib, _ := strconv.Atoi(fields[0])
			u.rss = kib << 10
		}
	}
	return u
}

// idle is the usage without load: the median over two seconds, because probes come
// and go.
func (in *instance) idle() usage {
	var all []usage
	for range 20 {
		all = append(all, usageOf(in.pid()))
		time.Sleep(100 * time.Millisecond)
	}
	slices.SortFunc(all, func(a, b usage) int { return a.descriptors - b.descriptors })
	return all[len(all)/2]
}

// settles is how long after all churn the program may keep what it used.
const settles = time.Minute

// exceeds names what is more than it was: N4, with room for the pipes that are kept,
// for threads, which Go keeps once it needed them, and for garbage not yet collected.
func (u usage) exceeds(before usage) string {
	switch {
	case u.descriptors > before.descriptors+2:
		return "descriptors"
	case u.pipes > before.pipes+pipesKept:
		return "pipes"
	case u.threads > before.threads+20:
		return "threads"
	case u.rss > before.rss*12/10+8<<20:
		return "memory"
	}
	return ""
}

// checkBaseline proves N4 when the load is gone.
func (f *fault) checkBaseline(t *testing.T, in *instance) {
	t.Helper()
	start := time.Now()
	for {
		f.after = in.idle()
		what := f.after.exceeds(f.before)
		if what == "" {
			break
		}
		if time.Since(start) > settles {
			t.Errorf("N4: too many %s a minute after the load; before %s, after %s", what, f.before, f.after)
			return
		}
	}
	t.Logf("before the load %s; %s after it %s", f.before, ms(time.Since(start)), f.after)
}

// cores measures how many cores of the machine are busy.
func cores(d time.Duration) float64 {
	idle, total := jiffies()
	time.Sleep(d)
	idle2, total2 := jiffies()
	if total2 == total {
		return 0
	}
	return float64(total2-total-(idle2-idle)) / 100 / d.Seconds()
}

func jiffies() (idle, total int) {
	text, _ := os.ReadFile("/proc/stat")
	first, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(first)[1:] {
		n, _ := strconv.Atoi(field)
		total += n
		if i == 3 || i == 4 { // idle, iowait
			idle += n
		}
	}
	return idle, total
}
