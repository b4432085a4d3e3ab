package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Bounds that a machine under load keeps; what is measured is logged.
const (
	readyWithin = 20 * time.Second
	stopWithin  = 20 * time.Second
)

// instance is a running `srs-proxy up`.
type instance struct {
	t        *testing.T
	cmd      *exec.Cmd
	args     []string
	stateDir string
	ports    block
	on       *host // nil is where the test is
	out, err output
	ended    chan struct{} // closed when the process was waited for

	mu   sync.Mutex // guards the following
	pids map[int]bool
}

// output collects what a process prints, readable while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// launch starts `up` and does not wait for anything. Flags given later win.
func launch(t *testing.T, origins int, flags ...string) *instance {
	t.Helper()
	return newInstance(t, origins, flags...).start()
}

// newInstance decides on ports, folder and flags.
func newInstance(t *testing.T, origins int, flags ...string) *instance {
	t.Helper()
	in := &instance{
		t: t, stateDir: filepath.Join(t.TempDir(), "s"), ports: freePorts(t, origins),
		ended: make(chan struct{}), pids: make(map[int]bool),
	}
	srs := suite.srs
	if srs == "" {
		srs = "builtin"
	}
	in.args = append([]string{
		"up", "--origins", strconv.Itoa(origins), "--srs", srs, "--state-dir", in.stateDir,
		"--rtmp", in.rtmp(), "--http", in.http(), "--api", in.api(), "--srt", in.srt(), "--webrtc", in.webrtc(), "--port-base", strconv.Itoa(in.ports.base),
	}, flags...)
	in.cmd = exec.Command(suite.binary, in.args...)
	in.cmd.Env = cleanEnv()
	in.cmd.Stdout, in.cmd.Stderr = &in.out, &in.err
	return in
}

func (in *instance) start() *instance {
	in.t.Helper()
	var err error
	in.on.do(in.t, func() { err = in.cmd.Start() })
	if err != nil {
		in.t.Fatal(err)
	}
	go func() {
		_ = in.cmd.Wait() // its outcome is in ProcessState
		close(in.ended)
	}()
	in.t.Cleanup(func() {
		if in.running() {
			in.stop()
		}
		in.checkNothingLeft()
		in.checkLog()
		if in.t.Failed() {
			in.t.Logf("%s\n%s%s", strings.Join(in.args, " "), in.out.String(), in.err.String())
		}
	})
	return in
}

// up starts an instance and waits until all origins are ready.
func up(t *testing.T, origins int, flags ...string) *instance {
	t.Helper()
	return launch(t, origins, flags...).waitReady(readyWithin)
}

// cleanEnv is ours without what would configure the program.
func cleanEnv(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PROXY_") && !strings.HasPrefix(v, "SRS_") && !strings.HasPrefix(v, "NO_COLOR=") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

func (in *instance) rtmp() string   { return in.on.at(in.ports.RTMP) }
func (in *instance) http() string   { return in.on.at(in.ports.HTTP) }
func (in *instance) srt() string    { return in.on.at(in.ports.SRT) }
func (in *instance) api() string    { return in.on.at(in.ports.API) }
func (in *instance) webrtc() string { return in.on.at(in.ports.WebRTC) }

// stream is the public URL of a stream: rtmp, flv, ts, m3u8...
func (in *instance) stream(proto, path string) string {
	if proto == "rtmp" {
		return "rtmp://" + in.rtmp() + "/" + path
	}
	return "http://" + in.http() + "/" + path + "." + proto
}

func (in *instance) running() bool {
	select {
	case <-in.ended:
		return false
	default:
		return true
	}
}

func (in *instance) waitReady(within time.Duration) *instance {
	in.t.Helper()
	eventually(in.t, within, "all origins ready", func() (bool, string) {
		if !in.running() {
			in.t.Fatalf("up ended: %s\n%s", in.cmd.ProcessState, in.err.String())
		}
		s, code := in.tryStatus()
		return code == 0 && s.Totals.Ready == s.Totals.Origins, fmt.Sprintf("exit code %d, %d of %d ready", code, s.Totals.Ready, s.Totals.Origins)
	})
	return in
}

// waitEnd waits for the process and returns its exit code.
func (in *instance) waitEnd(within time.Duration) int {
	in.t.Helper()
	select {
	case <-in.ended:
		return in.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		in.t.Errorf("up still runs after %s", within)
		_ = in.cmd.Process.Signal(syscall.SIGABRT) // its goroutines are in the log then
		<-in.ended
		return -1
	}
}

// stop ends the instance by SIGTERM, as systemd does.
func (in *instance) stop() {
	in.t.Helper()
	in.signal(syscall.SIGTERM)
	if code := in.waitEnd(stopWithin); code != 0 {
		in.t.Errorf("SIGTERM: exit code %d, want 0", code)
	}
}

func (in *instance) signal(s syscall.Signal) {
	in.t.Helper()
	if err := in.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		in.t.Fatalf("%s: %v", s, err)
	}
}

// status is what `status -o json` prints.
type status struct {
	PID      int            `json:"pid"`
	Software string         `json:"software"`
	Origins  []originStatus `json:"origins"`
	RTMP     string         `json:"rtmp"`
	HTTP     string         `json:"http"`
	Cgroups  string         `json:"cgroups"`
	Totals   struct{ Origins, Ready, Restarts, Streams, Publishers, Players int }
}

type originStatus struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Reason   string `json:"reason"`
	PID      int    `json:"pid"`
	CPUs     string `json:"cpus"`
	Restarts int    `json:"restarts"`
	Ports    struct{ RTMP, HTTP, API int }
	Streams  int    `json:"streams"`
	Players  int    `json:"players"`
	LogFile  string `json:"log_file"`
	LastExit string `json:"last_exit"`
	Exit     struct {
		OOM bool `json:"oom"`
		PID int  `json:"pid"`
	} `json:"exit"`
	Limits     string   `json:"limits"`
	NotInForce []string `json:"limits_not_in_force"`
}

func (s status) origin(id string) originStatus {
	for _, o := range s.Origins {
		if o.ID == id {
			return o
		}
	}
	return originStatus{}
}

func (in *instance) tryStatus() (status, int) {
	in.t.Helper()
	r := srsProxy(in.t, "status", "-o", "json", "--state-dir", in.stateDir)
	var s status
	if r.code != 0 && r.code != 4 {
		return s, r.code
	}
	if err := json.Unmarshal([]byte(r.out), &s); err != nil {
		in.t.Fatalf("status -o json: %v\n%s", err, r.out)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, o := range s.Origins {
		if o.PID != 0 {
			in.pids[o.PID] = true
		}
	}
	return s, r.code
}

func (in *instance) status() status {
	in.t.Helper()
	s, code := in.tryStatus()
	if code != 0 && code != 4 {
		in.t.Fatalf("status: exit code %d", code)
	}
	return s
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

func srsProxy(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, exec.Command(suite.binary, args...))
}

// run bounds a command: one that hangs is ended, and seen as code -1.
func run(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	if cmd.Env == nil {
		cmd.Env = cleanEnv()
	}
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &errs
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatal(err)
	}
	return result{code: cmd.ProcessState.ExitCode(), out: out.String(), err: errs.String()}
}

// api asks an origin's own API.
func (o originStatus) api(t *testing.T, path string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r := get(t, ctx, fmt.Sprintf("http://127.0.0.1:%d%s", o.Ports.API, path), nil)
	if err := json.Unmarshal(r.body, into); err != nil {
		t.Fatalf("%s of %s: %v\n%s", path, o.ID, err, r.body)
	}
}

// publishing are the names of the streams that an origin has a publisher for.
func (o originStatus) publishing(t *testing.T) []string {
	t.Helper()
	var reply struct {
		Streams []struct {
			Name    string
			Publish struct{ Active bool }
		}
	}
	o.api(t, "/api/v1/streams/?count=1000", &reply)
	var names []string
	for _, s := range reply.Streams {
		if s.Publish.Active {
			names = append(names, s.Name)
		}
	}
	return names
}

// dialable says that somebody accepts on an address.
func dialable(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
