package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// earlier is a supervisor in a process of its own, which can be killed.
type earlier struct {
	stateDir string
	t        *testing.T
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	out      *bufio.Reader
	logs     *logBuffer
	once     sync.Once
	seen     []OriginStatus // when all were ready
}

// order is what such a process is told.
type order struct {
	StateDir      string
	Command       []string
	Version       srsconf.Version
	Template      string
	Ports         srsconf.PortPlan
	CPUs          []runtime.CPUSet
	DieWithParent bool
	RTC, SRT      bool
	Exporter      bool
}

// lockFake takes the lock on the pid file, as SRS does. The descriptor stays open.
func lockFake(path string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// superviseMain is that process. For each line that it reads it writes a snapshot;
// it ends with its input.
func superviseMain(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	tmpl, err := srsconf.ParseTemplate("srs.tmpl.conf", o.Template)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	s := New(Config{
		StateDir: o.StateDir, Command: o.Command, Version: o.Version, Template: tmpl, Ports: o.Ports, CPUs: o.CPUs,
		DieWithParent: o.DieWithParent, Nofile: 4096, Env: os.Environ(), RTC: o.RTC, SRT: o.SRT, Exporter: o.Exporter,
	}, newRecorder(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if err := s.Prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			snap := Snapshot{}
			for _, slot := range s.all() {
				snap.Origins = append(snap.Origins, slot.status())
			}
			_ = json.NewEncoder(os.Stdout).Encode(snap)
		}
		stop()
	}()
	if err := <-ended; err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// launchEarlier starts one with a config, and does not wait for it.
func launchEarlier(t *testing.T, cfg Config) *earlier {
	t.Helper()
	return launchWith(t, cfg, "")
}

func launchWith(t *testing.T, cfg Config, more string) *earlier {
	t.Helper()
	text, err := os.ReadFile("../srs.tmpl.conf")
	if err != nil {
		t.Fatal(err)
	}
	o, err := json.Marshal(order{
		StateDir: cfg.StateDir, Command: cfg.Command, Version: cfg.Version, Template: string(text) + "\n" + more + "\n",
		Ports: cfg.Ports, CPUs: cfg.CPUs, DieWithParent: cfg.DieWithParent, RTC: cfg.RTC, SRT: cfg.SRT, Exporter: cfg.Exporter,
	})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e := &earlier{t: t, stateDir: cfg.StateDir, cmd: exec.Command(exe, "supervise", string(o)), logs: &logBuffer{}}
	e.cmd.Env = cfg.Env
	e.cmd.Stderr = e.logs
	if e.stdin, err = e.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	e.out = bufio.NewReader(stdout)
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.kill()
		endAllOf(t, cfg.StateDir)
		if t.Failed() {
			t.Logf("the earlier supervisor's log:\n%s", e.logs)
		}
	})
	return e
}

// upEarlier starts one and waits until all its origins are ready.
func upEarlier(t *testing.T, cfg Config) *earlier {
	t.Helper()
	return launchEarlier(t, cfg).ready(len(cfg.CPUs))
}

func (e *earlier) ready(n int) *earlier {
	e.t.Helper()
	eventually(e.t, "all origins of the earlier supervisor ready", func() bool {
		ready := 0
		e.seen = e.snapshot()
		for _, o := range e.seen {
			if o.State == Ready {
				ready++
			}
		}
		return ready == n
	})
	// It is killed any moment now, and what it knows of them has to outlive it.
	eventually(e.t, "their service ids in the state file", func() bool {
		saved := map[string]bool{}
		for _, o := range savedIn(e.t, e.stateDir).Origins {
			saved[o.ServiceID] = true
		}
		return !slices.ContainsFunc(e.seen, func(o OriginStatus) bool { return o.State == Ready && !saved[o.ServiceID] })
	})
	return e
}

func (e *earlier) snapshot() []OriginStatus {
	e.t.Helper()
	var snap Snapshot
	if _, err := io.WriteString(e.stdin, "\n"); err != nil {
		e.t.Fatalf("the earlier supervisor is gone: %v\n%s", err, e.logs)
	}
	line, err := e.out.ReadBytes('\n')
	if err != nil {
		e.t.Fatalf("the earlier supervisor says nothing: %v\n%s", err, e.logs)
	}
	if err := json.Unmarshal(line, &snap); err != nil {
		e.t.Fatal(err)
	}
	return snap.Origins
}

// kill is a kill -9.
func (e *earlier) kill() {
	e.once.Do(func() {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
	})
}

// stop is a clean end.
func (e *earlier) stop() {
	e.t.Helper()
	e.once.Do(func() {
		e.stdin.Close()
		if err := e.cmd.Wait(); err != nil {
			e.t.Errorf("%v\n%s", err, e.logs)
		}
	})
}

// endAllOf kills what a failed test leaves: whatever has its folder in its mark.
func endAllOf(t *testing.T, stateDir string) {
	t.Helper()
	all := func(int, procStat) bool { return true }
	ours := func(workDir string) bool { return strings.HasPrefix(workDir, stateDir+"/") }
	eventually(t, "an end of all", func() bool {
		for _, pid := range pids() {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // our children, if any
		}
		return signalMarked(unix.SIGKILL, all, ours) == 0
	})
}

// lives says that a process is there and no zombie.
func lives(pid int) bool {
	s, err := readProcStat(pid)
	return err == nil && !s.dead()
}

// sameOrigins proves that two looks show the same processes.
func sameOrigins(t *testing.T, before, after []OriginStatus) {
	t.Helper()
	if len(before) != len(after) {
		t.Fatalf("%d origins became %d", len(before), len(after))
	}
	for i, b := range before {
		a := after[i]
		if a.ID != b.ID || a.PID != b.PID || a.ServiceID != b.ServiceID || a.Restarts != b.Restarts || a.Ports != b.Ports {
			t.Errorf("%s: pid %d, service %s, %d restarts, ports %v became %s: pid %d, service %s, %d restarts, ports %v",
				b.ID, b.PID, b.ServiceID, b.Restarts, b.Ports, a.ID, a.PID, a.ServiceID, a.Restarts, a.Ports)
		}
		if d := a.Since.Sub(b.Since).Abs(); d > time.Second {
			t.Errorf("%s: its start moved by %s", b.ID, d)
		}
	}
}

// savedIn is what the state file says.
func savedIn(t *testing.T, stateDir string) savedState {
	t.Helper()
	state, err := readState(statePath(stateDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return state
}

func writeSaved(t *testing.T, stateDir string, state savedState) {
	t.Helper()
	if err := os.WriteFile(statePath(stateDir), []byte(encode(t, state)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// witness is a process that writes down the signals that it gets, started as the
// origin of a folder would be, but for what a test changes.
type witness struct {
	cmd   *exec.Cmd
	notes string
}

// newWitness starts one; argv is all that follows its program.
func newWitness(t *testing.T, dir string, env []string, attr *syscall.SysProcAttr, argv ...string) *witness {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{cmd: exec.Command(exe, argv...), notes: filepath.Join(t.TempDir(), "signals")}
	w.cmd.Dir, w.cmd.SysProcAttr = dir, attr
	w.cmd.Env = append(append([]string{}, env...), "GORACE=atexit_sleep_ms=0", "WITNESS="+w.notes)
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	})
	eventually(t, "the witness looks", func() bool {
		_, err := os.Stat(w.notes)
		return err == nil
	})
	return w
}

func (w *witness) pid() int { return w.cmd.Process.Pid }

// untouched proves that nobody signalled it.
func (w *witness) untouched(t *testing.T) {
	t.Helper()
	if !lives(w.pid()) {
		t.Error("the stranger was killed")
	}
	if notes, err := os.ReadFile(w.notes); err != nil || len(notes) > 0 {
		t.Errorf("the stranger got %q (%v)", notes, err)
	}
}

func (w *witness) ticks(t *testing.T) uint64 {
	t.Helper()
	s, err := readProcStat(w.pid())
	if err != nil {
		t.Fatal(err)
	}
	return s.startTicks
}

// testTimes is how often a kill is repeated.
func testTimes(t *testing.T) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("SUPERVISOR_KILLS")); err == nil {
		return n
	}
	return 3
}
