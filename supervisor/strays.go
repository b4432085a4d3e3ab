package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// strayMark is a variable in the environment of every origin, with its work dir.
// What an origin forks inherits it, so a process that left the origin's group
// (setsid) can still be told for what it is. It does not begin with SRS_: SRS
// would take it for configuration.
const strayMark = "SUPERVISED_ORIGIN="

// configMark is one more, with the hash of the config that an origin was started
// with: what the next run needs to know if the state file was lost.
const configMark = "SUPERVISED_CONFIG="

// endStrays kills what the origins left behind outside of their groups. It runs
// when all slots are done: their processes are gone, so whatever child of ours
// carries the mark is such a stray, handed to us as the subreaper.
func (s *Supervisor) endStrays() {
	deadline := time.Now().Add(killPatience)
	for {
		strays := s.strays()
		if len(strays) == 0 && s.endAdoptedStrays() == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.log.Error("processes that origins left behind survive SIGKILL", "pids", strays)
			return
		}
		for _, pid := range strays {
			s.log.Warn("killing a process that an origin left behind", "pid", pid)
			// It is our child, so until it is reaped the pid is its own.
			_ = unix.Kill(pid, unix.SIGKILL)
			reapChild(pid, deadline)
		}
	}
}

// endAdoptedStrays kills what adopted origins left behind outside of their groups:
// it is init's by now. It says how many there still were.
func (s *Supervisor) endAdoptedStrays() int {
	if len(s.inherited.folders) == 0 {
		return 0
	}
	n := signalMarked(unix.SIGKILL,
		func(pid int, p procStat) bool { return p.parent != os.Getpid() && !s.inherited.strangers[pid] },
		func(workDir string) bool { return s.inherited.folders[workDir] })
	if n > 0 {
		s.log.Warn("killing processes that adopted origins left behind", "processes", n)
		time.Sleep(time.Millisecond)
	}
	return n
}

func reapChild(pid int, deadline time.Time) {
	for time.Now().Before(deadline) {
		if got, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == pid || err == unix.ECHILD { //nolint:errorlint // a bare errno
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// strays are our living children with the mark of one of our slots.
func (s *Supervisor) strays() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	// Slots come and go; what they leave behind has a folder of ours in its mark.
	mark := []byte(strayMark + filepath.Join(s.cfg.StateDir, s.cfg.IDPrefix))
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || !isChild(pid) || s.inherited.strangers[pid] {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.HasPrefix(v, mark) {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// isChild says that a process has us as its parent: field 4 of /proc/PID/stat.
func isChild(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(fields) > 1 && string(fields[1]) == strconv.Itoa(os.Getpid())
}
