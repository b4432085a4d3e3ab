package supervisor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// scene is a folder with a config, and all that a true origin in it would have.
type scene struct {
	t    *testing.T
	cfg  Config
	slot *slot
	env  []string
	argv []string
	attr *syscall.SysProcAttr
}

func newScene(t *testing.T, cfg Config) *scene {
	t.Helper()
	f := newFleet(t, cfg)
	slot := f.slots[0]
	if err := slot.writeConfig(); err != nil {
		t.Fatal(err)
	}
	return &scene{
		t: t, cfg: f.cfg, slot: slot,
		env:  append(os.Environ(), strayMark+slot.params.WorkDir, configMark+slot.configHash),
		argv: append(append([]string{}, cfg.Command[1:]...), "-c", slot.configFile),
		attr: &syscall.SysProcAttr{Setpgid: true},
	}
}

// play starts the process, and waits for its lock where it should take one.
func (s *scene) play() *witness {
	s.t.Helper()
	w := newWitness(s.t, s.slot.params.WorkDir, s.env, s.attr, s.argv...)
	eventually(s.t, "an API", func() bool {
		_, err := askIdentity(s.t.Context(), s.cfg.dialAddr(s.slot.params.Ports.API))
		return err == nil
	})
	return w
}

// candidate is the process as a state file would name it.
func (s *scene) candidate(w *witness) candidate {
	s.t.Helper()
	return candidate{pid: w.pid(), place: birth{ports: s.slot.params.Ports}, command: s.cfg.Command, saved: savedOrigin{
		ID: "origin-0", PID: w.pid(), StartTicks: w.ticks(s.t), Ports: s.slot.params.Ports,
		PIDFile: s.slot.params.PIDFile, ConfigHash: s.slot.configHash,
	}}
}

// Each proof by itself: with all others in order, its failure makes a stranger.
func TestClaimNeedsEveryProof(t *testing.T) {
	tests := []struct {
		name string
		// before changes how the process starts, after what is said of it.
		before func(*scene)
		after  func(*testing.T, *scene, *witness, *candidate)
		want   error
		says   string
	}{
		{name: "nothing wrong"},
		{name: "nothing wrong, found by its lock", after: func(_ *testing.T, _ *scene, _ *witness, c *candidate) {
			c.saved, c.command = savedOrigin{ID: "origin-0"}, nil
		}},
		{name: "another start time", want: errNotOurs, says: "ticks after the boot", after: func(_ *testing.T, _ *scene, _ *witness, c *candidate) {
			c.saved.StartTicks++
		}},
		{name: "a member of our group", want: errNotOurs, says: "leads none", before: func(s *scene) { s.attr = nil }},
		{name: "another config", want: errNotOurs, says: "command line", before: func(s *scene) {
			other := s.slot.configFile + ".copy"
			text, err := os.ReadFile(s.slot.configFile)
			if err != nil {
				s.t.Fatal(err)
			}
			if err := os.WriteFile(other, text, 0o600); err != nil {
				s.t.Fatal(err)
			}
			s.argv[len(s.argv)-1] = other
		}},
		{name: "another program", want: errNotOurs, says: "it runs", after: func(_ *testing.T, s *scene, _ *witness, c *candidate) {
			s.cfg.Command, c.command = []string{"/usr/bin/srs"}, []string{"/usr/bin/srs"}
		}},
		{name: "another program, but the saved one", after: func(t *testing.T, s *scene, w *witness, c *candidate) {
			var err error
			if c.saved.Program, err = program(w.pid()); err != nil {
				t.Error(err)
			}
			s.cfg.Command, c.command = []string{"/usr/bin/srs"}, []string{"/usr/bin/srs"}
		}},
		{name: "no mark", want: errNotOurs, says: strayMark, before: func(s *scene) { s.env = os.Environ() }},
		{name: "the mark of another folder", want: errNotOurs, says: strayMark, before: func(s *scene) {
			s.env = append(os.Environ(), strayMark+s.slot.params.WorkDir+"1")
		}},
		{name: "no lock", want: errNotOurs, says: "nobody holds the lock", after: func(t *testing.T, s *scene, _ *witness, _ *candidate) {
			if err := errors.Join(os.Remove(s.slot.params.PIDFile), os.WriteFile(s.slot.params.PIDFile, []byte("1"), 0o600)); err != nil {
				t.Error(err)
			}
		}},
		{name: "the lock is another's", want: errNotOurs, says: "is held by pid", after: func(t *testing.T, s *scene, _ *witness, _ *candidate) {
			if err := os.Remove(s.slot.params.PIDFile); err != nil {
				t.Error(err)
			}
			holdLock(t, s.slot.params.PIDFile)
		}},
		{name: "a pid file that is a link", want: errNotOurs, says: "pid file", after: func(t *testing.T, s *scene, _ *witness, _ *candidate) {
			moved := s.slot.params.PIDFile + ".moved"
			if err := errors.Join(os.Rename(s.slot.params.PIDFile, moved), os.Symlink(moved, s.slot.params.PIDFile)); err != nil {
				t.Error(err)
			}
		}},
		{name: "dead", want: errEnded, after: func(_ *testing.T, _ *scene, w *witness, _ *candidate) {
			_ = w.cmd.Process.Kill()
			_ = w.cmd.Wait()
		}},
		{name: "a zombie", want: errEnded, after: func(t *testing.T, _ *scene, w *witness, _ *candidate) {
			_ = w.cmd.Process.Kill()
			eventually(t, "a zombie", func() bool { return !lives(w.pid()) })
		}},
		{name: "ourselves", want: errNotOurs, after: func(_ *testing.T, _ *scene, _ *witness, c *candidate) { c.pid = os.Getpid() }},
		{name: "init", want: errNotOurs, after: func(_ *testing.T, _ *scene, _ *witness, c *candidate) { c.pid = 1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t, fakeConfig(t, 1, "ready"))
			if tt.before != nil {
				tt.before(s)
			}
			w := s.play()
			c := s.candidate(w)
			if tt.after != nil {
				tt.after(t, s, w, &c)
			}
			l, err := s.cfg.claim(c)
			if err == nil {
				if !l.alive() || l.startTicks != w.ticks(t) || l.answers != w.pid() || l.configHash != s.slot.configHash {
					t.Errorf("claimed %+v", l)
				}
				l.letGo()
			}
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %v and %q", err, tt.want, tt.says)
			}
			if tt.want != errEnded { //nolint:errorlint // a table's word
				w.untouched(t)
			}
		})
	}
}

// Root may signal everybody, so it has to be the kernel's word that counts.
func TestClaimRefusesOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start processes of others")
	}
	s := newScene(t, fakeConfig(t, 1, "ready"))
	for _, ids := range []*syscall.Credential{{Uid: 65534, Gid: 65534}, nil} {
		cmd := exec.Command("sleep", "60")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: ids}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		_, err := s.cfg.claim(candidate{pid: cmd.Process.Pid})
		want := "another user"
		if ids == nil {
			want = "command line" // the next proof
		}
		if !errors.Is(err, errNotOurs) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// holdLock has another process take the lock on a file.
func holdLock(t *testing.T, path string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "locker", path)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestLockOwner(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	if pid, err := lockOwner(path); pid != 0 || err != nil {
		t.Errorf("of no file: %d, %v", pid, err)
	}
	if err := os.WriteFile(path, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if pid, err := lockOwner(path); pid != 0 || err != nil {
		t.Errorf("of a file without a lock: %d, %v", pid, err)
	}
	w := newScene(t, fakeConfig(t, 1, "ready"))
	origin := w.play()
	if pid, err := lockOwner(w.slot.params.PIDFile); pid != origin.pid() || err != nil {
		t.Errorf("pid %d, want %d (%v)", pid, origin.pid(), err)
	}
	// A lock for reading is nobody's proof of anything.
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := flock(f); err != nil { // flock(2) is another thing altogether
		t.Fatal(err)
	}
	if pid, err := lockOwner(path); pid != 0 || err != nil {
		t.Errorf("of a file with flock(2): %d, %v", pid, err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(w.slot.params.PIDFile, link); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{fifo, link, dir} {
		if pid, err := lockOwner(bad); pid != 0 || err == nil {
			t.Errorf("%s: pid %d, %v", bad, pid, err)
		}
	}
}

func TestParseID(t *testing.T) {
	c := Config{}.withDefaults()
	for _, tt := range []struct {
		id         string
		index, gen int
		ok         bool
	}{
		{"origin-0", 0, 0, true},
		{"origin-127", 127, 0, true},
		{"origin-3.12", 3, 12, true},
		{"origin-", 0, 0, false},
		{"origin-03", 0, 0, false},
		{"origin-3.0", 0, 0, false},
		{"origin-3.", 0, 0, false},
		{"origin--1", 0, 0, false},
		{"origin-+1", 0, 0, false},
		{"origin-3.-1", 0, 0, false},
		{"origin-99999999999999999999", 0, 0, false},
		{"../origin-1", 0, 0, false},
		{"origin-1/../../x", 0, 0, false},
	} {
		index, gen, ok := c.parseID(tt.id)
		if ok != tt.ok || ok && (index != tt.index || gen != tt.gen) {
			t.Errorf("%q: %d, %d, %t", tt.id, index, gen, ok)
		}
	}
}

func TestParseProcStat(t *testing.T) {
	tail := " Z 12 34 34 0 -1 4194560 100 0 0 0 17 5 0 0 20 0 9 0 8646 100000 250" + strings.Repeat(" 1", 27) + " 9"
	for _, comm := range []string{"srs", "a) R 7 (b", "", ")", "a b c"} {
		got, err := parseProcStat([]byte("42 (" + comm + ")" + tail + "\n"))
		if want := (procStat{'Z', 12, 34, 8646, unix.WaitStatus(9)}); err != nil || got != want {
			t.Errorf("comm %q: %+v, %v", comm, got, err)
		}
	}
	for _, bad := range []string{"", ")", "42 (srs)", "42 (srs) S 1", "42 (srs)" + strings.TrimSuffix(tail, " 9"), "42 (srs)" + strings.Replace(tail, " 34 ", " x ", 1), "42 (srs)" + strings.Replace(tail, "8646", "-1", 1)} {
		if got, err := parseProcStat([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func FuzzParseProcStat(f *testing.F) {
	f.Add([]byte("42 (srs) S 12 34 34 0 -1 4194560 100 0 0 0 17 5 0 0 20 0 9 0 8646 100000 250"))
	f.Add([]byte(")"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _ = parseProcStat(text) })
}

// What a program sees of a variable that it was given twice is the last.
func TestVariable(t *testing.T) {
	env := []string{strayMark + "/a", "X=1", strayMark + "/b", ""}
	if got := variable(env, strayMark); got != "/b" {
		t.Errorf("%q", got)
	}
	if got := variable(env, configMark); got != "" {
		t.Errorf("%q", got)
	}
	if same, err := runsAsUs(os.Getpid()); !same || err != nil {
		t.Errorf("we run as ourselves: %t, %v", same, err)
	}
	if _, err := runsAsUs(1 << 30); err == nil {
		t.Error("nobody runs as " + strconv.Itoa(1<<30))
	}
}
