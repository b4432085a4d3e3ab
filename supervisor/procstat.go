package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What the kernel says of a process. All of it is by pid and so true of whoever has
// that pid at the moment: who acts on it opens a descriptor of the process first
// and asks whether that still lives last.

// procStat is what we use of /proc/PID/stat.
type procStat struct {
	state         byte
	parent, group int
	startTicks    uint64
	// exit is how a dead one has ended.
	exit unix.WaitStatus
}

var errProcStat = errors.New("not the format of proc_pid_stat(5)")

func readProcStat(pid int) (procStat, error) {
	text, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return procStat{}, err
	}
	return parseProcStat(text)
}

// parseProcStat reads "PID (COMM) STATE PPID PGRP ...", where COMM may hold anything.
func parseProcStat(text []byte) (s procStat, err error) {
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) < 50 || len(f[0]) != 1 {
		return s, errProcStat
	}
	s.state = f[0][0]
	var errs [4]error
	s.parent, errs[0] = strconv.Atoi(string(f[1]))
	s.group, errs[1] = strconv.Atoi(string(f[2]))
	s.startTicks, errs[2] = strconv.ParseUint(string(f[19]), 10, 64)
	exit, err := strconv.ParseInt(string(f[49]), 10, 32)
	s.exit, errs[3] = unix.WaitStatus(exit), err
	if errors.Join(errs[:]...) != nil {
		return procStat{}, errProcStat
	}
	return s, nil
}

// dead says that only its parent still has to take notice.
func (s procStat) dead() bool { return s.state == 'Z' || s.state == 'X' }

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// runsAsUs says that a process has the user that we have, whatever it was before
// or could become: real, effective, saved and file system id.
func runsAsUs(pid int) (bool, error) {
	text, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return false, err
	}
	us := strconv.Itoa(os.Geteuid())
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			f := strings.Fields(ids)
			return len(f) == 4 && !slices.ContainsFunc(f, func(id string) bool { return id != us }), nil
		}
	}
	return false, fmt.Errorf("%s has no Uid", procFile(pid, "status"))
}

// arguments are a process's command line.
func arguments(pid int) ([]string, error) {
	text, err := os.ReadFile(procFile(pid, "cmdline"))
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00"), nil
}

// program is the file that a process runs, or ran before it was replaced by a newer.
func program(pid int) (string, error) {
	path, err := os.Readlink(procFile(pid, "exe"))
	return strings.TrimSuffix(path, " (deleted)"), err
}

// variables are a process's environment as it was at its start.
func variables(pid int) ([]string, error) {
	text, err := os.ReadFile(procFile(pid, "environ"))
	if err != nil {
		return nil, err
	}
	return strings.Split(string(text), "\x00"), nil
}

// variable is the last of a name that an environment has, as a program sees it
// that was given two.
func variable(env []string, name string) string {
	value := ""
	for _, v := range env {
		if rest, ok := strings.CutPrefix(v, name); ok {
			value = rest
		}
	}
	return value
}

// pids are all processes there are.
func pids() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var found []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			found = append(found, pid)
		}
	}
	return found
}

// signalMarked signals the living processes of our user that carry the mark of a
// folder of ours and meet a condition, and says how many that were. We ourselves
// are none of them, even if an origin's hook has started us.
func signalMarked(sig unix.Signal, meets func(pid int, s procStat) bool, ours func(workDir string) bool) (found int) {
	for _, pid := range pids() {
		// A first look without a descriptor spares opening hundreds.
		if s, err := readProcStat(pid); err != nil || pid == os.Getpid() || s.dead() || !meets(pid, s) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if isMarked(pid, meets, ours) && !isOver(fd) {
			// Nobody else had this pid between the open and now.
			if unix.PidfdSendSignal(fd, sig, nil, 0) == nil {
				found++
			}
		}
		_ = unix.Close(fd)
	}
	return found
}

func isMarked(pid int, meets func(pid int, s procStat) bool, ours func(workDir string) bool) bool {
	s, err := readProcStat(pid)
	if err != nil || s.dead() || !meets(pid, s) {
		return false
	}
	if same, err := runsAsUs(pid); err != nil || !same {
		return false
	}
	env, err := variables(pid)
	if err != nil {
		return false
	}
	workDir := variable(env, strayMark)
	return workDir != "" && ours(workDir)
}
