package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"srs-proxy/srsconf"
	"srs-proxy/testkit"
)

// These tests run the real program, with the built-in origin unless SRS_BINARY
// names another.

// patience is for a machine that runs everything at once; nothing waits it out
// unless it fails.
const patience = 60 * time.Second

// binaryDir holds the program that TestMain builds.
var binaryDir string

func TestMain(m *testing.M) {
	// Under nohup an ignored SIGHUP would be the children's too, who respect that.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	var err error
	if binaryDir, err = os.MkdirTemp("", "srs-proxy-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(binaryDir)
	os.Exit(code)
}

// binary builds the program once, when the first test wants it.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "srs-proxy")
	args := append([]string{"build", "-o", path}, buildFlags()...)
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// command is the program with its own state dir and free ports.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "SRS_PROXY_STATE_DIR="+dir, "PROXY_RTMP_SERVER=127.0.0.1:0", "PROXY_HTTP_SERVER=127.0.0.1:0", "PROXY_HTTP_API=127.0.0.1:0", "PROXY_SRT_SERVER=127.0.0.1:0", "PROXY_WEBRTC_SERVER=127.0.0.1:0",
		// A race in the program fails it at once, without the detector's pause at each exit.
		"GORACE=halt_on_error=1 atexit_sleep_ms=0")
	if os.Getenv("SRS_BINARY") == "" {
		cmd.Env = append(cmd.Env, "SRS_BINARY="+builtinOrigin)
	}
	return cmd
}

// run runs a command to its end.
func run(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		ee, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		code = ee.ExitCode()
	}
	return out.String(), errs.String(), code
}

// freePorts finds a base that has room for so many ports in a row, below the
// ephemeral range. They are probed, not held: whoever else runs may take one,
// which the program would say.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	for base := 21000 + os.Getpid()%500*20; base+n < 32000; base += n {
		free := true
		for port := base; port < base+n && free; port++ {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if free = err == nil; free {
				ln.Close()
			}
		}
		if free {
			return base
		}
	}
	t.Skip("no free ports in a row below the ephemeral range")
	return 0
}

// running is an instance started by a test.
type running struct {
	dir         string
	cmd         *exec.Cmd
	out, errs   testkit.Log
	ended       chan struct{}
	err         error // of Wait, once ended is closed
	portBase    int
	originCount int
}

// startUp runs up until its table is printed.
func startUp(t *testing.T, origins int, args ...string) *running {
	t.Helper()
	base := freePorts(t, 10*origins)
	r := startWith(t, append([]string{"--origins", fmt.Sprint(origins), "--port-base", fmt.Sprint(base)}, args...)...)
	r.portBase, r.originCount = base, origins
	return r
}

// startWith is startUp with nothing but these flags.
func startWith(t *testing.T, flags ...string) *running {
	t.Helper()
	r := &running{dir: socketDir(t), ended: make(chan struct{})}
	r.cmd = command(t, r.dir, append([]string{"up"}, flags...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.err = r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() {
		r.cmd.Process.Signal(syscall.SIGTERM)
		r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.ended:
		case <-time.After(patience):
			r.cmd.Process.Kill()
			t.Error("the instance had to be killed")
		}
	})
	r.until(t, "the table and the commands", func() bool { return strings.Contains(r.out.String(), "curl -o") })
	return r
}

// until waits for a condition of a live instance.
func (r *running) until(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !met(); time.Sleep(20 * time.Millisecond) {
		select {
		case <-r.ended:
			t.Fatalf("ended (%v) before %s\nstdout: %s\nstderr: %s", r.err, what, r.out.String(), r.errs.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s\nstdout: %s\nstderr: %s", what, r.out.String(), r.errs.String())
		}
	}
}

func (r *running) wait(t *testing.T) {
	t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		t.Fatalf("does not end\nstderr: %s", r.errs.String())
	}
}

// status is the report of the instance and the exit code of the command.
func (r *running) status(t *testing.T) (report, int) {
	t.Helper()
	out, errs, code := run(t, command(t, r.dir, "status", "-o", "json"))
	var rep report
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatalf("status: %v\nstdout: %s\nstderr: %s", err, out, errs)
	}
	return rep, code
}

// wantGone proves that nothing is left: no process, no port, no socket.
func wantGone(t *testing.T, rep report, dir string) {
	t.Helper()
	for _, o := range rep.Origins {
		if err := syscall.Kill(o.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("pid %d of %s is still there: %v", o.PID, o.ID, err)
		}
		for _, port := range []int{o.Ports.RTMP, o.Ports.HTTP, o.Ports.API} {
			if err := tryListen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
				t.Errorf("%s: port %d is not free: %v", o.ID, port, err)
			}
		}
	}
	for _, addr := range []string{rep.RTMP, rep.HTTP} {
		if err := tryListen(context.Background(), "tcp", addr); err != nil {
			t.Errorf("public address %s is not free: %v", addr, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "control.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is left: %v", err)
	}
}

func TestUpStatusDown(t *testing.T) {
	r := startUp(t, 3)
	out := r.out.String()
	for _, want := range []string{"ID ", "origin-2", "3/3 ready", "ffmpeg ", "rtmp://127.0.0.1:", "http://127.0.0.1:", ".m3u8"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out+r.errs.String(), "\x1b") || strings.Contains(out+r.errs.String(), "\r") {
		t.Errorf("escape codes off a terminal:\n%q", out+r.errs.String())
	}

	rep, code := r.status(t)
	if code != exitOK || rep.Totals.Ready != 3 || rep.PID != r.cmd.Process.Pid {
		t.Errorf("status: code %d, %+v", code, rep)
	}
	for _, o := range rep.Origins {
		allowed, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.PID))
		if err != nil || !strings.Contains(string(allowed), "Cpus_allowed_list:\t"+o.CPUs+"\n") {
			t.Errorf("%s: status shows CPUs %s, the kernel says otherwise (%v)", o.ID, o.CPUs, err)
		}
		if o.Ports.RTMP < r.portBase || o.Ports.RTMP >= r.portBase+10*3 {
			t.Errorf("%s has RTMP port %d, base is %d", o.ID, o.Ports.RTMP, r.portBase)
		}
	}
	table, _, code := run(t, command(t, r.dir, "status", "-o", "wide"))
	if code != exitOK || !strings.Contains(table, "VERSION") || strings.Contains(table, "\x1b") {
		t.Errorf("status -o wide: code %d\n%s", code, table)
	}

	// The first GET of a page that no origin has is the origin's 404.
	if body := httpGet(t, rep.HTTP, "/live/nothing.m3u8"); !strings.HasPrefix(body, "HTTP/1.1 404") {
		t.Errorf("a missing file is\n%s", body)
	}

	out, errs, code := run(t, command(t, r.dir, "down"))
	if code != exitOK || !strings.Contains(out, "has stopped") {
		t.Errorf("down: code %d, %s%s", code, out, errs)
	}
	// It has waited: the process is gone now, whatever its parent knows.
	wantGone(t, rep, r.dir)
	r.wait(t)
	if r.err != nil {
		t.Errorf("up ended with %v", r.err)
	}
	for _, name := range []string{"status", "down"} {
		if _, errs, code := run(t, command(t, r.dir, name)); code != exitNotRunning || !strings.Contains(errs, "not running") {
			t.Errorf("%s afterwards: code %d, %s", name, code, errs)
		}
	}
}

// httpGet makes one request on a bare connection.
func httpGet(t *testing.T, addr, path string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path)
	body, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestSignalsEndCleanly(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			r := startUp(t, 2)
			rep, _ := r.status(t)
			if err := r.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			r.wait(t)
			if r.err != nil {
				t.Errorf("ended with %v\n%s", r.err, r.errs.String())
			}
			wantGone(t, rep, r.dir)
		})
	}
}

// A log reader that goes away must not take the origins' supervisor with it.
func TestClosedOutputDoesNotKill(t *testing.T) {
	dir := socketDir(t)
	cmd := command(t, dir, "up", "--origins", "1", "--port-base", fmt.Sprint(freePorts(t, 10)))
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR.Close()
	cmd.Stdout, cmd.Stderr = outW, outW
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	outW.Close()
	r := &running{dir: dir, cmd: cmd, ended: make(chan struct{})}
	go func() { r.err = cmd.Wait(); close(r.ended) }()
	defer func() { cmd.Process.Signal(syscall.SIGTERM); r.wait(t) }()
	r.until(t, "ready origin", func() bool {
		_, _, code := run(t, command(t, dir, "status"))
		return code == exitOK
	})
}

// Whatever cannot work ends up at once with exit code 1 and says which and what to do.
func TestUpRefuses(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	me := fmt.Sprintf("pid %d", os.Getpid())
	base := freePorts(t, 20)
	originPort, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+10)) // RTMP of origin-1
	if err != nil {
		t.Fatal(err)
	}
	defer originPort.Close()
	dir := t.TempDir()
	notSRS := filepath.Join(dir, "not-srs")
	if err := os.WriteFile(notSRS, []byte("#!/bin/sh\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	broken := writeTemp(t, "broken.tmpl", "listen {{.Ports.RTMP}\n")
	refused := writeTemp(t, "refused.tmpl", "{{.Ports.RTMP}} {\n")

	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"busy rtmp port", []string{"--rtmp", held.Addr().String()}, []string{"(rtmp)", me, "--rtmp"}},
		{"busy http port", []string{"--http", held.Addr().String()}, []string{"(http)", me, "--http"}},
		{"busy origin port", []string{"--origins", "2"}, []string{fmt.Sprint(base + 10), "origin-1", me, "--port-base"}},
		{"not an SRS", []string{"--srs", notSRS}, []string{notSRS, "--srs"}},
		{"broken template", []string{"--template", broken}, []string{broken + ":1"}},
		{"template that makes no config", []string{"--template", refused}, []string{refused}},
		{"ports in the ephemeral range", []string{"--port-base", "40000"}, []string{"--port-base"}},
		{"CPUs that are not there", []string{"--origin-cpus", "4000"}, []string{"4000", "--origin-cpus"}},
		{"control socket is a file", []string{"--control", broken}, []string{broken, "no socket", "--control"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"up", "--origins", "1", "--port-base", fmt.Sprint(base)}, tt.args...)
			cmd := command(t, socketDir(t), args...)
			out, errs, code := run(t, cmd)
			if code != exitFailure {
				t.Errorf("exit code %d, want %d", code, exitFailure)
			}
			for _, w := range tt.want {
				if !strings.Contains(errs, w) {
					t.Errorf("message lacks %q:\n%s%s", w, out, errs)
				}
			}
		})
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	r := startUp(t, 1)
	_, errs, code := run(t, command(t, r.dir, "up", "--origins", "1"))
	if code != exitFailure || !strings.Contains(errs, fmt.Sprintf("already running as pid %d", r.cmd.Process.Pid)) {
		t.Errorf("second up: code %d, %s", code, errs)
	}
	// Its own socket does not give it the other one's state dir.
	_, errs, code = run(t, command(t, r.dir, "up", "--origins", "1", "--control", filepath.Join(r.dir, "other.sock")))
	if code != exitFailure || !strings.Contains(errs, fmt.Sprintf("pid %d", r.cmd.Process.Pid)) {
		t.Errorf("second up on another socket: code %d, %s", code, errs)
	}
	if _, code := r.status(t); code != exitOK {
		t.Errorf("the first one is no longer well: code %d", code)
	}
}

// A killed origin makes status degraded until it is back; then it is another process.
func TestStatusOfAKilledOrigin(t *testing.T) {
	r := startUp(t, 2)
	before, _ := r.status(t)
	victim := before.Origins[1]
	if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.until(t, "restarted origin", func() bool {
		rep, code := r.status(t)
		o := rep.Origins[1]
		if (code == exitOK) != (rep.Totals.Ready == 2) {
			t.Errorf("exit code %d with %d of 2 ready", code, rep.Totals.Ready)
		}
		return o.Restarts == 1 && code == exitOK && o.PID != victim.PID && o.PID != 0
	})
}

// config --origin prints the very file that the supervisor writes.
func TestConfigOriginIsTheRealOne(t *testing.T) {
	overlay := writeTemp(t, "vhosts.conf", "vhost a.example.com {\n    gop_cache off;\n    ingest x { enabled off; }\n}\n")
	r := startUp(t, 2, "--vhosts", overlay, "--max-connections", "321")
	for i := range 2 {
		out, errs, code := run(t, command(t, r.dir, "config", "--origin", fmt.Sprint(i), "--origins", "2",
			"--port-base", fmt.Sprint(r.portBase), "--vhosts", overlay, "--max-connections", "321"))
		if code != exitOK {
			t.Fatalf("config --origin %d: code %d, %s", i, code, errs)
		}
		rep, _ := r.status(t)
		file, err := os.ReadFile(filepath.Join(rep.Origins[i].WorkDir, "srs.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if out != string(file) {
			t.Errorf("config --origin %d differs from the file:\n%s\nfile:\n%s", i, out, file)
		}
		if _, err := srsconf.Parse("out", []byte(out)); err != nil {
			t.Error(err)
		}
	}
	if _, errs, code := run(t, command(t, r.dir, "config", "--origin", "2", "--origins", "2")); code != exitUsage || !strings.Contains(errs, "0 to 1") {
		t.Errorf("config of an origin that is not there: code %d, %s", code, errs)
	}
}

func TestCheckCommand(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	dir := socketDir(t)
	state := filepath.Join(dir, "not", "yet")
	base := []string{"check", "--origins", "2", "--port-base", fmt.Sprint(freePorts(t, 20)), "--state-dir", state}

	out, errs, code := run(t, command(t, dir, base...))
	if code != exitOK || strings.Contains(out, "FAIL") || !strings.Contains(out, "OK    config") {
		t.Errorf("check: code %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("check made the state dir: %v", err)
	}
	out, _, code = run(t, command(t, dir, append(base, "--rtmp", held.Addr().String())...))
	if code != exitFailure || !strings.Contains(out, fmt.Sprintf("held by pid %d", os.Getpid())) {
		t.Errorf("check of a busy port: code %d\n%s", code, out)
	}
	out, _, code = run(t, command(t, dir, append(base, "--max-connections", "1000000000")...))
	if code != exitFailure || !strings.Contains(out, "FAIL  nofile") || !strings.Contains(out, "flag --max-connections") {
		t.Errorf("check of too many connections: code %d\n%s", code, out)
	}
}

func TestUsageErrors(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"statsu"}, "did you mean status?"},
		{[]string{"up", "--origns", "3"}, "did you mean --origins?"},
		{[]string{"up", "now"}, "takes no arguments"},
		{[]string{"up", "--origins"}, "origins"},
		{[]string{"up", "--origins", "0"}, "flag --origins"},
		{[]string{"status", "-o", "yaml"}, "table, wide or json"},
		{[]string{"down", "--timeout", "0s"}, "--timeout"},
		{[]string{"origin"}, "-c FILE"},
		{[]string{"completion", "tcsh"}, "bash, zsh or fish"},
		{[]string{"completion"}, "bash, zsh or fish"},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			out, errs, code := run(t, command(t, t.TempDir(), tt.args...))
			if code != exitUsage || !strings.Contains(errs, tt.want) || out != "" {
				t.Errorf("code %d, stdout %q, stderr %q; want code %d and %q", code, out, errs, exitUsage, tt.want)
			}
		})
	}
}

func TestCompletionAsksTheProgram(t *testing.T) {
	dir := t.TempDir()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out, errs, code := run(t, command(t, dir, "completion", shell))
		if code != exitOK || !strings.Contains(out, "srs-proxy") {
			t.Errorf("completion %s: code %d, %s%s", shell, code, out, errs)
		}
	}
	out, _, code := run(t, command(t, dir, "--generate-bash-completion"))
	if code != exitOK || !strings.Contains(out, "status\n") || !strings.Contains(out, "up\n") {
		t.Errorf("commands: code %d, %q", code, out)
	}
	out, _, code = run(t, command(t, dir, "up", "--orig", "--generate-bash-completion"))
	if code != exitOK || !strings.Contains(out, "--origins\n") || !strings.Contains(out, "--origin-cpus\n") {
		t.Errorf("flags: code %d, %q", code, out)
	}
}

func TestOriginCommand(t *testing.T) {
	dir := t.TempDir()
	out, _, code := run(t, command(t, dir, "origin", "-v"))
	if code != exitOK || !strings.Contains(out, "built-in origin") {
		t.Errorf("origin -v: code %d, %q", code, out)
	}
	good := writeTemp(t, "good.conf", "listen 127.0.0.1:1935;\n")
	out, errs, code := run(t, command(t, dir, "origin", "-t", "-c", good))
	if code != exitOK || !strings.Contains(out, "is ok") {
		t.Errorf("origin -t: code %d, %s%s", code, out, errs)
	}
	bad := writeTemp(t, "bad.conf", "listen 1935;\nvhost {\n")
	if _, errs, code = run(t, command(t, dir, "origin", "-t", "-c", bad)); code != exitFailure || !strings.Contains(errs, "bad.conf:") {
		t.Errorf("origin -t of a broken config: code %d, %s", code, errs)
	}
	mute := writeTemp(t, "mute.conf", "max_connections 10;\n")
	if _, errs, code = run(t, command(t, dir, "origin", "-t", "-c", mute)); code != exitFailure || !strings.Contains(errs, "mute.conf") {
		t.Errorf("origin -t without a listener: code %d, %s", code, errs)
	}
}
