// Package meter reads what processes use.
//
//	pid ─▶ CPU clock of the process (threads that have ended included), memory,
//	       descriptors, threads, bytes written
//
// CPU time is the scheduler's own sum, to the nanosecond: /proc/stat and the ticks of
// /proc/PID/stat are samples, and wrong on virtual machines.
package meter

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the time that a process has run on CPUs, all its threads together, those that
// have ended too.
func CPU(pid int) (time.Duration, error) {
	// A CPU clock names a process by its complement (clock_getcpuclockid(3)); 2 is
	// CPUCLOCK_SCHED. It sums what schedstat shows a thread, and keeps the ended ones.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return 0, fmt.Errorf("cpu clock of %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// CPUOf is the time of several processes.
func CPUOf(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		d, err := CPU(pid)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// Machine is the time of each process that can be seen, kernel threads too. The
// difference of two is what the machine did, less processes that came and went between.
func Machine() (map[int]time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all := make(map[int]time.Duration, len(entries))
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if d, err := CPU(pid); err == nil { // else it has just ended
			all[pid] = d
		}
	}
	return all, nil
}

// Since is what the processes of now have used since then.
func Since(then, now map[int]time.Duration) (sum time.Duration) {
	for pid, d := range now {
		sum += max(0, d-then[pid])
	}
	return sum
}

// Footprint is what a process holds.
type Footprint struct {
	RSS         uint64 // bytes
	Anon        uint64 // bytes of RSS that are no file's: heaps and stacks, without the program
	Descriptors int
	Threads     int
}

// Of adds up the footprints of processes.
func Of(pids []int) (f Footprint, err error) {
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return f, err
		}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return f, err
		}
		f.Descriptors += len(fds)
		f.RSS += statusValue(status, "VmRSS") << 10
		f.Anon += statusValue(status, "RssAnon") << 10
		f.Threads += int(statusValue(status, "Threads"))
	}
	return f, nil
}

func statusValue(status []byte, key string) uint64 {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
			n, _ := strconv.ParseUint(string(bytes.Fields(rest)[0]), 10, 64)
			return n
		}
	}
	return 0
}

// Written is how many bytes a process has written by write(2) and its kin, sockets too.
func Written(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	return statusValue(b, "wchar"), nil
}

// Family is a process and all that it has started, directly or not.
func Family(pid int) ([]int, error) {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pids[i]))
		if errors.Is(err, os.ErrNotExist) && i > 0 {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, task := range tasks {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pids[i], task.Name()))
			if err != nil {
				continue
			}
			for _, word := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(word); err == nil {
					pids = append(pids, child)
				}
			}
		}
	}
	return pids, nil
}
