package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
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
)

// Bounds that a busy machine keeps; what is measured is in the table.
const (
	readyWithin = time.Minute
	stopWithin  = 15 * time.Second
)

// instance is an `srs-proxy up`: one process after the other, if it is killed.
type instance struct {
	t        *testing.T
	stateDir string
	control  string // the socket; outside of the state dir, which may be full
	rtmp     string
	http     string
	public   string // the HTTP API
	first    int    // of its ports
	args     []string
	within   []string // what runs the program: it and args follow; empty for nothing
	log      output
	api      http.Client

	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd was waited for

	mu   sync.Mutex   // guards the following
	pids map[int]bool // of all origins that were seen
	last int          // the highest port of theirs
}

// output collects what a process prints, readable while it runs.
type output struct {
	stopped sync.Mutex // held by who wants nothing to be read

	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.stopped.Lock()
	o.stopped.Unlock() //nolint:staticcheck // it is a gate
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// stop has nothing be read until what it returns is called.
func (o *output) stop() (goOn func()) {
	o.stopped.Lock()
	return sync.OnceFunc(o.stopped.Unlock)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// up starts an instance and waits until all origins are ready. spare is for how many
// more origins there have to be ports.
func up(t *testing.T, origins, spare int, flags ...string) *instance {
	t.Helper()
	in := newInstance(t, origins, spare, flags...)
	in.start()
	in.waitReady(origins)
	return in
}

// newInstance is one that is still to be started.
func newInstance(t *testing.T, origins, spare int, flags ...string) *instance {
	t.Helper()
	first := freePorts(t, (origins+spare+1)*perOrigin)
	dir := t.TempDir()
	in := &instance{
		t: t, stateDir: filepath.Join(dir, "s"), control: filepath.Join(dir, "control"), first: first, last: first + perOrigin - 1,
		rtmp: fmt.Sprintf("127.0.0.1:%d", first), http: fmt.Sprintf("127.0.0.1:%d", first+1),
		public: fmt.Sprintf("127.0.0.1:%d", first+2),
		pids:   make(map[int]bool),
	}
	in.args = append([]string{
		"up", "--origins", strconv.Itoa(origins), "--srs", suite.srs, "--state-dir", in.stateDir, "--control", in.control,
		"--rtmp", in.rtmp, "--http", in.http, "--api", in.public, "--srt", fmt.Sprintf("127.0.0.1:%d", first+3), "--webrtc", fmt.Sprintf("127.0.0.1:%d", first+4), "--port-base", strconv.Itoa(first + perOrigin), "--log-format", "json",
		// SRS would decode the audio of every publisher, for WebRTC, and end who sends what it
		// cannot decode, as our frames are.
		"--rtmp-to-rtc", "off",
	}, flags...)
	in.api.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", in.control)
	}}
	t.Cleanup(func() {
		if in.running() {
			in.stop()
		}
		in.api.CloseIdleConnections()
		in.checkNothingLeft()
		if t.Failed() {
			t.Logf("%s\n%s\nall of it: %s", strings.Join(in.args, " "), tail(in.log.String(), 25), in.keepLog())
		}
	})
	return in
}

// keepLog writes the log to where it outlives the test, and tells where.
func (in *instance) keepLog() string {
	f, err := os.CreateTemp("", in.t.Name()+"-*.log")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if _, err := f.WriteString(in.log.String()); err != nil {
		return err.Error()
	}
	return f.Name()
}

// tail is the end of a log, without the sessions, of which there are hundreds.
func tail(text string, lines int) string {
	all := slices.DeleteFunc(strings.Split(strings.TrimSpace(text), "\n"), func(l string) bool { return strings.Contains(l, `"msg":"session `) })
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// start begins another process on the same state dir.
func (in *instance) start() {
	in.t.Helper()
	argv := append(append(slices.Clone(in.within), suite.program), in.args...)
	in.cmd = exec.Command(argv[0], argv[1:]...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PROXY_") && !strings.HasPrefix(v, "SRS_") {
			in.cmd.Env = append(in.cmd.Env, v)
		}
	}
	in.cmd.Stderr = &in.log // the table on stdout is not of interest
	if err := in.cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	cmd, ended := in.cmd, make(chan struct{})
	in.ended = ended
	go func() {
		_ = cmd.Wait() // its outcome is in ProcessState
		close(ended)
	}()
}

func (in *instance) running() bool {
	if in.cmd == nil {
		return false
	}
	select {
	case <-in.ended:
		return false
	default:
		return true
	}
}

func (in *instance) pid() int { return in.cmd.Process.Pid }

// waitReady waits until so many origins are there, and all of them ready.
func (in *instance) waitReady(origins int) time.Duration {
	in.t.Helper()
	return eventually(in.t, readyWithin, fmt.Sprintf("%d origins ready", origins), func() (bool, string) {
		if !in.running() {
			in.t.Fatalf("up ended: %s\n%s", in.cmd.ProcessState, tail(in.log.String(), 20))
		}
		s, err := in.status()
		return err == nil && len(s.unready()) == 0 && s.Totals.Origins == origins,
			fmt.Sprintf("error %v, %d of %d ready, not ready: %s", err, s.Totals.Ready, s.Totals.Origins, strings.Join(s.unready(), "; "))
	})
}

// stop ends the instance as systemd does and returns how long that took.
func (in *instance) stop() time.Duration {
	in.t.Helper()
	start := time.Now()
	_ = in.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-in.ended:
	case <-time.After(stopWithin + 15*time.Second):
		in.t.Errorf("up still runs %s after SIGTERM", time.Since(start).Round(time.Second))
		_ = in.cmd.Process.Kill()
		<-in.ended
	}
	if code := in.cmd.ProcessState.ExitCode(); code != 0 {
		in.t.Errorf("SIGTERM: exit code %d, want 0", code)
	}
	return time.Since(start)
}

// command runs one on this instance.
func (in *instance) command(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, suite.program, append(args[:1:1], append([]string{"--state-dir", in.stateDir, "--control", in.control}, args[1:]...)...)...)
	cmd.Env = in.cmd.Env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// status is what `status -o json` prints.
type status struct {
	Origins []originStatus `json:"origins"`
	Cgroups string         `json:"cgroups"`
	Totals  struct{ Origins, Ready, Restarts int }
}

type originStatus struct {
	ID        string `json:"id"`
	Role      string `json:"role"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
	PID       int    `json:"pid"`
	Restarts  int    `json:"restarts"`
	ServiceID string `json:"service_id"`
	WorkDir   string `json:"work_dir"`
	LastExit  string `json:"last_exit"`
	Exit      struct {
		PID int
		OOM bool
	}
	Ports struct{ RTMP, API int }
}

// unready are the current origins that are not ready.
func (s status) unready() (names []string) {
	for _, o := range s.Origins {
		if o.Role == "" && o.State != "ready" {
			names = append(names, fmt.Sprintf("%s %s %s", o.ID, o.State, o.Reason))
		}
	}
	return names
}

// current are the origins that are not just coming or going.
func (s status) current() (found []originStatus) {
	for _, o := range s.Origins {
		if o.Role == "" {
			found = append(found, o)
		}
	}
	return found
}

// status asks the control socket, as the command does, without a process.
func (in *instance) status() (status, error) { return in.ask("status") }

// ask is for the origins: as "status", which asks all of them for what they serve, or as
// "origins", which asks none and can be asked all the time.
func (in *instance) ask(what string) (status, error) {
	var s status
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := getJSON(ctx, &in.api, "http://control/v1/"+what, &s); err != nil {
		return s, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, o := range s.Origins {
		if o.PID != 0 {
			in.pids[o.PID] = true
			in.last = max(in.last, o.Ports.RTMP+perOrigin-1)
		}
	}
	return s, nil
}

func (in *instance) mustStatus() status {
	in.t.Helper()
	s, err := in.status()
	if err != nil {
		in.t.Fatal(err)
	}
	return s
}

func getJSON(ctx context.Context, c *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// streams are the names that each origin has a publisher for, by its ID: the
// origins say so themselves.
func (in *instance) streams() map[string][]string {
	in.t.Helper()
	found := make(map[string][]string)
	for _, o := range in.mustStatus().Origins {
		if o.State != "ready" && o.State != "draining" && o.State != "degraded" {
			continue
		}
		var reply struct {
			Streams []struct {
				Name    string
				Publish struct{ Active bool }
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := getJSON(ctx, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/api/v1/streams/?count=10000", o.Ports.API), &reply)
		cancel()
		if err != nil {
			continue // it may be going
		}
		for _, s := range reply.Streams {
			if s.Publish.Active {
				// SRS names a stream as who came first wrote it: a player over HTTP-FLV
				// that was there before the publisher wrote an extension.
				found[o.ID] = append(found[o.ID], strings.TrimSuffix(s.Name, ".flv"))
			}
		}
	}
	return found
}

// homes are the origins that a stream is published on.
func (in *instance) homes(name string) (ids []string) {
	for id, names := range in.streams() {
		if slices.Contains(names, name) {
			ids = append(ids, id)
		}
	}
	return ids
}

// told is the end of what the log says of something.
func (in *instance) told(of string) string {
	all := slices.DeleteFunc(strings.Split(in.log.String(), "\n"), func(l string) bool { return !strings.Contains(l, of) })
	return strings.Join(all[max(0, len(all)-12):], "\n")
}

// logged is when the first line after a time, with a message that begins like this
// and of this origin (or none, for ""), was logged.
func (in *instance) logged(origin, message string, after time.Time) (time.Time, bool) {
	for line := range strings.Lines(in.log.String()) {
		if !strings.Contains(line, message) {
			continue // there are many, and it takes time to read one
		}
		var l struct {
			Time        time.Time
			Msg, Origin string
		}
		if json.Unmarshal([]byte(line), &l) == nil && l.Time.After(after) && l.Origin == origin && strings.HasPrefix(l.Msg, message) {
			return l.Time, true
		}
	}
	return time.Time{}, false
}

// checkNothingLeft proves that an instance that has ended left no process, no zombie
// and no port.
func (in *instance) checkNothingLeft() {
	in.t.Helper()
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")); err == nil && bytes.Contains(args, []byte(in.stateDir)) {
			in.t.Errorf("a process is left: pid %d, %s", pid, bytes.ReplaceAll(args, []byte{0}, []byte{' '}))
			_ = syscall.Kill(pid, syscall.SIGKILL) // the state dir is in its command line, so it is ours
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for pid := range in.pids {
		// An orphan is our child. One that the next supervisor adopted and ended is a
		// zombie until we wait for it, which is our part and not its.
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
	for port := in.first; port <= in.last; port++ {
		if err := bindable(port); err != nil {
			in.t.Errorf("port %d cannot be bound: %v", port, err)
		}
	}
	for _, word := range []string{"panic:", "panic in", "fatal error", "state machine", "goroutine "} {
		if strings.Contains(in.log.String(), word) {
			in.t.Errorf("the log has %q", word)
		}
	}
}

// Where ports are sought: below the ephemeral range of Linux.
const (
	portsFrom = 10000
	portsTo   = 32700
	perOrigin = 10 // as the port plan has it
)

// freePorts finds a run of ports, each of which can be bound.
func freePorts(t *testing.T, n int) int {
	t.Helper()
search:
	for range 200 {
		first := portsFrom + rand.IntN((portsTo-portsFrom-n)/perOrigin)*perOrigin
		for p := first; p < first+n; p++ {
			if bindable(p) != nil {
				continue search
			}
		}
		return first
	}
	t.Fatalf("no %d free ports in a row from %d to %d", n, portsFrom, portsTo)
	return 0
}

// bindable binds a port as nobody shares it: without SO_REUSEPORT, on all
// interfaces, so that a listener on any address is seen.
func bindable(port int) error {
	addr := fmt.Sprintf("0.0.0.0:%d", port)
	ln, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	c, err := net.ListenPacket("udp4", addr)
	if err == nil {
		err = c.Close()
	}
	return errors.Join(err, ln.Close())
}
