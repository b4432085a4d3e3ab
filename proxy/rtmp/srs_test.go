package rtmp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
	"srs-proxy/testkit"
)

// rig is a proxy in front of origins.
type rig struct {
	t      *testing.T
	bal    *balancer.Memory
	server *Server
	log    *testkit.Log
	stop   func()
}

func newRig(t *testing.T, cfg Config, rtmpAddrs ...string) *rig {
	t.Helper()
	r := &rig{t: t, bal: balancer.NewMemory(balancer.Config{}), log: &testkit.Log{}}
	for i, addr := range rtmpAddrs {
		o := balancer.Origin{ID: fmt.Sprintf("origin-%d", i), Endpoints: balancer.Endpoints{RTMP: addr}}
		if err := r.bal.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	router := route.New(route.Config{Vhosts: []string{balancer.DefaultVhost, "v.example.com"}}, r.bal, log)
	cfg.Listen = "127.0.0.1:0"
	rl := relay.New(relay.Config{})
	t.Cleanup(rl.Close)
	r.server = New(cfg, router, rl, log)
	if err := r.server.Listen(); err != nil {
		t.Fatal(err)
	}
	stop := testkit.Serve(t, r.server.Run)
	r.stop = sync.OnceFunc(func() {
		stop()
		if st := r.server.Stats(); st.Active != 0 || st.Handshaking != 0 || st.Panics != 0 {
			t.Errorf("after the stop: %+v", st)
		}
		for _, s := range r.origins() {
			if s.Publishers != 0 || s.Players != 0 {
				t.Errorf("leases left: %+v", s)
			}
		}
	})
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("proxy log:\n%s", r.log)
		}
	})
	return r
}

func (r *rig) origins() []balancer.Status {
	list, err := r.bal.Origins(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func (r *rig) addr() string { return r.server.Addr().String() }
func (r *rig) url(rest string) string {
	return "rtmp://" + r.addr() + rest
}

// startSRS runs a real SRS and returns its RTMP address.
func startSRS(t *testing.T, extra string) (addr string, log func() string) {
	t.Helper()
	port := testkit.FreePort(t)
	dir := testkit.SRS(t, fmt.Sprintf(`listen 127.0.0.1:%d; max_connections 500;
vhost v.example.com { %s }
vhost __defaultVhost__ { %s }
`, port, extra, extra))
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	waitFor(t, 10*time.Second, "SRS listens", func() bool { return testkit.Listens(addr) })
	return addr, func() string { return testkit.SRSLog(dir) }
}

func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	testkit.Within(t, limit, what, ok)
}

// clip makes a short H.264 and AAC file once.
var clip = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "srs-proxy-clip")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "clip.flv")
	out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=320x240:r=25", "-f", "lavfi", "-i", "sine=r=44100",
		"-t", "10", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-c:a", "aac", "-f", "flv", path).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := clip(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// publish streams the clip with ffmpeg until the test ends.
func publish(t *testing.T, url string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Skip("no ffmpeg")
	}
	path, err := clip()
	if err != nil {
		t.Fatal(err)
	}
	full := append([]string{"-v", "error", "-re", "-stream_loop", "-1", "-i", path, "-c", "copy"}, args...)
	cmd := exec.Command("ffmpeg", append(full, "-f", "flv", url)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("ffmpeg %s: %s", url, out.String())
		}
	})
	return cmd
}

// probe plays with ffprobe and returns the codecs.
func probe(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ffprobe", "-v", "error", "-show_entries", "stream=codec_name,start_time", "-of", "csv=p=0", url)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ffprobe %s: %v: %s", url, err, stderr.String())
	}
	return string(out)
}

func wantCodecs(t *testing.T, url string) {
	t.Helper()
	got := probe(t, url)
	if !strings.Contains(got, "h264") || !strings.Contains(got, "aac") {
		t.Errorf("%s: codecs %q, want h264 and aac", url, got)
	}
}

func TestSRSPublishAndPlay(t *testing.T) {
	addr, log := startSRS(t, "")
	r := newRig(t, Config{RealIP: true}, addr)
	publish(t, r.url("/live/a"))
	waitFor(t, 5*time.Second, "publisher is routed", func() bool { return r.origins()[0].Publishers == 1 })
	wantCodecs(t, r.url("/live/a"))
	wantCodecs(t, r.url("/live/a?token=secret"))
	wantCodecs(t, "rtmp://localhost"+r.addr()[strings.LastIndexByte(r.addr(), ':'):]+"/live/a")
	if !strings.Contains(log(), "RTMP proxy real client ip=127.0.0.1") {
		t.Error("SRS did not see the client's address")
	}
	if strings.Contains(r.log.String(), "secret") {
		t.Error("a token is in the log")
	}
}

func TestSRSPlayBeforePublish(t *testing.T) {
	addr, _ := startSRS(t, "")
	r := newRig(t, Config{}, addr)
	result := make(chan string, 1)
	go func() {
		out, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", r.url("/live/later")).CombinedOutput()
		result <- fmt.Sprint(string(out), err)
	}()
	waitFor(t, 5*time.Second, "player waits", func() bool { return r.origins()[0].Players == 1 })
	publish(t, r.url("/live/later"))
	select {
	case got := <-result:
		if !strings.Contains(got, "h264") {
			t.Errorf("the early player got %q", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("the early player got nothing")
	}
}

// A stream that starts at 5 hours has extended timestamps on every chunk.
func TestSRSExtendedTimestamps(t *testing.T) {
	addr, _ := startSRS(t, "")
	r := newRig(t, Config{}, addr)
	publish(t, r.url("/live/old"), "-output_ts_offset", "18000")
	waitFor(t, 5*time.Second, "publisher is routed", func() bool { return r.origins()[0].Publishers == 1 })
	got := probe(t, r.url("/live/old"))
	if !strings.Contains(got, "h264") {
		t.Errorf("codecs %q", got)
	}
}

func TestSRSVhosts(t *testing.T) {
	addr, _ := startSRS(t, "")
	r := newRig(t, Config{}, addr)
	publish(t, r.url("/live/a?vhost=v.example.com"))
	waitFor(t, 5*time.Second, "publisher is routed", func() bool { return r.origins()[0].Publishers == 1 })
	wantCodecs(t, r.url("/live/a?vhost=v.example.com"))
	wantCodecs(t, r.url("/live?vhost=v.example.com/a"))
	wantCodecs(t, r.url("/live...vhost...v.example.com/a"))
}

func TestSRSReconnect(t *testing.T) {
	addr, _ := startSRS(t, "")
	r := newRig(t, Config{}, addr)
	for range 3 {
		cmd := publish(t, r.url("/live/again"))
		waitFor(t, 5*time.Second, "publisher is routed", func() bool { return r.origins()[0].Publishers == 1 })
		wantCodecs(t, r.url("/live/again"))
		_ = cmd.Process.Kill()
		waitFor(t, 5*time.Second, "publisher is gone", func() bool { return r.origins()[0].Publishers == 0 })
	}
}

// A refused publish was a bare close (defect 15 of the existing proxy): SRS's hook
// says 403, and the client learns of it.
func TestDefect15_RefusedPublishReachesTheClient(t *testing.T) {
	hook, stop := hookServer(t)
	defer stop()
	addr, _ := startSRS(t, "http_hooks { enabled on; on_publish "+hook+"; }")
	r := newRig(t, Config{}, addr)
	path, err := clip()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ffmpeg", "-v", "verbose", "-re", "-i", path, "-c", "copy", "-f", "flv", r.url("/live/denied")).CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Fatalf("ffmpeg was not refused: %v", err)
	}
	if !strings.Contains(string(out), "Server error: the origin closed the connection") {
		t.Errorf("ffmpeg says: %s", out)
	}
	if got := r.origins()[0]; !got.EjectedUntil.IsZero() {
		t.Error("a refusal was held against the origin")
	}
}

// hookServer answers every hook with 403.
func hookServer(t *testing.T) (url string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				b := make([]byte, 4096)
				if _, err := c.Read(b); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1")
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String() + "/hook", func() { ln.Close() }
}
