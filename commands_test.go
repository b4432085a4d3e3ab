package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"srs-proxy/supervisor"
	"srs-proxy/testkit"
)

// These run each command against a running instance.

// do runs a command that has to end with a code, and returns what it printed.
func (r *running) do(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	out, errs, got := run(t, command(t, r.dir, args...))
	if got != code {
		t.Fatalf("%s: code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, out, errs)
	}
	return out, errs
}

// ids lists the processes of all origins, with their pids.
func (r *running) ids(t *testing.T) (ids []string, pids map[string]int) {
	t.Helper()
	rep, _ := r.status(t)
	pids = make(map[string]int)
	for _, o := range rep.Origins {
		ids = append(ids, o.ID)
		pids[o.ID] = o.PID
	}
	return ids, pids
}

// awaitIDs waits until there are exactly these processes.
func (r *running) awaitIDs(t *testing.T, want ...string) map[string]int {
	t.Helper()
	var pids map[string]int
	r.until(t, strings.Join(want, " "), func() bool {
		var ids []string
		ids, pids = r.ids(t)
		return slices.Equal(ids, want)
	})
	return pids
}

func wantText(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, text)
		}
	}
}

func TestScaleCommand(t *testing.T) {
	r := startUp(t, 2)
	before := r.awaitIDs(t, "origin-0", "origin-1")
	out, _ := r.do(t, exitOK, "scale", "4")
	wantText(t, "scale 4", out, "origin-2 is ready", "origin-3 is ready", "there are 4 origins now")
	pids := r.awaitIDs(t, "origin-0", "origin-1", "origin-2", "origin-3")
	out, _ = r.do(t, exitOK, "scale", "1", "-o", "json")
	var res opResult
	if err := json.Unmarshal([]byte(out), &res); err != nil || res.Operation != "scale" || res.Error != "" {
		t.Errorf("%+v, %v", res, err)
	}
	after := r.awaitIDs(t, "origin-0")
	if before["origin-0"] != pids["origin-0"] || before["origin-1"] != pids["origin-1"] || after["origin-0"] != before["origin-0"] {
		t.Errorf("pids %v, then %v, then %v", before, pids, after)
	}
	for arg, want := range map[string]string{"0": "1 to 1024", "many": "1 to 1024", "2000": "1 to 1024"} {
		_, errs := r.do(t, exitUsage, "scale", arg)
		wantText(t, "scale "+arg, errs, arg, want)
	}
	r.do(t, exitUsage, "scale")
	r.awaitIDs(t, "origin-0")
}

func TestDrainCommand(t *testing.T) {
	r := startUp(t, 3)
	desired := func() string {
		rep, _ := r.status(t)
		var all []string
		for _, o := range rep.Origins {
			all = append(all, string(o.Desired))
		}
		return strings.Join(all, " ")
	}
	out, _ := r.do(t, exitOK, "drain", "1", "origin-2")
	wantText(t, "drain", out, "origin-1 drains (nobody uses it)", "origin-1 and origin-2 take no new streams")
	if got := desired(); got != "run drain drain" {
		t.Errorf("desired %s", got)
	}
	// Drained is what is wanted, so all is well.
	if _, code := r.status(t); code != exitOK {
		t.Errorf("status of drained origins has code %d", code)
	}
	out, errs := r.do(t, exitOK, "drain", "2", "--wait", "--timeout", "50s")
	wantText(t, "drain --wait", errs, "nobody uses origin-2 any more")
	wantText(t, "drain --wait", out, "origin-2 takes no new streams")
	r.do(t, exitOK, "undrain", "origin-1")
	if got := desired(); got != "run run drain" {
		t.Errorf("desired %s", got)
	}
	r.do(t, exitOK, "undrain", "--all")
	r.do(t, exitOK, "drain", "-a")
	if got := desired(); got != "drain drain drain" {
		t.Errorf("desired %s", got)
	}
	out, _ = r.do(t, exitOK, "undrain", "--all")
	wantText(t, "undrain --all", out, "all origins take new streams")

	for _, name := range []string{"drain", "undrain", "restart"} {
		_, errs = r.do(t, exitFailure, name, "3")
		wantText(t, name+" 3", errs, "there is no origin-3; there are origin-0, origin-1, origin-2")
		_, errs = r.do(t, exitFailure, name, "0", "oorigin-1")
		wantText(t, name+" oorigin-1", errs, "did you mean origin-1?")
		_, errs = r.do(t, exitUsage, name)
		wantText(t, name, errs, "--all")
		_, errs = r.do(t, exitUsage, name, "1", "--all")
		wantText(t, name, errs, "not both")
	}
	if got := desired(); got != "run run run" {
		t.Errorf("after commands that failed: desired %s", got)
	}
	r.do(t, exitUsage, "drain", "1", "--timeout", "1m")
	r.do(t, exitUsage, "drain", "1", "-o", "yaml")
}

func TestRestartCommand(t *testing.T) {
	r := startUp(t, 2)
	before := r.awaitIDs(t, "origin-0", "origin-1")
	out, _ := r.do(t, exitOK, "restart", "1")
	wantText(t, "restart", out, "origin-1.1 is ready", "origin-1 drains", "restarted 1 origin")
	pids := r.awaitIDs(t, "origin-0", "origin-1.1")
	if pids["origin-0"] != before["origin-0"] {
		t.Errorf("the other origin is another process too: %v, then %v", before, pids)
	}
	// The place is still called origin-1, and its process may be named.
	r.do(t, exitOK, "restart", "origin-1")
	r.awaitIDs(t, "origin-0", "origin-1")
	out, _ = r.do(t, exitOK, "restart", "--all")
	wantText(t, "restart --all", out, "restarted 2 origins")
	r.awaitIDs(t, "origin-0.1", "origin-1.1")
	r.do(t, exitOK, "restart", "1.1")
	r.awaitIDs(t, "origin-0.1", "origin-1")
	r.do(t, exitOK, "scale", "9")
	out, _ = r.do(t, exitOK, "restart", "--all")
	wantText(t, "restart --all of many", out, "replacing 9 origins, 8 at a time", "origin-8.1 is ready", "restarted 9 origins")
}

// Ctrl-C ends the command only.
func TestInterruptedCommandGoesOn(t *testing.T) {
	r := startUp(t, 1)
	cmd := command(t, r.dir, "scale", "4")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs testkit.Log
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The first line says that it has begun.
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGINT)
	io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil {
		t.Skip("it was done before the signal came")
	}
	if code := cmd.ProcessState.ExitCode(); code != exitFailure {
		t.Errorf("code %d", code)
	}
	wantText(t, "scale, interrupted", errs.String(), "goes on without this command")
	r.awaitIDs(t, "origin-0", "origin-1", "origin-2", "origin-3")
}

func TestCommandsWithoutAnInstance(t *testing.T) {
	dir := socketDir(t)
	for _, args := range []string{"scale 3", "drain 1", "undrain --all", "restart 1", "reload", "streams", "kick live/a", "logs", "logs -f"} {
		_, errs, code := run(t, command(t, dir, strings.Fields(args)...))
		if code != exitNotRunning || !strings.Contains(errs, "not running") {
			t.Errorf("%s: code %d, %s", args, code, errs)
		}
	}
	for _, args := range []string{"streams -o yaml", "streams --sort size", "streams now", "kick", "kick a b", "logs a b", "logs -n some", "reload now", "restart --al"} {
		if _, errs, code := run(t, command(t, dir, strings.Fields(args)...)); code != exitUsage {
			t.Errorf("%s: code %d, %s", args, code, errs)
		}
	}
}

// Each command explains itself, with an example.
func TestHelpOfCommands(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"scale", "drain", "undrain", "restart", "reload", "streams", "kick", "logs"} {
		out, errs, code := run(t, command(t, dir, name, "--help"))
		if code != exitOK || !strings.Contains(out, "Example") || !strings.Contains(out, "srs-proxy "+name) || !strings.Contains(out, "3 not running") {
			t.Errorf("%s --help: code %d\n%s%s", name, code, out, errs)
		}
	}
}

func TestCompletionOfOrigins(t *testing.T) {
	r := startUp(t, 2)
	for _, name := range []string{"drain", "undrain", "restart", "logs"} {
		out, _ := r.do(t, exitOK, name, "--generate-bash-completion")
		if out != "origin-0\norigin-1\n" {
			t.Errorf("%s: %q", name, out)
		}
		out, _ = r.do(t, exitOK, name, "--state", "--generate-bash-completion")
		if out != "--state-dir\n" {
			t.Errorf("%s --state: %q", name, out)
		}
	}
	dir := socketDir(t)
	if out, errs, _ := run(t, command(t, dir, "drain", "--generate-bash-completion")); out != "" || errs != "" {
		t.Errorf("without an instance: %q %q", out, errs)
	}
}

// behind listens on an address of its own and hands connections on to the proxy, so
// that this sees a client of that address.
func behind(t *testing.T, ip, to string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
			up, err := d.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			go func() { io.Copy(up, c); up.Close() }()
			go func() { io.Copy(c, up); c.Close() }()
		}
	}()
	return ln.Addr().String()
}

// ffmpeg runs until the test ends.
func ffmpeg(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Skip("no ffmpeg here: ", err)
	}
	cmd := exec.Command(path, append([]string{"-v", "error", "-nostdin"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func publishTo(t *testing.T, url string) *exec.Cmd {
	t.Helper()
	return ffmpeg(t, "-re", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10", "-f", "lavfi", "-i", "sine",
		"-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-c:a", "aac", "-f", "flv", url)
}

func (r *running) streams(t *testing.T) streamsReport {
	t.Helper()
	out, _ := r.do(t, exitOK, "streams", "-o", "json")
	var rep streamsReport
	if err := json.Unmarshal([]byte(out), &rep); err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestStreamsAndKick(t *testing.T) {
	r := startUp(t, 2)
	rep, _ := r.status(t)
	if out, _ := r.do(t, exitOK, "streams"); !strings.HasPrefix(out, "STREAM ") {
		t.Errorf("no streams: %q", out)
	}
	one := publishTo(t, "rtmp://"+behind(t, "127.0.0.5", rep.RTMP)+"/live/one?token=secret")
	publishTo(t, "rtmp://"+rep.RTMP+"/live/two")
	ffmpeg(t, "-i", "rtmp://"+rep.RTMP+"/live/one", "-f", "null", "-")
	var found streamsReport
	r.until(t, "both streams, with codecs and a player", func() bool {
		found = r.streams(t)
		return len(found.Streams) == 2 && found.Streams[0].Players == 1 && found.Streams[0].Audio == "AAC" && found.Streams[1].Video == "H264"
	})
	s := found.Streams[0]
	if s.title() != "live/one" || s.Publisher == nil || s.Publisher.Client != "127.0.0.5" || s.Publisher.ID == "" || s.Width != 160 {
		t.Errorf("stream %+v, publisher %+v", s, s.Publisher)
	}
	out, _ := r.do(t, exitOK, "streams", "-o", "wide", "--sort", "players")
	wantText(t, "streams -o wide", out, "H264 AAC", "160x120", s.Publisher.ID, "127.0.0.5")
	if strings.Contains(out, "secret") {
		t.Errorf("a token is shown:\n%s", out)
	}
	if out, _ := r.do(t, exitOK, "kick", "--generate-bash-completion"); out != "live/one\nlive/two\n" {
		t.Errorf("completion %q", out)
	}

	_, errs := r.do(t, exitFailure, "kick", "live/onee")
	wantText(t, "kick live/onee", errs, "did you mean live/one?")
	_, errs = r.do(t, exitFailure, "kick", "one")
	wantText(t, "kick one", errs, "did you mean the stream live/one?")

	out, _ = r.do(t, exitOK, "kick", "live/one")
	wantText(t, "kick", out, "ended the publisher of live/one at "+s.Origin, s.Publisher.ID)
	ended := make(chan error, 1)
	go func() { ended <- one.Wait() }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("the publisher was not ended")
	}
	r.until(t, "no publisher of live/one", func() bool {
		all := r.streams(t).Streams
		return !slices.ContainsFunc(all, func(s streamInfo) bool { return s.Name == "one" && s.Publisher != nil })
	})
	// One client by its ID, with the answer for programs.
	two := r.streams(t).Streams
	two = slices.DeleteFunc(two, func(s streamInfo) bool { return s.Name != "two" })
	if len(two) != 1 || two[0].Publisher == nil {
		t.Fatalf("streams %+v", two)
	}
	out, _ = r.do(t, exitOK, "kick", two[0].Publisher.ID, "-o", "json")
	var kicked kickReport
	if err := json.Unmarshal([]byte(out), &kicked); err != nil || len(kicked.Kicked) != 1 || kicked.Kicked[0].Stream != "live/two" || kicked.Kicked[0].Origin != two[0].Origin || !kicked.Kicked[0].Publish {
		t.Errorf("kick of a client: %s, %v", out, err)
	}
	r.until(t, "no publisher at all", func() bool {
		return !slices.ContainsFunc(r.streams(t).Streams, func(s streamInfo) bool { return s.Publisher != nil })
	})
}

func TestKickAll(t *testing.T) {
	r := startUp(t, 2)
	rep, _ := r.status(t)
	publishTo(t, "rtmp://"+rep.RTMP+"/live/all")
	for range 2 {
		ffmpeg(t, "-i", "rtmp://"+rep.RTMP+"/live/all", "-f", "null", "-")
	}
	// Players may be there before the publisher: an origin has them wait.
	r.until(t, "a publisher and two players", func() bool {
		all := r.streams(t).Streams
		return len(all) == 1 && all[0].Publisher != nil && all[0].Players == 2
	})
	out, _ := r.do(t, exitOK, "kick", "live/all", "--all")
	wantText(t, "kick --all", out, "ended the publisher of live/all", "ended 2 players of live/all")
	r.until(t, "no stream", func() bool { return len(r.streams(t).Streams) == 0 })
}

// An origin that hangs makes streams partial, not impossible.
func TestStreamsOfAHungOrigin(t *testing.T) {
	r := startUp(t, 2)
	rep, _ := r.status(t)
	publishTo(t, "rtmp://"+rep.RTMP+"/live/a")
	var at string
	r.until(t, "the stream", func() bool {
		all := r.streams(t).Streams
		if len(all) == 1 {
			at = all[0].Origin
		}
		return len(all) == 1
	})
	i := slices.IndexFunc(rep.Origins, func(o supervisor.OriginStatus) bool { return o.ID != at })
	hung := rep.Origins[i]
	if err := syscall.Kill(hung.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(hung.PID, syscall.SIGCONT)
	out, errs := r.do(t, exitDegraded, "streams")
	wantText(t, "streams", out, "live/a", at)
	wantText(t, "warning", errs, "missing: "+hung.ID+" does not answer within 1s")
}

// logs -f shows each line once, through rotations by the supervisor.
func TestLogsFollowThroughRotation(t *testing.T) {
	r := startUp(t, 2, "--log-max-size", "64K", "--log-keep", "5")
	path := filepath.Join(r.dir, "origin-1", "srs.log")
	line := func(n int) string { return fmt.Sprintf("marked line %d %s\n", n, strings.Repeat("x", 100)) }
	add := func(from, to int) {
		t.Helper()
		var b strings.Builder
		for n := from; n < to; n++ {
			b.WriteString(line(n))
		}
		write(t, path, b.String())
	}
	add(0, 10)
	cmd := command(t, r.dir, "logs", "-f", "-n", "0", "1")
	var out testkit.Log
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("logs -f ends with %v", err)
		}
	}()
	seen := regexp.MustCompile(`marked line (\d+) `)
	shown := func() []string {
		var all []string
		for _, m := range seen.FindAllStringSubmatch(out.String(), -1) {
			all = append(all, m[1])
		}
		return all
	}
	// It has begun when it shows a line.
	last := 10
	r.until(t, "a followed line", func() bool {
		add(last, last+1)
		last++
		return len(shown()) > 0
	})
	for rotation := 1; rotation <= 2; rotation++ {
		add(last, last+700)
		last += 700
		r.until(t, fmt.Sprintf("rotation %d", rotation), func() bool {
			st, err := os.Stat(fmt.Sprintf("%s.%d", path, rotation))
			now, nowErr := os.Stat(path)
			return err == nil && st.Size() > 0 && nowErr == nil && now.Size() < 64<<10
		})
	}
	add(last, last+5)
	last += 5
	r.until(t, "the last line", func() bool { all := shown(); return len(all) > 0 && all[len(all)-1] == fmt.Sprint(last-1) })
	all := shown()
	var first int
	fmt.Sscan(all[0], &first)
	for i, n := range all {
		if n != fmt.Sprint(first+i) {
			t.Fatalf("line %d is followed by line %s", first+i-1, n)
		}
	}
	if first < 10 {
		t.Errorf("-n 0 begins with line %d", first)
	}
	if got, _ := r.do(t, exitOK, "logs", "-n", "all", "1"); strings.Count(got, "marked line ") != last {
		t.Errorf("logs -n all shows %d lines of %d", strings.Count(got, "marked line "), last)
	}
	if got, _ := r.do(t, exitOK, "logs", "1", "-n", "3"); strings.Count(got, "\n") != 3 {
		t.Errorf("logs -n 3 shows\n%s", got)
	}
	_, errs := r.do(t, exitFailure, "logs", "7")
	wantText(t, "logs 7", errs, "there is no origin-7")
}

// What the origins wrote can be read after the end, with a word about that.
func TestLogsAfterTheEnd(t *testing.T) {
	r := startUp(t, 2)
	write(t, filepath.Join(r.dir, "origin-0", "srs.log"), "[2026-01-01 00:00:00.000] last words\n")
	r.do(t, exitOK, "down")
	r.wait(t)
	out, errs := r.do(t, exitOK, "logs", "-n", "all")
	wantText(t, "logs", out, "origin-0 | [2026-01-01 00:00:00.000] last words")
	wantText(t, "logs", errs, "not running")
	r.do(t, exitNotRunning, "logs", "-f")
}
