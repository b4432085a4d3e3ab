package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newProxy is an instance of `srs-proxy proxy`, not started yet; n is how many origins
// there are ports for.
func newProxy(t *testing.T, n int, flags ...string) *instance {
	t.Helper()
	return newProxyOn(t, nil, n, flags...)
}

// newProxyOn is newProxy on a host.
func newProxyOn(t *testing.T, on *host, n int, flags ...string) *instance {
	t.Helper()
	in := &instance{
		t: t, stateDir: filepath.Join(t.TempDir(), "s"), ports: freePorts(t, n), on: on,
		ended: make(chan struct{}), pids: make(map[int]bool),
	}
	in.args = append([]string{
		"proxy", "--state-dir", in.stateDir, "--rtmp", in.rtmp(), "--http", in.http(), "--api", in.api(), "--srt", in.srt(), "--webrtc", in.webrtc(),
		"--system-api", in.system(),
	}, flags...)
	in.command(cleanEnv())
	return in
}

func (in *instance) command(env []string) {
	in.cmd = exec.Command(suite.binary, in.args...)
	in.cmd.Env = env
	in.cmd.Stdout, in.cmd.Stderr = &in.out, &in.err
}

// system is where origins register.
func (in *instance) system() string { return in.on.at(in.ports.WebRTC + 1) }

// systemGet asks the system API, and returns 0 when nobody answers.
func (in *instance) systemGet(path string) (status int, body string) {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := fetch(ctx, http.MethodGet, "http://"+in.system()+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	return r.code, string(r.body)
}

// register posts a body as curl in the existing proxy's documentation does.
func (in *instance) register(path, body string) (status int, answer string) {
	in.t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+in.system()+path, strings.NewReader(body))
	if err != nil {
		in.t.Fatal(err)
	}
	for k, v := range map[string]string{"Connection": "Close", "Content-Type": "application/json", "User-Agent": "curl"} {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		in.t.Fatal(err)
	}
	return resp.StatusCode, b.String()
}

// waitOrigins waits for so many origins that are ready, of all that there are.
func (in *instance) waitOrigins(ready, all int, within time.Duration) time.Duration {
	in.t.Helper()
	return eventually(in.t, within, fmt.Sprintf("%d of %d origins ready", ready, all), func() (bool, string) {
		if !in.running() {
			in.t.Fatalf("proxy ended: %s\n%s", in.cmd.ProcessState, in.err.String())
		}
		s, code := in.tryStatus()
		return (code == 0 || code == 4) && s.Totals.Ready == ready && s.Totals.Origins == all, fmt.Sprintf("exit code %d, %d of %d", code, s.Totals.Ready, s.Totals.Origins)
	})
}

// outside is an origin that the test runs itself: SRS where there is one.
type outside struct {
	t     *testing.T
	host  string
	dir   string
	conf  string
	addr  string // of RTMP, which is its ID
	api   string
	proc  *exec.Cmd
	ended chan struct{}
	out   output
}

// outsideConf is like the configs that SRS has for its proxy (origin1-for-proxy.conf).
const outsideConf = `listen HOST:RTMP; max_connections 500; pid DIR/origin.pid; daemon off; srs_log_tank console; work_dir DIR;
http_server { enabled on; listen HTTP; dir DIR/html; }
http_api { enabled on; listen API; }
rtc_server { enabled on; listen RTC; candidate HOST; }
srt_server { enabled on; listen SRT; }
heartbeat { enabled BEATS; interval 1; url URL; device_id NAME; ports on; }
vhost __defaultVhost__ {
    http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
    hls { enabled on; hls_path DIR/html; hls_fragment 1; hls_window 10; }
    rtc { enabled on; rtmp_to_rtc off; rtc_to_rtmp on; }
    srt { enabled on; srt_to_rtmp on; }
    play { mw_latency 20; }
}
`

// newOutside is the i-th origin of an instance, not started yet. more replaces words
// of the config.
func newOutside(in *instance, i int, more ...string) *outside {
	t := in.t
	t.Helper()
	base := in.ports.base + i*perOrigin
	o := &outside{t: t, host: in.on.router(), dir: t.TempDir(), api: fmt.Sprintf("127.0.0.1:%d", base+2)}
	o.addr = net.JoinHostPort(o.host, strconv.Itoa(base))
	words := append(more, "URL", "http://"+in.system()+"/api/v1/srs/register", "BEATS", "on", "NAME", fmt.Sprintf("origin%d", i), "DIR", o.dir, "HOST", o.host)
	for n, name := range []string{"RTMP", "HTTP", "API", "RTC", "SRT"} {
		words = append(words, name, fmt.Sprint(base+n))
	}
	o.conf = filepath.Join(o.dir, "origin.conf")
	if err := os.MkdirAll(filepath.Join(o.dir, "html"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.conf, []byte(strings.NewReplacer(words...).Replace(outsideConf)), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// run starts it, or starts it again. It ends with the test.
func (o *outside) run() *outside {
	o.t.Helper()
	args := []string{suite.binary, "origin", "-c", o.conf}
	if suite.srs != "" {
		args = []string{suite.srs, "-c", o.conf}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = o.dir
	cmd.Env = cleanEnv("SRS_DEVICE_IP=" + o.host)
	cmd.Stdout, cmd.Stderr = &o.out, &o.out
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its outcome does not matter
		close(ended)
	}()
	o.proc, o.ended = cmd, ended
	o.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if o.t.Failed() {
			o.t.Logf("origin %s:\n%.20000s", o.addr, o.out.String())
		}
	})
	return o
}

func (o *outside) signal(s syscall.Signal) {
	o.t.Helper()
	if err := o.proc.Process.Signal(s); err != nil {
		o.t.Fatal(err)
	}
	if s == syscall.SIGKILL {
		<-o.ended
	}
}

// has says that a stream is published there.
func (o *outside) has(stream string) bool { return slices.Contains(o.publishing(), stream) }

// publishing are the names of the streams that are published there.
func (o *outside) publishing() (names []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := fetch(ctx, http.MethodGet, "http://"+o.api+"/api/v1/streams/?count=1000", nil)
	var reply struct {
		Streams []struct {
			Name    string
			Publish struct{ Active bool }
		}
	}
	if err != nil || json.Unmarshal(r.body, &reply) != nil {
		return nil
	}
	for _, s := range reply.Streams {
		if s.Publish.Active {
			names = append(names, s.Name)
		}
	}
	return names
}

// isSplit says that SRS has split a stream by itself: it has both the publisher and a
// player of it, and they do not meet (docs/FAULTS.md, "what did not hold"). Nobody in front of SRS can do
// anything about that but publish again.
func (o *outside) isSplit(stream string) bool {
	o.t.Helper()
	if suite.srs == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := fetch(ctx, http.MethodGet, "http://"+o.api+"/api/v1/clients/?count=1000", nil)
	var reply struct {
		Clients []struct {
			Name    string
			Publish bool
		}
	}
	if err != nil || json.Unmarshal(r.body, &reply) != nil {
		return false
	}
	publishers, players := 0, 0
	for _, c := range reply.Clients {
		switch {
		case strings.TrimSuffix(c.Name, ".flv") != stream:
		case c.Publish:
			publishers++
		default:
			players++
		}
	}
	return publishers == 1 && players > 0
}

// homeOf is the origin that has a stream, and the place of another one.
func homeOf(t *testing.T, stream string, origins ...*outside) (home, other *outside) {
	t.Helper()
	eventually(t, 10*time.Second, "the stream is at an origin", func() (bool, string) {
		for i, o := range origins {
			if o.has(stream) {
				home, other = o, origins[(i+1)%len(origins)]
			}
		}
		return home != nil, "none"
	})
	return home, other
}

// republish publishes again until it is accepted, and tells how long that took.
func (in *instance) republish(t *testing.T, name string, within time.Duration) (*publisher, time.Duration) {
	t.Helper()
	var pub *publisher
	took := eventually(t, within, "published again", func() (bool, string) {
		p, err := startPublisher(in.rtmp(), "rtmp://"+in.rtmp()+"/live", name)
		if err != nil {
			return false, err.Error()
		}
		pub = p
		return true, ""
	})
	t.Cleanup(pub.stop)
	return pub, took
}
