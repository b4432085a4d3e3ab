package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// lockOwner is the process that holds the write lock on a pid file; 0 when nobody
// does. SRS takes it as it starts and keeps it to its end (srs_app_threads.cpp,
// acquire_pid_file), and so does the built-in origin. What the file says may be as
// old as it likes; what the kernel says is true now.
//
// The owner is 0 too when it lives in a pid namespace that we don't see into
// (fcntl(2): l_pid of such a lock is 0 or -1). Then it is nobody whom we started.
func lockOwner(path string) (int, error) {
	// Whatever stands there, it is looked at and no more: no link is followed, and
	// no FIFO waited for.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("pid file: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0, fmt.Errorf("pid file %s is no file", path)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK} // all of it
	err = onDescriptor(f, func(fd int) error { return unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &lock) })
	if err != nil {
		return 0, fmt.Errorf("pid file %s: lock: %w", path, err)
	}
	if lock.Type != unix.F_WRLCK || lock.Pid <= 0 {
		return 0, nil
	}
	return int(lock.Pid), nil
}

// onDescriptor goes by the raw connection: File.Fd would make the descriptor blocking.
func onDescriptor(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}
