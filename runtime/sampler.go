package runtime

import (
	"errors"
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
// The zero value is closed. It is for one goroutine at a time.
type ProcSampler struct {
	file *os.File
	page uint64
	buf  [1024]byte // a stat line has some 50 numbers, at most 20 digits each, most of them short
}

// Open starts on process pid, and ends on the one before.
func (s *ProcSampler) Open(pid int) error {
	_ = s.Close() // a descriptor that was only read from
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return fmt.Errorf("sample process: %w", processGone(err))
	}
	s.file, s.page = file, uint64(os.Getpagesize())
	return nil
}

// Sample reads the usage. After the process was reaped the error is
// os.ErrProcessDone; until then it shows as a zombie.
func (s *ProcSampler) Sample() (Usage, error) {
	if s.file == nil {
		return Usage{}, os.ErrClosed
	}
	// The line fits, so one read at 0 gets all of it and ends with io.EOF.
	n, err := s.file.ReadAt(s.buf[:], 0)
	if n == 0 && err != nil {
		if errors.Is(err, unix.ESRCH) {
			return Usage{}, os.ErrProcessDone
		}
		return Usage{}, err
	}
	st, err := parseStat(s.buf[:n])
	if err != nil {
		return Usage{}, fmt.Errorf("%s: %w", s.file.Name(), err)
	}
	return Usage{
		CPUTime: time.Duration(st.utime+st.stime) * clockTick,
		RSS:     st.rss * s.page,
		State:   st.state,
	}, nil
}

// Close lets go of the process.
func (s *ProcSampler) Close() error {
	if s.file == nil {
		return nil
	}
	file := s.file
	s.file = nil
	return file.Close()
}
