package origin

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pidFile holds this process's id and an fcntl write lock, as SRS's does
// (srs_app_server.cpp, acquire_pid_file): F_GETLK names the live owner.
type pidFile struct {
	path string
	f    *os.File
}

// ErrRunning says that a live process holds the pid file.
var ErrRunning = errors.New("already running")

func lockPIDFile(path string) (*pidFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("pid file: %w", err)
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = control(f, func(fd uintptr) error { return unix.FcntlFlock(fd, unix.F_SETLK, &lock) })
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EAGAIN) {
		owner := unix.Flock_t{Type: unix.F_WRLCK}
		_ = control(f, func(fd uintptr) error { return unix.FcntlFlock(fd, unix.F_GETLK, &owner) })
		_ = f.Close()
		return nil, fmt.Errorf("pid file %s: %w as pid %d", path, ErrRunning, owner.Pid)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("pid file %s: %w", path, err)
	}
	return &pidFile{path: path, f: f}, nil
}

// remove deletes the file, if it is still ours, and lets go of the lock.
func (p *pidFile) remove() {
	if b, err := os.ReadFile(p.path); err == nil && strings.TrimSpace(string(b)) == strconv.Itoa(os.Getpid()) {
		_ = os.Remove(p.path)
	}
	_ = p.f.Close()
}

// control runs fn on the descriptor without making it blocking.
func control(f *os.File, fn func(fd uintptr) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = fn(fd) }); err != nil {
		return err
	}
	return ferr
}
