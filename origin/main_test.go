package origin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/testkit"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, testkit.IgnoreSRTDial()...)
}

// testConfig listens on free ports and cuts HLS segments often.
func testConfig() Config {
	cfg := DefaultConfig()
	cfg.RTMPListen = []string{"127.0.0.1:0"}
	cfg.HTTPListen = []string{"127.0.0.1:0"}
	cfg.APIListen = []string{"127.0.0.1:0"}
	cfg.HLSEnabled = true
	cfg.HLSFragment = time.Second
	cfg.HLSWindow = 5 * time.Second
	cfg.Version = "1.2.3"
	return cfg
}

// testOrigin is a running origin.
type testOrigin struct {
	*Origin
	t    *testing.T
	logs *testkit.Log
}

func start(t *testing.T, cfg Config) *testOrigin {
	t.Helper()
	logs := &testkit.Log{}
	o := run(t, New(cfg, slog.New(slog.NewTextHandler(logs, nil))))
	o.logs = logs
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("origin's log:\n%s", logs)
		}
	})
	return o
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func run(t *testing.T, o *Origin) *testOrigin {
	t.Helper()
	if err := o.Listen(); err != nil {
		t.Fatal(err)
	}
	testkit.Serve(t, o.Run)
	return &testOrigin{o, t, nil}
}

func (o *testOrigin) rtmpURL(path string) string {
	return "rtmp://" + o.RTMPAddrs()[0].String() + path
}

func (o *testOrigin) httpURL(path string) string {
	return "http://" + o.HTTPAddrs()[0].String() + path
}

func (o *testOrigin) apiURL(path string) string {
	return "http://" + o.APIAddrs()[0].String() + path
}

// api gets a path of the API and decodes it.
func (o *testOrigin) api(path string, into any) {
	o.t.Helper()
	if err := json.Unmarshal([]byte(o.get(o.apiURL(path), http.StatusOK)), into); err != nil {
		o.t.Fatalf("%s: %v", path, err)
	}
}

func (o *testOrigin) get(url string, status int) string {
	o.t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	if resp.StatusCode != status {
		o.t.Fatalf("%s: status %d, want %d: %s", url, resp.StatusCode, status, b)
	}
	return string(b)
}

type streamsReply struct {
	apiHead
	Streams []apiStream
}

type clientsReply struct {
	apiHead
	Clients []apiClient
}

// awaitStream waits until the API has the stream, published and with its codecs.
func (o *testOrigin) awaitStream(url string, audio, video bool) apiStream {
	o.t.Helper()
	var found apiStream
	o.await("stream "+url, func() bool {
		var r streamsReply
		o.api("/api/v1/streams/", &r)
		for _, s := range r.Streams {
			if s.URL == url && s.Publish.Active && (s.Audio != nil || !audio) && (s.Video != nil || !video) {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

func (o *testOrigin) await(what string, cond func() bool) {
	o.t.Helper()
	await(o.t, what, cond)
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	testkit.Within(t, 15*time.Second, what, cond)
}

// ffmpeg is a running command; it ends with the test at the latest.
type ffmpeg struct {
	cmd  *exec.Cmd
	out  *testkit.Log
	done chan struct{}
}

func startFFmpeg(t *testing.T, args ...string) *ffmpeg {
	t.Helper()
	f := &ffmpeg{out: &testkit.Log{}, done: make(chan struct{})}
	f.cmd = exec.Command("ffmpeg", append([]string{"-hide_banner", "-loglevel", "warning", "-nostdin"}, args...)...)
	f.cmd.Stdout, f.cmd.Stderr = f.out, f.out
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.done)
		_ = f.cmd.Wait()
	}()
	t.Cleanup(f.kill)
	return f
}

func (f *ffmpeg) kill() {
	_ = f.cmd.Process.Kill()
	<-f.done
}

// stop ends ffmpeg as Ctrl-C does: an RTMP publisher unpublishes.
func (f *ffmpeg) stop() {
	_ = f.cmd.Process.Signal(syscall.SIGINT)
	<-f.done
}

// clip makes a few seconds of H.264 and AAC, a keyframe a second.
func clip(t *testing.T) string {
	t.Helper()
	testkit.NeedTools(t, "ffmpeg", "ffprobe")
	path := filepath.Join(t.TempDir(), "clip.flv")
	f := startFFmpeg(t, "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=44100",
		"-t", "4", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p",
		"-c:a", "aac", "-b:a", "64k", path)
	<-f.done
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("clip: %s", f.out)
	}
	return path
}

func (o *testOrigin) publish(clip, path string, more ...string) *ffmpeg {
	o.t.Helper()
	args := append([]string{"-re", "-stream_loop", "-1", "-i", clip, "-c", "copy"}, more...)
	return startFFmpeg(o.t, append(args, "-f", "flv", o.rtmpURL(path))...)
}

// probe returns "codec_name" of each stream and the start time.
func probe(t *testing.T, url string, more ...string) (codecs []string, start float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	args := append([]string{"-v", "error", "-print_format", "json", "-show_streams", "-show_format"}, more...)
	cmd := exec.CommandContext(ctx, "ffprobe", append(args, url)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ffprobe %s: %v: %s", url, err, stderr.String())
	}
	var r struct {
		Streams []struct {
			Codec string `json:"codec_name"`
			Width int
		}
		Format struct {
			Start string `json:"start_time"`
		}
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Streams {
		codecs = append(codecs, s.Codec)
	}
	_, _ = fmt.Sscan(r.Format.Start, &start)
	if s := strings.TrimSpace(stderr.String()); s != "" {
		t.Logf("ffprobe %s: %s", url, s)
	}
	return codecs, start
}
