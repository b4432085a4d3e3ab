package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"srs-proxy/proxy/certs/certstest"
)

// secure is an instance with TLS.
type secure struct {
	*instance
	certFile, keyFile      string
	rtmps, https, httpsAPI string
}

func upWithTLS(t *testing.T, origins int) *secure {
	t.Helper()
	s := &secure{}
	s.certFile, s.keyFile = certstest.Files(t, "first")
	b := freePorts(t, 1)
	addr := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	s.rtmps, s.https, s.httpsAPI = addr(b.RTMP), addr(b.HTTP), addr(b.API)
	s.instance = up(t, origins, "--tls-cert", s.certFile, "--tls-key", s.keyFile, "--rtmps", s.rtmps, "--https", s.https, "--https-api", s.httpsAPI)
	return s
}

func httpsGet(t *testing.T, url string, most int64) (int, string) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: certstest.Client(), DisableKeepAlives: true, ForceAttemptHTTP2: true}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		t.Errorf("%s: %v", url, err)
	}
	return resp.StatusCode, string(b)
}

// playHTTPS is a player of HTTP-FLV over TLS.
func (s *secure) playHTTPS(t *testing.T, name string) *player {
	t.Helper()
	conn, err := tls.Dial("tcp", s.https, certstest.Client())
	if err != nil {
		t.Fatal(err)
	}
	flv, err := openFLV(conn, s.https, "/live/"+name+".flv", nil)
	if err != nil {
		conn.Close()
		t.Fatal(err)
	}
	return watch(t, name, conn, flv.next)
}

// shown is the certificate that a new client is shown.
func (s *secure) shown(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, certstest.Client())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// TestTLS: what is served is served with TLS too: RTMPS both ways, HTTP-FLV, HLS and
// the API; certificates are renewed under it, and what runs does not notice.
func TestTLS(t *testing.T) {
	t.Parallel()
	needTool(t, "ffmpeg", "a client of RTMPS")
	needTool(t, "curl", "a client of HTTPS")
	s := upWithTLS(t, 2)
	publisher := ffmpegPublish(t, "rtmps://"+s.rtmps+"/live/a", "-tls_verify", "0")
	eventually(t, 15*time.Second, "the stream is published", func() (bool, string) {
		for _, o := range s.status().Origins {
			if names := o.publishing(t); len(names) > 0 {
				return true, ""
			}
		}
		return false, publisher.out.String()
	})
	s.publish(t, "b") // its frames can be told apart
	flv := s.playHTTPS(t, "b")
	flv.awaitFrames(t, 15, 20*time.Second)

	out := run(t, exec.Command("ffprobe", "-v", "error", "-tls_verify", "0", "-show_entries", "stream=codec_name", "-of", "csv=p=0", "rtmps://"+s.rtmps+"/live/a"))
	if out.code != 0 || !strings.Contains(out.out, "h264") || !strings.Contains(out.out, "aac") {
		t.Errorf("RTMPS play: %+v", out)
	}
	var body bytes.Buffer
	curl := exec.Command("curl", "-sk", "--max-time", "3", "https://"+s.https+"/live/a.flv")
	curl.Stdout = &body
	_ = run(t, curl) // ends by its own patience
	if b := body.Bytes(); len(b) < 10_000 || !bytes.HasPrefix(b, []byte("FLV")) {
		t.Errorf("HTTPS-FLV: %d bytes", len(b))
	}
	eventually(t, 15*time.Second, "the playlist over HTTPS", func() (bool, string) {
		code, body := httpsGet(t, "https://"+s.https+"/live/a.m3u8", 1<<20)
		return code == http.StatusOK && strings.HasPrefix(body, "#EXTM3U"), fmt.Sprint(code)
	})
	if code, body := httpsGet(t, "https://"+s.httpsAPI+"/api/v1/versions", 1<<20); code != http.StatusOK || !strings.Contains(body, `"code":0`) {
		t.Errorf("the API over TLS: %d %s", code, body)
	}

	// A renewed certificate, under sessions that run.
	for _, addr := range []string{s.rtmps, s.https, s.httpsAPI} {
		if got := s.shown(t, addr); got != "first" {
			t.Errorf("%s shows %s", addr, got)
		}
	}
	cert, key := certstest.PEM(t, "second", time.Now().Add(-time.Hour), time.Now().Add(365*24*time.Hour))
	for _, step := range []struct {
		file string
		text []byte
		want string
	}{{s.certFile, cert, "first"}, {s.keyFile, key, "second"}} {
		if err := os.WriteFile(step.file, step.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if step.want == "first" {
			time.Sleep(1100 * time.Millisecond) // half a pair must not be taken up, however long it lasts
		}
		for _, addr := range []string{s.rtmps, s.https, s.httpsAPI} {
			eventually(t, 10*time.Second, addr+" shows the "+step.want, func() (bool, string) {
				got := s.shown(t, addr)
				return got == step.want, got
			})
		}
	}
	flv.awaitFrames(t, flv.seen().frames+15, 20*time.Second)
	flv.checkNoGap(t)
	if !publisher.running() {
		t.Error("the publisher was cut off by the new certificate")
	}
	log := s.err.String()
	if !strings.Contains(log, "the old certificate stays") || !strings.Contains(log, "new certificate") {
		t.Error("the log does not tell what became of the certificate")
	}
	if strings.Contains(log, "PRIVATE") {
		t.Error("the key is in the log")
	}
}

// TestTLSRefuses: who does not speak TLS is turned away in time, and nobody else.
func TestTLSRefuses(t *testing.T) {
	t.Parallel()
	s := upWithTLS(t, 1)
	for _, addr := range []string{s.rtmps, s.https, s.httpsAPI} {
		silent, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		plain, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		if _, err := io.WriteString(plain, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		for what, c := range map[string]net.Conn{"silent": silent, "plain": plain} {
			_ = c.SetDeadline(time.Now().Add(15 * time.Second))
			if _, err := io.Copy(io.Discard, c); err != nil && !isHangup(err) {
				t.Errorf("%s: a client that is %s stays", addr, what)
			}
		}
	}
	if _, err := openFrom("127.9.8.7", s.rtmp(), "rtmp://"+s.rtmp()+"/live", func(p *peer) error { return p.publish("a") }); err != nil {
		t.Errorf("a plain client at the plain port: %v", err)
	}
}
