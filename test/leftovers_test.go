package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// checkNothingLeft proves that an instance which has ended left no process, no
// zombie, no port and no file that would stop or mislead the next one.
func (in *instance) checkNothingLeft() {
	in.t.Helper()
	for _, p := range processesOf(in.stateDir) {
		in.t.Errorf("a process is left: %s", p)
		endProcess(p.pid) // the state dir is in its command line, so it is ours
	}
	in.mu.Lock()
	pids := in.pids
	in.mu.Unlock()
	for pid := range pids {
		// An orphan would be our child by now, and a zombie until we wait for it.
		if st, ok := procStat(pid); ok && st.parent == os.Getpid() {
			in.t.Errorf("origin pid %d is left, in state %s", pid, st.state)
		}
	}
	for p := in.ports.RTMP; p <= in.ports.last; p++ {
		checkBindable(in.t, p)
	}
	for _, name := range []string{"control.sock", "state.json"} {
		if _, err := os.Lstat(filepath.Join(in.stateDir, name)); err == nil {
			in.t.Errorf("%s is left in the state dir", name)
		}
	}
}

// checkBindable gives a port a moment: the kernel frees a listener after the
// last socket of it, which may be a connection of a client that just ended.
func checkBindable(t *testing.T, port int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := bindable(port)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("port %d cannot be bound: %v", port, err)
			return
		}
	}
}

// TestLeftoversAreSeen: the search that every test ends with finds something.
func TestLeftoversAreSeen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command("sleep", "60")
	cmd.Args[0] = dir // one process, whose command line has the folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	if got := processesOf(dir); len(got) != 1 || got[0].pid != cmd.Process.Pid {
		t.Errorf("found %v, want pid %d", got, cmd.Process.Pid)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if bindable(ln.Addr().(*net.TCPAddr).Port) == nil {
		t.Error("a port with a listener counts as free")
	}
}

// checkLog proves that the program had no accident that it survived.
func (in *instance) checkLog() {
	in.t.Helper()
	for _, word := range []string{"panic:", "panic in", "panicked", "DATA RACE", "fatal error", "state machine"} {
		for line := range strings.Lines(in.err.String()) {
			if strings.Contains(line, word) {
				in.t.Errorf("the log has %q: %s", word, line)
				break
			}
		}
	}
}

// process is one that a search found.
type process struct {
	pid  int
	args string
}

func (p process) String() string { return fmt.Sprintf("pid %d, %s", p.pid, p.args) }

// endProcess kills an orphan, which is our child (TestMain), and waits for it.
func endProcess(pid int) {
	_ = syscall.Kill(pid, syscall.SIGKILL)
	_, _ = syscall.Wait4(pid, nil, 0, nil)
}

// processesOf lists the processes that have a folder in their command line.
func processesOf(dir string) (found []process) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(args, []byte(dir)) {
			found = append(found, process{pid, strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))})
		}
	}
	return found
}

// stat is what we need of /proc/PID/stat.
type stat struct {
	state  string
	parent int
	ticks  int // of CPU, 100 a second
}

func procStat(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	parent, _ := strconv.Atoi(f[1])
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return stat{state: f[0], parent: parent, ticks: user + system}, true
}

// zombiesOf counts the dead children that a process has not waited for.
func zombiesOf(parent int) (n int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if st, ok := procStat(pid); ok && st.parent == parent && st.state == "Z" {
				n++
			}
		}
	}
	return n
}

// procField reads a field of /proc/PID/status, such as VmRSS.
func procField(t *testing.T, pid int, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, name)
	return ""
}

// descriptors are what a process has open: the kind of each, such as "socket",
// "pipe" or a path, and how many of it.
func descriptors(t *testing.T, pid int) map[string]int {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			kind, _, _ := strings.Cut(target, ":[")
			found[kind]++
		}
	}
	return found
}

func count(descriptors map[string]int) (n int) {
	for _, k := range descriptors {
		n += k
	}
	return n
}
