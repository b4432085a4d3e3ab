package runtime

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of times in /proc: USER_HZ is 100 on all that Go runs on.
const clockTick = time.Second / 100

// Usage is what a process has used so far.
type Usage struct {
	CPUTime time.Duration // user and system time of all its threads, not of its children
	RSS     uint64        // resident memory, bytes
	State   byte          // R running, S sleeping, D on disk, T stopped, Z a zombie...
}

// ProcSampler reads one process's usage over and over, at a few microseconds and
// no allocation each. The kept descriptor stands for the process, not for its
// pid: when the pid is given to another process, Sample fails.
//
// The zero value is closed. It is for one goroutine at a time, and must be closed.
type ProcSampler struct {
	open bool
	fd   int // not an os.File: its ReadAt reads on to the end, and makes the kernel render the line twice
	page uint64
	buf  [1024]byte // 24 fields are needed: a name of 64 bytes at most and numbers of 20 digits
}

// Open starts on process pid; an open sampler ends with the process before.
func (s *ProcSampler) Open(pid int) error {
	if err := s.Close(); err != nil {
		return err
	}
	file := "/proc/" + strconv.Itoa(pid) + "/stat"
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("sample process: %w", processGone(&os.PathError{Op: "open", Path: file, Err: err}))
	}
	s.open, s.fd, s.page = true, fd, uint64(os.Getpagesize())
	return nil
}

// Sample reads the usage. After the process was reaped the error is
// os.ErrProcessDone; until then it shows as a zombie.
func (s *ProcSampler) Sample() (Usage, error) {
	if !s.open {
		return Usage{}, os.ErrClosed
	}
	n, err := unix.Pread(s.fd, s.buf[:], 0)
	if err == unix.ESRCH { //nolint:errorlint // a bare errno, on a path of microseconds
		return Usage{}, os.ErrProcessDone
	}
	if err != nil {
		return Usage{}, os.NewSyscallError("pread", err)
	}
	st, err := parseStat(s.buf[:n])
	if err != nil {
		return Usage{}, fmt.Errorf("/proc/PID/stat: %w", err)
	}
	return Usage{
		CPUTime: time.Duration(st.utime+st.stime) * clockTick,
		RSS:     st.rss * s.page,
		State:   st.state,
	}, nil
}

// Close lets go of the process.
func (s *ProcSampler) Close() error {
	if !s.open {
		return nil
	}
	s.open = false
	return os.NewSyscallError("close", unix.Close(s.fd))
}
