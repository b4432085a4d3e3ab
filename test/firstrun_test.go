package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestFirstRun is what the README tells a newcomer to do, and the end of it.
func TestFirstRun(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	eventually(t, 10*time.Second, "the table and the URLs", func() (bool, string) {
		out := in.out.String()
		return strings.Contains(out, "2/2 ready") && strings.Contains(out, in.stream("flv", "live/livestream")) &&
			strings.Contains(out, "Publish:") && strings.Contains(out, in.stream("rtmp", "live/livestream")), out
	})
	if out := in.out.String() + in.err.String(); hasEscapes(out) {
		t.Errorf("escape codes off a terminal: %q", out)
	}
	wantSoftware := "the built-in origin"
	if suite.srs != "" {
		wantSoftware = "SRS at " + suite.srs
	}
	if !strings.Contains(in.err.String(), wantSoftware) {
		t.Errorf("no line says that the origins run %s", wantSoftware)
	}

	ffmpegPublish(t, in.stream("rtmp", "live/livestream"))
	for _, proto := range []string{"rtmp", "flv", "m3u8", "ts"} {
		t.Run(proto, func(t *testing.T) {
			if proto == "ts" && suite.srs != "" {
				t.Skip("SRS mounts one format a vhost, which is .flv in the template")
			}
			checkCodecs(t, in.stream(proto, "live/livestream"), "aac", "h264")
		})
	}
	t.Run("status", func(t *testing.T) { checkStatusForms(t, in) })
	t.Run("down", func(t *testing.T) { checkDown(t, in) })
}

func checkStatusForms(t *testing.T, in *instance) {
	eventually(t, 10*time.Second, "status with one stream", func() (bool, string) {
		s := in.status()
		return s.Totals.Streams == 1 && s.Totals.Publishers == 1, fmt.Sprintf("%+v", s.Totals)
	})
	table := srsProxy(t, "status", "--state-dir", in.stateDir)
	heads := "ID STATE PID CPU %CPU MEM UP RESTARTS STREAMS PUB PLAY IN OUT"
	lines := strings.Split(table.out, "\n")
	if got := strings.Join(strings.Fields(lines[0]), " "); table.code != 0 || got != heads {
		t.Errorf("status: exit code %d, columns %q, want 0 and %q", table.code, got, heads)
	}
	if len(lines) < 4 || !strings.HasPrefix(lines[1], "origin-0") || !strings.HasPrefix(lines[3], "TOTAL") {
		t.Errorf("status:\n%s", table.out)
	}
	wide := srsProxy(t, "status", "-o", "wide", "--state-dir", in.stateDir)
	if got := strings.Join(strings.Fields(strings.Split(wide.out, "\n")[0]), " "); wide.code != 0 || !strings.HasPrefix(got, heads+" RTMP HTTP API") {
		t.Errorf("status -o wide: exit code %d, columns %q", wide.code, got)
	}
	if s := in.status(); s.PID != in.cmd.Process.Pid || s.RTMP != in.rtmp() || s.HTTP != in.http() {
		t.Errorf("status -o json: pid %d, rtmp %s, http %s; want %d, %s, %s", s.PID, s.RTMP, s.HTTP, in.cmd.Process.Pid, in.rtmp(), in.http())
	}
	if r := srsProxy(t, "status", "-o", "xml", "--state-dir", in.stateDir); r.code != 2 || !strings.Contains(r.err, "xml") {
		t.Errorf("status -o xml: exit code %d, %q; want 2 and the word named", r.code, r.err)
	}
	if r := srsProxy(t, "status", "--state-dir", t.TempDir()); r.code != 3 || !strings.Contains(r.err, "not running") {
		t.Errorf("status of nothing: exit code %d, %q; want 3", r.code, r.err)
	}
}

func checkDown(t *testing.T, in *instance) {
	in.status() // pids, for the search of what is left
	start := time.Now()
	r := srsProxy(t, "down", "--state-dir", in.stateDir)
	if r.code != 0 || !strings.Contains(r.out, "has stopped") {
		t.Errorf("down: exit code %d, %q %q", r.code, r.out, r.err)
	}
	t.Logf("down with a stream took %s", time.Since(start).Round(time.Millisecond))
	// down has seen the end of the process: nothing may be left when it returns.
	if left := processesOf(in.stateDir); len(left) > 0 {
		t.Errorf("down has returned and these live: %q", left)
	}
	if code := in.waitEnd(time.Second); code != 0 {
		t.Errorf("up: exit code %d, want 0", code)
	}
	if r := srsProxy(t, "down", "--state-dir", in.stateDir); r.code != 3 {
		t.Errorf("a second down: exit code %d, want 3", r.code)
	}
}

// TestDegraded: exit code 4 while an origin is not ready.
func TestDegraded(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	victim := in.status().Origins[1]
	if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "exit code 4 after an origin's death", func() (bool, string) {
		s, code := in.tryStatus()
		// Where it is ready again already, another death will be seen.
		if o := s.origin(victim.ID); code == 0 && o.PID != 0 && o.PID != victim.PID {
			_ = syscall.Kill(o.PID, syscall.SIGKILL)
		}
		return code == 4, fmt.Sprintf("exit code %d, %+v", code, s.Origins)
	})
	in.waitReady(readyWithin)
}

// TestCtrlC: SIGINT in the middle of everything, sessions included.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	pub := in.publish(t, "a")
	in.playRTMP(t, "a").awaitFrames(t, 5, 10*time.Second)
	if n := zombiesOf(in.cmd.Process.Pid); n != 0 {
		t.Errorf("%d zombies while it runs", n)
	}
	in.status()
	start := time.Now()
	in.signal(syscall.SIGINT)
	if code := in.waitEnd(stopWithin); code != 0 {
		t.Errorf("SIGINT: exit code %d, want 0", code)
	}
	t.Logf("the stop took %s", time.Since(start).Round(time.Millisecond))
	select {
	case <-pub.done:
	case <-time.After(5 * time.Second):
		t.Error("a publisher is still connected")
	}
}

// TestSecondSignalHurries: an origin that waits for a client of its own, who
// came past the proxy, is not waited for.
func TestSecondSignalHurries(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	addr := fmt.Sprintf("127.0.0.1:%d", in.status().Origins[0].Ports.RTMP)
	pub, err := startPublisher(addr, "rtmp://"+addr+"/live", "past")
	if err != nil {
		t.Fatal(err)
	}
	defer pub.stop()
	in.signal(syscall.SIGTERM)
	eventually(t, 5*time.Second, "the stop has begun", func() (bool, string) {
		return strings.Contains(in.err.String(), "stopping"), in.err.String()
	})
	in.signal(syscall.SIGTERM)
	start := time.Now()
	if code := in.waitEnd(stopWithin); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	took := time.Since(start)
	t.Logf("the hurried stop took %s", took.Round(time.Millisecond))
	// SIGTERM by itself comes after 8 s.
	if took > 5*time.Second {
		t.Errorf("the second signal did not hurry: %s", took)
	}
}

// slowOrigin is a program in the place of srs that takes its time to start.
func slowOrigin(t *testing.T, seconds int) string {
	t.Helper()
	real := suite.srs
	if real == "" {
		real = suite.binary + " origin"
	}
	return script(t, fmt.Sprintf(`case "$1" in
-v) echo 7.0.18 >&2; exit 0;;
-t) exec %[1]s "$@";;
esac
sleep %[2]d
exec %[1]s "$@"`, real, seconds))
}

// script writes an executable shell script.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "srs")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProgressOffTerminal: a line a second, and no escape codes.
func TestProgressOffTerminal(t *testing.T) {
	t.Parallel()
	in := up(t, 2, "--srs", slowOrigin(t, 3))
	lines := 0
	var times []time.Time
	for line := range strings.Lines(in.err.String()) {
		if strings.Contains(line, "waiting for origins") {
			lines++
			at, err := time.Parse(time.RFC3339Nano, line[len("time="):strings.IndexByte(line, ' ')])
			if err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			times = append(times, at)
		}
	}
	if lines < 2 || lines > 5 {
		t.Errorf("%d lines of progress in 3 s, want one a second:\n%s", lines, in.err.String())
	}
	for i := 1; i < len(times); i++ {
		if d := times[i].Sub(times[i-1]); d < 500*time.Millisecond || d > 2*time.Second {
			t.Errorf("progress lines %s apart, want a second", d)
		}
	}
	if hasEscapes(in.err.String()) {
		t.Errorf("escape codes off a terminal: %q", in.err.String())
	}
}

var escapeCode = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)

// TestProgressOnTerminal: the bar, the table in colors, Ctrl-C as a key.
func TestProgressOnTerminal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		env    string
		colors bool
	}{
		{"colors", "TERM=xterm", true},
		{"NO_COLOR", "NO_COLOR=1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			in := newInstance(t, 2, "--srs", slowOrigin(t, 1))
			in.cmd.Env = cleanEnv("TERM=xterm", tt.env)
			screen := onTerminal(t, in.cmd)
			in.start()
			in.waitReady(readyWithin)
			eventually(t, 5*time.Second, "the table on the terminal", func() (bool, string) {
				return strings.Contains(screen.String(), "Publish:"), fmt.Sprintf("%q", screen.String())
			})
			text := screen.String()
			if !strings.Contains(text, "0/2 origins ready") || !strings.Contains(text, "[....") {
				t.Errorf("no progress bar in %q", text)
			}
			if strings.Contains(text, "waiting for origins") {
				t.Errorf("log lines of progress besides the bar in %q", text)
			}
			colored := false
			for _, code := range escapeCode.FindAllString(text, -1) {
				colored = colored || strings.HasSuffix(code, "m")
			}
			if colored != tt.colors {
				t.Errorf("colors: %v, want %v, in %q", colored, tt.colors, text)
			}
			in.status()
			screen.key(t, "\x03")
			if code := in.waitEnd(stopWithin); code != 0 {
				t.Errorf("Ctrl-C: exit code %d, want 0", code)
			}
		})
	}
}
