package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/supervisor"
)

func TestQuorum(t *testing.T) {
	tests := []struct {
		setting      string
		ready, total int
		after        time.Duration
		want         bool
	}{
		{"auto", 15, 16, 0, false},
		{"auto", 16, 16, 0, true},
		{"auto", 15, 16, quorumPatience - 1, false},
		{"auto", 15, 16, quorumPatience, true},
		{"auto", 9, 16, quorumPatience, true},
		{"auto", 8, 16, quorumPatience, false},
		{"auto", 0, 1, time.Hour, false},
		{"all", 15, 16, time.Hour, false},
		{"all", 16, 16, 0, true},
		{"3", 2, 16, time.Hour, false},
		{"3", 3, 16, 0, true},
		{"3", 2, 2, 0, true}, // more than there are is all
		{"3", 1, 2, time.Hour, false},
		{"75%", 11, 16, time.Hour, false},
		{"75%", 12, 16, 0, true},
		{"1%", 0, 16, time.Hour, false},
		{"1%", 1, 16, 0, true},
		{"100%", 15, 16, time.Hour, false},
	}
	for _, tt := range tests {
		q, err := parseQuorum(tt.setting)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.met(tt.ready, tt.total, tt.after); got != tt.want {
			t.Errorf("%s: %d of %d after %s: %v", tt.setting, tt.ready, tt.total, tt.after, got)
		}
	}
	for _, bad := range []string{"", "0", "-1", "most", "0%", "101%", "5 %", "%", "99999", "1.5"} {
		if q, err := parseQuorum(bad); err == nil {
			t.Errorf("%q is %+v", bad, q)
		}
	}
}

// fakeFleet is a supervisor whose progress a test sets.
type fakeFleet struct {
	mu      sync.Mutex // guards the following
	p       supervisor.Progress
	changed chan struct{}
	tick    time.Time
	hung    chan struct{} // Progress waits for it, unless it is nil
}

func (f *fakeFleet) Progress() (supervisor.Progress, <-chan struct{}) {
	f.mu.Lock()
	hung := f.hung
	f.mu.Unlock()
	if hung != nil {
		<-hung
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.p, f.changed
}

func (f *fakeFleet) LastTick() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tick
}

func (f *fakeFleet) set(p supervisor.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.p = p
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeFleet) ticked() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tick = time.Now()
}

// told collects what a notifier sends.
type told struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (s *told) send(state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, strings.ReplaceAll(state, "\n", "|"))
	return nil
}

// take returns what was sent since the last time.
func (s *told) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines
	s.lines = nil
	return lines
}

func startNotifier(t *testing.T, q quorum, watchdog time.Duration) (n *notifier, fleet *fakeFleet, sent *told, stop, end func()) {
	t.Helper()
	fleet = &fakeFleet{p: supervisor.Progress{Total: 4}, changed: make(chan struct{})}
	sent = &told{}
	n = &notifier{quorum: q, watchdog: watchdog, send: sent.send, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	n.Watch(fleet)
	ctx, cancel := context.WithCancel(t.Context())
	stopping, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx, stopping) }()
	return n, fleet, sent, stop, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func wantTold(t *testing.T, sent *told, want ...string) {
	t.Helper()
	synctest.Wait()
	if got := sent.take(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestNotifierTellsTheStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := fmt.Sprintf("READY=1|MAINPID=%d|STATUS=", os.Getpid())
		n, fleet, sent, stop, end := startNotifier(t, quorum{}, 0)
		wantTold(t, sent, "STATUS=checking the origins' configs", "STATUS=0/4 origins ready")
		fleet.set(supervisor.Progress{Ready: 1, Total: 4, Note: "origin-3: port \x1b[31m taken"})
		wantTold(t, sent, "STATUS=1/4 origins ready; origin-3: port ?[31m taken")
		fleet.set(supervisor.Progress{Ready: 1, Total: 4, Note: "origin-3: port \x1b[31m taken"})
		wantTold(t, sent)
		if err := n.Reload(func() error { return nil }); err != nil {
			t.Error(err)
		}
		wantTold(t, sent) // not ready yet: READY=1 after a reload would be a lie
		fleet.set(supervisor.Progress{Ready: 4, Total: 4})
		wantTold(t, sent, ready+"4/4 origins ready")
		fleet.set(supervisor.Progress{Ready: 3, Total: 4, Note: "origin-0: killed"})
		wantTold(t, sent, "STATUS=3/4 origins ready; origin-0: killed")
		fleet.set(supervisor.Progress{Ready: 4, Total: 4})
		wantTold(t, sent, "STATUS=4/4 origins ready")

		during := errors.New("line 3: no such setting")
		if err := n.Reload(func() error {
			if got := sent.take(); len(got) != 1 || !strings.HasPrefix(got[0], "RELOADING=1|MONOTONIC_USEC=") {
				t.Errorf("at the start of a reload %q", got)
			}
			return during
		}); !errors.Is(err, during) {
			t.Error(err)
		}
		wantTold(t, sent, "READY=1|STATUS=reload failed, nothing changed: line 3: no such setting")

		stop()
		wantTold(t, sent, "STOPPING=1|STATUS=stopping")
		fleet.set(supervisor.Progress{Ready: 2, Total: 4})
		wantTold(t, sent)
		end()
	})
}

func TestNotifierSettlesForAMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, fleet, sent, _, end := startNotifier(t, quorum{}, 0)
		fleet.set(supervisor.Progress{Ready: 3, Total: 4})
		synctest.Wait()
		sent.take()
		time.Sleep(quorumPatience - time.Millisecond)
		wantTold(t, sent)
		time.Sleep(2 * time.Millisecond)
		wantTold(t, sent, fmt.Sprintf("READY=1|MAINPID=%d", os.Getpid()))
		end()
	})
}

// The watchdog is fed while the supervisor's loop goes round, and not one second
// longer than systemd would wait anyway.
func TestWatchdogFollowsTheSupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wanted = 30 * time.Second
		_, fleet, sent, stop, end := startNotifier(t, quorum{}, wanted)
		synctest.Wait()
		sent.take()
		fed := func(d time.Duration, ticking bool) int {
			for range int(d / time.Second) {
				if ticking {
					fleet.ticked()
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			n := 0
			for _, line := range sent.take() {
				if line == "WATCHDOG=1" {
					n++
				}
			}
			return n
		}
		if n := fed(5*time.Minute, true); n != 30 {
			t.Errorf("fed %d times in 5 minutes, want 30", n)
		}
		if n := fed(5*time.Minute, false); n > 3 {
			t.Errorf("fed %d times while the supervisor stood still", n)
		}
		if n := fed(time.Minute, true); n < 5 {
			t.Errorf("fed %d times after it went on", n)
		}
		// Origins take their time to stop; systemd must not lose patience.
		stop()
		if n := fed(time.Minute, true); n < 5 {
			t.Errorf("fed %d times during the stop", n)
		}
		end()
	})
}

// A supervisor that hangs with a lock held never returns from Progress.
func TestWatchdogIsNotFedByAHungSupervisor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, fleet, sent, _, end := startNotifier(t, quorum{}, 3*time.Second)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if got := sent.take(); !slices.Contains(got, "WATCHDOG=1") {
			t.Errorf("told %q", got)
		}
		release := make(chan struct{})
		fleet.mu.Lock()
		fleet.hung = release
		fleet.mu.Unlock()
		time.Sleep(time.Minute)
		if got := sent.take(); len(got) > 1 { // one that was on its way
			t.Errorf("told %q by a hung supervisor", got)
		}
		close(release)
		end()
	})
}

func TestNoServiceManager(t *testing.T) {
	n := newNotifier(quorum{}, func(string) (string, bool) { return "", false }, slog.Default())
	if n != nil {
		t.Fatal("a notifier for nobody")
	}
	n.Watch(nil)
	if err := n.Run(t.Context(), t.Context()); err != nil {
		t.Error(err)
	}
	if err := n.Reload(func() error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestNotifierWithoutItsSocket(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	var log bytes.Buffer
	n := newNotifier(quorum{}, os.LookupEnv, slog.New(slog.NewTextHandler(&log, nil)))
	n.tell("A=1", "")
	n.tell("B=1", "")
	if got := strings.Count(log.String(), "tell systemd"); got != 1 {
		t.Errorf("%d complaints: %s", got, log.String())
	}
}

func TestWithoutServiceManager(t *testing.T) {
	env := []string{"PATH=/bin", "NOTIFY_SOCKET=/x", "WATCHDOG_USEC=1", "WATCHDOG_PID=2", "LISTEN_FDS=1", "LISTEN_PID=3", "LISTEN_FDNAMES=a", "NOTIFY_SOCKETS=y"}
	if got := strings.Join(withoutServiceManager(env), " "); got != "PATH=/bin NOTIFY_SOCKETS=y" {
		t.Errorf("%q", got)
	}
}

// serviceManager is the socket of one: it takes messages from one process only,
// as NotifyAccess=main does.
type serviceManager struct {
	conn *net.UnixConn
	mu   sync.Mutex // guards the following
	got  []string
	pids map[int32]bool
}

func listenNotify(t *testing.T) (m *serviceManager, path string) {
	t.Helper()
	path = filepath.Join(socketDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); err != nil {
		t.Fatal(err)
	}
	m = &serviceManager{conn: conn, pids: make(map[int32]bool)}
	done := make(chan struct{})
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buf, oob := make([]byte, 4096), make([]byte, 256)
		for {
			n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.got = append(m.got, strings.ReplaceAll(string(buf[:n]), "\n", "|"))
			if msgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(msgs) > 0 {
				if cred, err := unix.ParseUnixCredentials(&msgs[0]); err == nil {
					m.pids[cred.Pid] = true
				}
			}
			m.mu.Unlock()
		}
	}()
	return m, path
}

// index of the first message that begins so, -1 if there is none.
func (m *serviceManager) index(prefix string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.IndexFunc(m.got, func(s string) bool { return strings.HasPrefix(s, prefix) })
}

func (m *serviceManager) count(text string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, s := range m.got {
		if s == text {
			n++
		}
	}
	return n
}

// The whole program under a service manager: ready after its origins, fed, and
// stopping before it ends; and nobody but the main process says anything.
func TestUpUnderAServiceManager(t *testing.T) {
	m, socket := listenNotify(t)
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "600000")
	r := startUp(t, 2, "--ready-quorum", "all")
	r.until(t, "READY=1 and the watchdog's food", func() bool {
		return m.index("READY=1|MAINPID=") >= 0 && m.count("WATCHDOG=1") >= 3
	})
	if ready, last := m.index("READY=1"), m.index("STATUS=0/2"); last < 0 || last > ready {
		t.Errorf("READY=1 at %d, 0/2 at %d", ready, last)
	}
	if m.index(fmt.Sprintf("READY=1|MAINPID=%d|STATUS=2/2 origins ready", r.cmd.Process.Pid)) < 0 {
		t.Errorf("told %q", m.got)
	}
	if err := r.cmd.Process.Signal(unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.until(t, "the end of a reload", func() bool { return m.index("READY=1|STATUS=reloaded") > 0 })
	if begin, end := m.index("RELOADING=1|MONOTONIC_USEC="), m.index("READY=1|STATUS=reloaded"); begin < 0 || begin > end {
		t.Errorf("reloading at %d, reloaded at %d: %q", begin, end, m.got)
	}
	rep, _ := r.status(t)
	for _, o := range rep.Origins {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", o.PID))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(env, []byte("NOTIFY_SOCKET")) || bytes.Contains(env, []byte("WATCHDOG_")) {
			t.Errorf("%s knows of the service manager", o.ID)
		}
	}
	if err := r.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	stopping := slices.Index(m.got, "STOPPING=1|STATUS=stopping")
	if stopping < 0 || slices.IndexFunc(m.got[stopping:], func(s string) bool { return strings.Contains(s, "READY=1") }) >= 0 {
		t.Errorf("told %q", m.got)
	}
	if len(m.pids) != 1 || !m.pids[int32(r.cmd.Process.Pid)] {
		t.Errorf("told by %v, main is %d", m.pids, r.cmd.Process.Pid)
	}
}
