package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
)

// pseudoTerminal is a terminal of a test: the program has one end, the test sees
// what a person would at the other and presses the keys.
type pseudoTerminal struct {
	ptmx, tty *os.File
	modes     unix.Termios // as they were

	mu     sync.Mutex // guards the following
	screen *vt
	raw    strings.Builder
	err    error // of the screen: codes that it does not know
}

func newPseudoTerminal(t *testing.T, columns, rows int) *pseudoTerminal {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	p := &pseudoTerminal{ptmx: ptmx, screen: newVT(columns, rows)}
	t.Cleanup(func() { ptmx.Close() })
	var n int
	p.control(t, func(fd int) (err error) {
		if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	p.resize(t, columns, rows)
	// Kept open: a terminal that nobody has open forgets its modes.
	if p.tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.tty.Close() })
	p.modes = p.modesNow(t)
	go p.watch()
	return p
}

func (p *pseudoTerminal) watch() {
	b := make([]byte, 4096)
	for {
		n, err := p.ptmx.Read(b)
		p.mu.Lock()
		p.raw.Write(b[:n])
		if p.err == nil {
			p.err = p.screen.write(string(b[:n]))
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// control works on the descriptor without making it a blocking one, which could
// not be closed while it is read.
func (p *pseudoTerminal) control(t *testing.T, do func(fd int) error) {
	t.Helper()
	raw, err := p.ptmx.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
}

func (p *pseudoTerminal) resize(t *testing.T, columns, rows int) {
	t.Helper()
	p.mu.Lock()
	p.screen.resize(columns, rows)
	p.mu.Unlock()
	p.control(t, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(rows)})
	})
}

func (p *pseudoTerminal) modesNow(t *testing.T) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(p.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// start runs a command on the terminal.
func (p *pseudoTerminal) start(t *testing.T, cmd *exec.Cmd) <-chan error {
	t.Helper()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.tty, p.tty, p.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Env = append(cmd.Env, "TERM=xterm", "LC_ALL=C.UTF-8")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		ended <- cmd.Wait()
		close(gone)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-gone
	})
	return ended
}

func (p *pseudoTerminal) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.ptmx.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// until waits for what the screen shows.
func (p *pseudoTerminal) until(t *testing.T, what string, met func(*vt) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		p.mu.Lock()
		done, err, shown := met(p.screen), p.err, p.screen.String()
		p.mu.Unlock()
		if err != nil {
			t.Fatalf("the terminal does not understand: %v", err)
		}
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s on the screen:\n%s", what, shown)
		}
	}
}

func (p *pseudoTerminal) untilText(t *testing.T, texts ...string) {
	t.Helper()
	p.until(t, fmt.Sprintf("%q", texts), func(v *vt) bool {
		for _, text := range texts {
			if !strings.Contains(v.String(), text) {
				return false
			}
		}
		return v.alternate
	})
}

// wantRestored proves that the next program finds the terminal as it was.
func (p *pseudoTerminal) wantRestored(t *testing.T) {
	t.Helper()
	if got := p.modesNow(t); got != p.modes {
		t.Errorf("terminal modes are\n%+v\nand were\n%+v", got, p.modes)
	}
	p.until(t, "cursor", func(v *vt) bool { return !v.alternate && !v.hidden })
	p.mu.Lock()
	defer p.mu.Unlock()
	if strings.Count(p.raw.String(), "\x1b[?7l") != strings.Count(p.raw.String(), "\x1b[?7h") {
		t.Error("wrapping is left off")
	}
}

func (p *pseudoTerminal) wantRaw(t *testing.T) {
	t.Helper()
	p.until(t, "raw mode", func(*vt) bool { return p.modesNow(t).Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) == 0 })
}

func wantEnd(t *testing.T, ended <-chan error, code int) {
	t.Helper()
	select {
	case err := <-ended:
		got := 0
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			got = ee.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != code {
			t.Errorf("exit code %d, want %d", got, code)
		}
	case <-time.After(patience):
		t.Fatal("does not end")
	}
}

func TestTopOnATerminal(t *testing.T) {
	r := startUp(t, 2)

	t.Run("keys and sizes", func(t *testing.T) {
		p := newPseudoTerminal(t, 80, 24)
		ended := p.start(t, command(t, r.dir, "top", "-d", "0.2"))
		p.untilText(t, "2/2 ready", "origin-0", "origin-1", "%CPU↓", "q quit")
		p.wantRaw(t)
		p.press(t, "\x1b[C")
		p.untilText(t, "MEM↓")
		p.press(t, "r")
		p.untilText(t, "MEM↑")
		p.press(t, "\x1b") // a key in pieces
		time.Sleep(20 * time.Millisecond)
		p.press(t, "[D")
		p.untilText(t, "%CPU↓")
		p.resize(t, 120, 40)
		p.until(t, "picture of the new size", func(v *vt) bool {
			return strings.HasPrefix(v.lines()[39], "q quit") && strings.Contains(v.String(), "RESTARTS")
		})
		p.resize(t, 50, 8)
		p.until(t, "picture of the new size", func(v *vt) bool {
			return strings.HasPrefix(v.lines()[7], "q quit") && strings.HasPrefix(v.lines()[0], "srs-proxy ") && strings.Contains(v.String(), "origin-1")
		})
		p.press(t, "?")
		p.untilText(t, "Keys")
		p.press(t, " ")
		p.untilText(t, "origin-0")
		p.press(t, "f") // none is in trouble
		p.until(t, "no origin", func(v *vt) bool { return !strings.Contains(v.String(), "origin-") })
		p.press(t, "q")
		wantEnd(t, ended, exitOK)
		p.wantRestored(t)
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.screen.colored {
			t.Error("no colors on a terminal")
		}
	})

	t.Run("Ctrl-C, NO_COLOR", func(t *testing.T) {
		p := newPseudoTerminal(t, 80, 24)
		cmd := command(t, r.dir, "top")
		cmd.Env = append(cmd.Env, "NO_COLOR=1")
		ended := p.start(t, cmd)
		p.untilText(t, "2/2 ready")
		p.press(t, "\x03")
		wantEnd(t, ended, exitOK)
		p.wantRestored(t)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.screen.colored {
			t.Errorf("colors in spite of NO_COLOR: %q", p.raw.String())
		}
	})

	t.Run("status -w", func(t *testing.T) {
		p := newPseudoTerminal(t, 80, 24)
		ended := p.start(t, command(t, r.dir, "status", "-o", "wide", "-w", "0.2"))
		p.untilText(t, "TOTAL", "2/2 ready", "ID↑")
		p.press(t, "q")
		wantEnd(t, ended, exitOK)
		p.wantRestored(t)
	})

	t.Run("a number of looks", func(t *testing.T) {
		p := newPseudoTerminal(t, 80, 24)
		wantEnd(t, p.start(t, command(t, r.dir, "top", "-n", "2", "-d", "0.1")), exitOK)
		p.wantRestored(t)
	})

	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			p := newPseudoTerminal(t, 80, 24)
			cmd := command(t, r.dir, "top")
			ended := p.start(t, cmd)
			p.untilText(t, "2/2 ready")
			cmd.Process.Signal(sig)
			wantEnd(t, ended, exitOK)
			p.wantRestored(t)
		})
	}

	t.Run("suspend", func(t *testing.T) {
		p := newPseudoTerminal(t, 80, 24)
		cmd := command(t, r.dir, "top", "-d", "0.2")
		ended := p.start(t, cmd)
		p.untilText(t, "2/2 ready")
		var s runtime.ProcSampler
		if err := s.Open(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, stop := range []func(){
			func() { p.press(t, "\x1a") },
			func() { cmd.Process.Signal(syscall.SIGTSTP) },
		} {
			stop()
			p.until(t, "stop", func(*vt) bool { u, err := s.Sample(); return err == nil && u.State == 'T' })
			p.wantRestored(t)
			cmd.Process.Signal(syscall.SIGCONT)
			p.untilText(t, "2/2 ready", "q quit")
			p.wantRaw(t)
		}
		p.press(t, "q")
		wantEnd(t, ended, exitOK)
		p.wantRestored(t)
	})

	t.Run("the terminal goes away", func(t *testing.T) {
		p := newPseudoTerminal(t, 80, 24)
		ended := p.start(t, command(t, r.dir, "top"))
		p.untilText(t, "2/2 ready")
		p.ptmx.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("does not end")
		}
	})

	t.Run("the instance goes away", func(t *testing.T) {
		p := newPseudoTerminal(t, 100, 24)
		cmd := command(t, r.dir, "top", "-d", "0.2")
		ended := p.start(t, cmd)
		p.untilText(t, "2/2 ready")
		if out, errs, code := run(t, command(t, r.dir, "down", "--now")); code != exitOK {
			t.Fatalf("down: %d %s %s", code, out, errs)
		}
		p.untilText(t, "No answer for ", "is not running", "origin-1")
		up := command(t, r.dir, "up", "--origins", "3", "--port-base", fmt.Sprint(freePorts(t, 30)))
		if err := up.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			up.Process.Signal(syscall.SIGTERM)
			up.Process.Signal(syscall.SIGTERM)
			up.Wait()
		}()
		p.untilText(t, "3/3 ready", fmt.Sprintf("pid %d", up.Process.Pid))
		p.press(t, "q")
		wantEnd(t, ended, exitOK)
		p.wantRestored(t)
	})
}

func TestTopOffATerminal(t *testing.T) {
	dir := socketDir(t)
	for _, args := range [][]string{{"top"}, {"status", "-w"}} {
		if out, errs, code := run(t, command(t, dir, args...)); code != exitNotRunning || out != "" || !strings.Contains(errs, "not running") {
			t.Errorf("%q without an instance: code %d, %q, %q", args, code, out, errs)
		}
	}
	r := startUp(t, 2)
	tests := []struct {
		args  []string
		each  string // seen once in each page
		pages int
	}{
		{[]string{"top", "-n", "3", "-d", "0.1"}, "2/2 ready", 3},
		{[]string{"top", "-n", "1", "--sort", "mem", "-r"}, "MEM^", 1},
		{[]string{"status", "-n", "2", "-w", "0.1"}, "TOTAL", 2},
		{[]string{"status", "-n", "2", "-w=100ms", "-o", "json"}, `"totals"`, 2},
	}
	for _, tt := range tests {
		out, errs, code := run(t, command(t, r.dir, tt.args...))
		if code != exitOK || errs != "" || strings.Count(out, tt.each) != tt.pages {
			t.Errorf("%q: code %d, want %d pages with %q\nstdout: %s\nstderr: %s", tt.args, code, tt.pages, tt.each, out, errs)
		}
		if strings.ContainsAny(out, "\x1b\r") || !strings.Contains(out, "origin-1") {
			t.Errorf("%q prints\n%q", tt.args, out)
		}
	}
	for _, args := range [][]string{
		{"top", "--sort", "colour"}, {"top", "-d", "0"}, {"top", "-n", "0"}, {"top", "word"},
		{"status", "-w=x"}, {"status", "-w", "x"}, {"status", "-w", "1", "-n", "1"}, {"status", "-n", "2"}, {"status", "1"},
	} {
		if out, errs, code := run(t, command(t, r.dir, args...)); code != exitUsage || out != "" || errs == "" {
			t.Errorf("%q: code %d, %q, %q", args, code, out, errs)
		}
	}
}

// A panic, of the screen's goroutine or of a helper, leaves the terminal as it was.
func TestTopRestoresTheTerminalOnPanic(t *testing.T) {
	t.Run("helper", func(t *testing.T) {
		p := newPseudoTerminal(t, 80, 24)
		looks := 0
		l := live{interval: time.Millisecond, ask: func(context.Context) (report, error) {
			if looks++; looks > 1 {
				looks = len([]int{}[looks:]) // out of range
			}
			return sampleReport(), nil
		}}
		m := shows(t, sampleReport(), 0, 0, "cpu")
		err := l.onScreen(t.Context(), &fullScreen{in: p.tty, out: p.tty}, m, true)
		if err == nil || !strings.Contains(err.Error(), "internal error") || !strings.Contains(err.Error(), "top_terminal_test.go") {
			t.Errorf("error is %v", err)
		}
		p.wantRestored(t)
	})
	t.Run("screen", func(t *testing.T) {
		p := newPseudoTerminal(t, 80, 24)
		l := live{interval: time.Millisecond, ask: func(context.Context) (report, error) { return largeReport(), nil }}
		m := shows(t, largeReport(), 0, 0, "cpu")
		m.glyphs = glyphs{} // none to draw with
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
			p.wantRestored(t)
		}()
		err := l.onScreen(t.Context(), &fullScreen{in: p.tty, out: p.tty}, m, true)
		t.Errorf("it ended: %v", err)
	})
}
