package faults

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// usage is what a process has of the machine.
type usage struct{ descriptors, threads, rss int }

func (u usage) String() string {
	return fmt.Sprintf("%d descriptors, %d threads, %d MiB", u.descriptors, u.threads, u.rss>>20)
}

func usageOf(pid int) usage {
	var u usage
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.descriptors = len(entries)
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

// idle is the usage without load, when it has come to rest.
func (in *instance) idle() usage {
	u := usageOf(in.pid())
	for range 20 {
		time.Sleep(100 * time.Millisecond)
		if now := usageOf(in.pid()); now.descriptors < u.descriptors {
			u = now
		}
	}
	return u
}

// settles is how long after all churn the program may keep what it used.
const settles = time.Minute

// checkBaseline proves N4 of the load's end. What may differ: the descriptors by two.
func (f *fault) checkBaseline(t *testing.T, in *instance) {
	t.Helper()
	deadline := time.Now().Add(settles)
	for {
		f.after = usageOf(in.pid())
		if f.after.descriptors <= f.before.descriptors+2 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("N4: %s before the load, %s a minute after", f.before, f.after)
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	// A thread is kept by Go for ever once it was needed: only a leak has many more.
	if f.after.threads > f.before.threads+20 {
		t.Errorf("N4: threads: %s before the load, %s after", f.before, f.after)
	}
	t.Logf("before the load %s; after it %s", f.before, f.after)
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
