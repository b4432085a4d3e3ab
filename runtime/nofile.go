package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// How a child gets its RLIMIT_NOFILE.
//
// A child inherits the limit that its parent has at the fork, except that Go
// meddles (syscall/rlimit.go, forkAndExecInChild1 in syscall/exec_linux.go): at
// start it raises our soft limit to hard-1, and between fork and exec it puts the
// original one back in the child. It stops doing so for good once somebody calls
// syscall.Setrlimit(RLIMIT_NOFILE), after which a child is born with the limit in
// force here. There is no hook between fork and exec, and prlimit(2) on the child
// after Start is too late for a program that looks at its limit as it starts.
//
// So the limit is set here, the child is forked, and ours is put back, under
// hostMu. Raising ours for that moment harms nobody. Lowering it would make
// accept and dial fail with EMFILE on descriptors above the child's limit, so it
// is done only while we hold less than half of that many. Beyond, on a proxy full
// of clients, the child is born with our own, higher limit, and prlimit brings it
// down before Start returns: never less than asked, at no moment.
//
// It is the soft limit. The hard one stays ours, since lowering it can't be
// undone without privilege, and programs that raise their own still can: SRS does
// as it starts (_st_io_init in its st-srs/io.c, before it compares the limit with
// max_connections + 128), and so does every Go program.

// RaiseNofile raises our own soft RLIMIT_NOFILE to want, and the hard one with it
// where we are privileged (CAP_SYS_RESOURCE); 0 asks for all that the hard limit allows. It never
// lowers it. It returns the limit in force, which is less than want where the
// host allows no more.
func RaiseNofile(want uint64) (soft uint64, err error) {
	hostMu.Lock()
	defer hostMu.Unlock()
	limit, err := getNofile()
	if err != nil {
		return 0, err
	}
	if want == 0 {
		want = limit.Max
	}
	if want <= limit.Cur {
		return limit.Cur, nil
	}
	if want > limit.Max {
		// No hard limit may exceed fs.nr_open, whoever asks.
		raised := max(limit.Max, min(want, nrOpen(want)))
		err := setNofile(syscall.Rlimit{Cur: raised, Max: raised})
		if err == nil {
			return raised, nil
		}
		if !errors.Is(err, unix.EPERM) {
			return limit.Cur, err
		}
	}
	raised := syscall.Rlimit{Cur: min(want, limit.Max), Max: limit.Max}
	if err := setNofile(raised); err != nil {
		return limit.Cur, err
	}
	return raised.Cur, nil
}

// startWithNofile starts cmd with nofile as its soft limit, 0 for our own. The
// caller holds hostMu.
func startWithNofile(cmd *exec.Cmd, nofile uint64) error {
	ours, err := getNofile()
	if err != nil {
		return err
	}
	child := ours
	if nofile > 0 {
		child = syscall.Rlimit{Cur: nofile, Max: max(nofile, ours.Max)}
	}
	if child.Cur < ours.Cur && !fewDescriptors(child.Cur/2) {
		return startThenLower(cmd, ours, child)
	}
	// Set even what is in force already: it is what stops Go from restoring the
	// original limit in the child.
	if err := setNofile(child); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("nofile %d: the hard limit is %d, and to raise it takes CAP_SYS_RESOURCE and an fs.nr_open (now %d) that allows it: %w", nofile, ours.Max, nrOpen(0), err)
		}
		return err
	}
	startErr := cmd.Start()
	if err := setNofile(ours); err != nil && startErr == nil {
		kill(cmd)
		return fmt.Errorf("restore our own limit: %w", err)
	}
	return startErr
}

// startThenLower starts cmd with our own limit and lowers the child's.
func startThenLower(cmd *exec.Cmd, ours, child syscall.Rlimit) error {
	if err := setNofile(ours); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: child.Cur, Max: child.Max}
	err := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil)
	if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: it ended already
		kill(cmd)
		return os.NewSyscallError("prlimit", err)
	}
	return nil
}

// kill takes back a start, so that an error never leaves a process behind.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func getNofile() (syscall.Rlimit, error) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return limit, os.NewSyscallError("getrlimit", err)
}

func setNofile(limit syscall.Rlimit) error {
	return os.NewSyscallError("setrlimit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
}

// nrOpen is the sysctl fs.nr_open, or fallback where it can't be read.
func nrOpen(fallback uint64) uint64 {
	text, _, err := readOptional("/proc/sys/fs/nr_open")
	if err != nil {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fallback
	}
	return n
}

// fewDescriptors reports whether this process holds fewer than limit descriptors,
// at the price of reading at most that many names.
func fewDescriptors(limit uint64) bool {
	f, err := os.Open("/proc/self/fd")
	if err != nil {
		return false
	}
	defer f.Close()
	// Readdirnames takes 0 for "all".
	names, _ := f.Readdirnames(int(min(max(limit, 1), 1<<30)))
	return uint64(len(names)) < limit
}
