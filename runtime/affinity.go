package runtime

import (
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// hostMu guards what the kernel keeps once for this whole process and a Spawner
// changes for the moment of a fork: the descriptor limit and the threads'
// affinity. Without it PinSelf could move the spawning thread between its
// affinity call and its fork, and a child would be born on the proxy's CPUs.
var hostMu sync.Mutex //nolint:gochecknoglobals // the state it guards is the process's

// PinSelf keeps all threads of this process on set. New threads inherit it, and
// the Go scheduler sees the smaller machine within a second or so (it keeps
// GOMAXPROCS up to date unless that was set by hand). Origins are not concerned:
// a Spawner gives each child its own set.
func PinSelf(set CPUSet) error {
	hostMu.Lock()
	defer hostMu.Unlock()
	// The calling thread must stay the same one throughout setAffinity.
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	if err := setAffinity(0, set); err != nil {
		return fmt.Errorf("pin this process: %w", err)
	}
	// A thread can start others while the list is read, so read it until a pass
	// finds nothing to do: then every thread that could start one is pinned.
	for pinned := false; !pinned; {
		tids, err := readNumbers("/proc/self/task")
		if err != nil {
			return fmt.Errorf("pin this process: %w", err)
		}
		pinned = true
		for _, tid := range tids {
			now, err := getAffinity(tid)
			if err == nil && !now.Equal(set) {
				pinned = false
				err = setAffinity(tid, set)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: the thread just ended
				return fmt.Errorf("pin thread %d: %w", tid, err)
			}
		}
	}
	return nil
}

// AllowedCPUs is where the main thread of process pid may run: for an origin,
// which has only that one, where it runs.
func AllowedCPUs(pid int) (CPUSet, error) {
	return allowedCPUs("/proc/" + strconv.Itoa(pid) + "/status")
}

// setAffinity keeps a thread (0: the calling one) on set, or fails. The kernel
// itself fails only when no CPU of the set can be used, and silently trims
// otherwise, so what came of it is read back.
func setAffinity(tid int, set CPUSet) error {
	if len(set) == 0 {
		return errors.New("an empty CPU set")
	}
	before, err := getAffinity(tid)
	if err != nil {
		return err
	}
	if err := unix.SchedSetaffinityDynamic(tid, mask(set)); err != nil {
		return fmt.Errorf("CPUs %s: %w", set, os.NewSyscallError("sched_setaffinity", err))
	}
	after, err := getAffinity(tid)
	if err != nil {
		return err
	}
	if !after.Equal(set) {
		// Leave no half of it behind; before was in force, so it can be again.
		err := unix.SchedSetaffinityDynamic(tid, mask(before))
		return errors.Join(fmt.Errorf("CPUs %s: only %s of them can be used here", set, after), err)
	}
	return nil
}

// getAffinity is the CPUs that a thread (0: the calling one) may run on.
func getAffinity(tid int) (CPUSet, error) {
	m := unix.NewCPUSet(maxCPU)
	if err := unix.SchedGetaffinityDynamic(tid, m); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	var set CPUSet
	for id := range maxCPU {
		if m.IsSet(id) {
			set = append(set, id)
		}
	}
	return set, nil
}

func mask(set CPUSet) unix.CPUSetDynamic {
	m := unix.NewCPUSet(maxCPU)
	for _, id := range set {
		m.Set(id)
	}
	return m
}

// readNumbers lists the entries of a /proc folder whose names are numbers, in order.
func readNumbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return nil, err
	}
	numbers := make([]int, 0, len(names))
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			numbers = append(numbers, n)
		}
	}
	return newCPUSet(numbers), nil
}
