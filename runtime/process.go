package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// BecomeSubreaper makes orphans among our descendants (an ffmpeg whose origin
// died) our children instead of init's. Whoever asks for it must reap them.
func BecomeSubreaper() error {
	return os.NewSyscallError("prctl(PR_SET_CHILD_SUBREAPER)", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// BootID is the kernel's random id of this boot: pids and start times of another
// boot mean nothing.
func BootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// StartTime is when process pid started, in clock ticks since the boot. With the
// boot id and the pid it names one process for ever.
func StartTime(pid int) (uint64, error) {
	file := "/proc/" + strconv.Itoa(pid) + "/stat"
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("start time: %w", processGone(err))
	}
	s, err := parseStat(data)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return s.startTime, nil
}

// stat is what we use of /proc/PID/stat, in its units.
type stat struct {
	state        byte
	utime, stime uint64 // fields 14 and 15, clock ticks
	startTime    uint64 // field 22, clock ticks since the boot
	rss          uint64 // field 24, pages
}

var errStat = errors.New("not the format of proc_pid_stat(5)")

// parseStat reads "PID (COMM) STATE PPID ...". COMM is whatever the process calls
// itself, blanks and parentheses included, so fields count from the last ')'.
// It does not allocate.
func parseStat(data []byte) (stat, error) {
	var s stat
	at := bytes.LastIndexByte(data, ')')
	if at < 0 || len(data) < at+3 || data[at+1] != ' ' {
		return s, errStat
	}
	data = data[at+2:]
	s.state = data[0]
	// The rest is numbers, a few of them negative, with one blank between them.
	for field, i := 3, 0; i < len(data); field++ {
		start := i
		for i < len(data) && data[i] != ' ' && data[i] != '\n' {
			i++
		}
		var into *uint64
		switch field {
		case 14:
			into = &s.utime
		case 15:
			into = &s.stime
		case 22:
			into = &s.startTime
		case 24:
			into = &s.rss
		}
		if into != nil {
			n, ok := parseUint(data[start:i])
			if !ok {
				return s, errStat
			}
			*into = n
		}
		if field == 24 {
			return s, nil
		}
		i++
	}
	return s, errStat
}

func parseUint(digits []byte) (n uint64, ok bool) {
	for _, c := range digits {
		if c < '0' || c > '9' || n > (1<<64-1)/10-1 {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, len(digits) > 0
}

// processGone gives the two ways in which /proc tells that a process ended, no
// such file and no such process, the name that os has for it.
func processGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w (%w)", os.ErrProcessDone, err)
	}
	return err
}
