package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

// hookTarget is an operator's hook server.
type hookTarget struct {
	*httptest.Server
	mu    sync.Mutex // guards the following
	calls []hookCall
	deny  map[string]bool // "action stream"
}

type hookCall struct {
	Action, IP, Stream, Param string
	path                      string
}

func newHookTarget(t *testing.T) *hookTarget {
	t.Helper()
	h := &hookTarget{deny: make(map[string]bool)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := hookCall{path: r.RequestURI}
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
				t.Errorf("body of %s: %v", r.URL.Path, err)
			}
		} else {
			c.Action = "GET"
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.calls = append(h.calls, c)
		if h.deny[c.Action+" "+c.Stream] {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, `{"code":0,"data":{"urls":[]}}`)
	}))
	t.Cleanup(h.Close)
	return h
}

// vhosts is an overlay of all hooks.
func (h *hookTarget) vhosts(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, action := range []string{"on_connect", "on_close", "on_publish", "on_unpublish", "on_play", "on_stop", "on_hls"} {
		fmt.Fprintf(&b, "%s %s/%s?key=hooksecret; ", action, h.URL, action)
	}
	return writeFile(t, "vhosts.conf", fmt.Sprintf(`vhost hooked.example.org {
  http_hooks { enabled on; %s on_hls_notify "%s/notify/[app]/[stream]?file=[ts_url]"; }
  forward { enabled on; backend %s/on_forward?key=hooksecret; }
  http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
  hls { enabled on; hls_fragment 1; hls_window 10; }
  srt { enabled on; srt_to_rtmp on; }
  rtc { enabled on; rtc_to_rtmp on; rtmp_to_rtc on; }
}
`, b.String(), h.URL, h.URL))
}

// await waits for a call, and tells which address it named.
func (h *hookTarget) await(t *testing.T, action, stream, ip string) hookCall {
	t.Helper()
	var found hookCall
	eventually(t, 15*time.Second, fmt.Sprintf("%s of %q for %s", action, stream, ip), func() (bool, string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		others := []string{}
		for _, c := range h.calls {
			if c.Action != action || stream != "" && c.Stream != stream {
				continue
			}
			if found = c; c.IP == ip {
				return true, ""
			}
			others = append(others, c.IP)
		}
		return false, fmt.Sprintf("%v of %+v", others, h.calls)
	})
	return found
}

// Clients of the tests, each at an address of its own.
func clientAt(ip string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: rtmpTimeout}
}

// openFrom is an RTMP client at an address.
func openFrom(ip, addr, tcURL string, begin func(*peer) error) (*peer, error) {
	c, err := clientAt(ip).Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &peer{conn: c.(*net.TCPConn)}
	_ = c.SetDeadline(time.Now().Add(rtmpTimeout))
	if err = p.connect(tcURL); err == nil {
		err = begin(p)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return p, c.SetDeadline(time.Time{})
}

// getFrom is an HTTP client at an address; it reads at most so much of the answer.
func getFrom(t *testing.T, ip, url string, most int64) (int, string) {
	t.Helper()
	tr := &http.Transport{DialContext: clientAt(ip).DialContext, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "192.0.2.66") // a client's word is not taken
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(bufio.NewReader(resp.Body), most))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestHooksSeeTheRealClient: an operator's hook server learns who the clients are, of
// every protocol, although no origin has seen them.
func TestHooksSeeTheRealClient(t *testing.T) {
	t.Parallel()
	needSRS(t, "http_hooks are SRS's")
	h := newHookTarget(t)
	in := up(t, 2, "--vhosts", h.vhosts(t))
	const publisherIP, playerIP, flvIP, hlsIP = "127.9.8.7", "127.9.8.8", "127.9.8.9", "127.9.8.10"
	tcURL := "rtmp://hooked.example.org/live"

	p, err := openFrom(publisherIP, in.rtmp(), tcURL, func(p *peer) error { return p.publish("a?token=clientsecret") })
	if err != nil {
		t.Fatal(err)
	}
	pub := feed(p)
	defer pub.stop()
	h.await(t, "on_connect", "", publisherIP)
	if c := h.await(t, "on_publish", "a", publisherIP); c.path != "/on_publish?key=hooksecret" || !strings.Contains(c.Param, "token=clientsecret") {
		t.Errorf("on_publish came as %+v", c)
	}

	player, err := openFrom(playerIP, in.rtmp(), tcURL, func(p *peer) error { return p.play("a") })
	if err != nil {
		t.Fatal(err)
	}
	h.await(t, "on_play", "a", playerIP)
	player.conn.Close()
	h.await(t, "on_stop", "a", playerIP)
	h.await(t, "on_close", "", playerIP)

	if code, _ := getFrom(t, flvIP, in.stream("flv", "live/a")+"?vhost=hooked.example.org", 4096); code != http.StatusOK {
		t.Errorf("HTTP-FLV: %d", code)
	}
	h.await(t, "on_play", "a", flvIP)
	h.await(t, "on_stop", "a", flvIP)

	if suite.srs != "" { // the built-in origin knows no HLS sessions
		h.await(t, "on_forward", "a", publisherIP)
		h.await(t, "on_hls", "a", publisherIP)
		if c := h.await(t, "GET", "", ""); !strings.HasPrefix(c.path, "/notify/live/a?file=") {
			t.Errorf("on_hls_notify came as %+v", c)
		}
		eventually(t, 15*time.Second, "the playlist", func() (bool, string) {
			code, body := getFrom(t, hlsIP, in.stream("m3u8", "live/a")+"?vhost=hooked.example.org", 1<<20)
			return code == http.StatusOK && strings.Contains(body, "#EXTM3U"), fmt.Sprint(code)
		})
		h.await(t, "on_play", "a.m3u8", hlsIP) // SRS's name for it
	}

	// The last words about a session come after it is gone.
	pub.stop()
	h.await(t, "on_unpublish", "a", publisherIP)
	h.await(t, "on_close", "", publisherIP)

	// What the hook refuses is refused.
	h.mu.Lock()
	h.deny["on_publish denied"], h.deny["on_play a"] = true, true
	h.mu.Unlock()
	if p, err := openFrom(publisherIP, in.rtmp(), tcURL, func(p *peer) error { return p.publish("denied") }); err == nil {
		p.conn.Close()
		t.Error("a publish that the hook refuses is let in")
	}
	h.await(t, "on_publish", "denied", publisherIP)
	// SRS says that the play starts, and then asks.
	if p, err := openFrom(playerIP, in.rtmp(), tcURL, func(p *peer) error { return p.play("a") }); err == nil {
		p.awaitHangup(t, 10*time.Second)
		p.conn.Close()
	}
	for _, secret := range []string{"hooksecret", "clientsecret"} {
		if strings.Contains(in.err.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
}

// TestHooksOfDatagrams: the same for SRT and WebRTC.
func TestHooksOfDatagrams(t *testing.T) {
	t.Parallel()
	needSRS(t, "http_hooks are SRS's")
	needTool(t, "srt-live-transmit", "a client of SRT that can choose its address")
	h := newHookTarget(t)
	in := up(t, 2, "--vhosts", h.vhosts(t), "--candidate", "127.0.0.1")
	const publisherIP, playerIP, whipIP, whepIP = "127.9.8.11", "127.9.8.12", "127.9.8.13", "127.9.8.14"

	srt := func(ip, id string) string {
		return "srt://" + in.srt() + "?mode=caller&adapter=" + ip + "&streamid=" + "#!::h=hooked.example.org,r=live/s,m=" + id
	}
	publisher := pipeTools(t,
		exec.Command("ffmpeg", "-hide_banner", "-loglevel", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", suite.clip.path, "-c", "copy", "-f", "mpegts", "pipe:1"),
		exec.Command("srt-live-transmit", "-q", "file://con", srt(publisherIP, "publish")))
	h.await(t, "on_publish", "s", publisherIP)
	player := startTool(t, "srt-live-transmit", "-q", srt(playerIP, "request"), "file://con")
	h.await(t, "on_play", "s", playerIP)
	player.stop()
	h.await(t, "on_stop", "s", playerIP)
	publisher()
	h.await(t, "on_unpublish", "s", publisherIP)

	h.mu.Lock()
	h.deny["on_publish denied"] = true
	h.mu.Unlock()
	for _, tt := range []struct {
		ip, way, stream, action string
		status                  int
	}{
		{whipIP, "whip", "w", "on_publish", http.StatusCreated},
		{whepIP, "whep", "w", "on_play", http.StatusCreated},
		{whipIP, "whip", "denied", "on_publish", http.StatusInternalServerError}, // SRS's way to refuse
	} {
		url := fmt.Sprintf("http://%s/rtc/v1/%s/?app=live&stream=%s&vhost=hooked.example.org", in.http(), tt.way, tt.stream)
		if status := offerFrom(t, tt.ip, url, tt.way == "whip"); (status == http.StatusCreated) != (tt.status == http.StatusCreated) {
			t.Errorf("%s of %s: HTTP %d, want %d", tt.way, tt.stream, status, tt.status)
		}
		h.await(t, tt.action, tt.stream, tt.ip)
	}
}

// pipeTools runs two programs, the first one's output being the second one's input,
// until the test ends or end is called.
func pipeTools(t *testing.T, from, to *exec.Cmd) (end func()) {
	t.Helper()
	var err error
	if to.Stdin, err = from.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{from, to} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	end = sync.OnceFunc(func() {
		for _, cmd := range []*exec.Cmd{to, from} {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	t.Cleanup(end)
	return end
}

// offerFrom posts a WebRTC offer from an address, and does no more with the session.
func offerFrom(t *testing.T, ip, url string, sends bool) int {
	t.Helper()
	pc, err := newPeerConnection(webrtc.NetworkTypeUDP4)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	direction := webrtc.RTPTransceiverDirectionRecvonly
	if sends {
		direction = webrtc.RTPTransceiverDirectionSendonly
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: direction}); err != nil {
			t.Fatal(err)
		}
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DialContext: clientAt(ip).DialContext, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Post(url, "application/sdp", strings.NewReader(offer.SDP))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// TestHooksOfAnAdoptedOrigin: origins that outlived their srs-proxy reach the relay of
// the next one, and are not replaced for it.
func TestHooksOfAnAdoptedOrigin(t *testing.T) {
	t.Parallel()
	needSRS(t, "http_hooks are SRS's")
	h := newHookTarget(t)
	in := up(t, 1, "--vhosts", h.vhosts(t))
	before := in.originPIDs()
	in.signal(syscall.SIGKILL)
	in.waitEnd(5 * time.Second)
	t.Cleanup(func() {
		for _, pid := range before {
			endProcess(pid)
		}
	})
	in = in.again().start().waitReady(readyWithin)
	if after := in.originPIDs(); !slices.Equal(before, after) {
		t.Errorf("origins %v were replaced by %v", before, after)
	}
	const ip = "127.9.8.7"
	p, err := openFrom(ip, in.rtmp(), "rtmp://hooked.example.org/live", func(p *peer) error { return p.publish("a") })
	if err != nil {
		t.Fatal(err)
	}
	h.await(t, "on_publish", "a", ip)
	p.conn.Close()
	in.stop()
	for _, pid := range before { // they are our children (TestMain)
		if _, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); err != nil {
			t.Errorf("origin pid %d: %v", pid, err)
		}
	}
}

// TestHooksByReload: the first hook may come with a reload.
func TestHooksByReload(t *testing.T) {
	t.Parallel()
	needSRS(t, "http_hooks are SRS's")
	h := newHookTarget(t)
	conf := writeFile(t, "v.conf", "vhost hooked.example.org { }\n")
	in := up(t, 1, "--vhosts", conf)
	text, err := os.ReadFile(h.vhosts(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := srsProxy(t, "reload", "--state-dir", in.stateDir); r.code != 0 {
		t.Fatalf("reload: %d %s%s", r.code, r.out, r.err)
	}
	p, err := openFrom("127.9.8.7", in.rtmp(), "rtmp://hooked.example.org/live", func(p *peer) error { return p.publish("a") })
	if err != nil {
		t.Fatal(err)
	}
	defer p.conn.Close()
	h.await(t, "on_publish", "a", "127.9.8.7")
}

// TestAccessLists: --allow and --deny hold on every protocol, and follow a reload.
func TestAccessLists(t *testing.T) {
	t.Parallel()
	conf := writeFile(t, "c.yaml", "allow:\n  - publish:127.9.8.0/24\ndeny: [play:127.9.9.0/24]\n")
	in := up(t, 1, "--config", conf)
	tcURL := "rtmp://" + in.rtmp() + "/live"
	publish := func(ip string) error {
		p, err := openFrom(ip, in.rtmp(), tcURL, func(p *peer) error { return p.publish("x") })
		if err == nil {
			p.conn.Close()
		}
		return err
	}
	if err := publish("127.0.0.1"); err == nil || !strings.Contains(err.Error(), "not allowed from this address") {
		t.Errorf("publish from elsewhere: %v", err)
	}
	if err := publish("127.9.8.7"); err != nil {
		t.Errorf("publish from an allowed address: %v", err)
	}
	if _, err := openFrom("127.9.9.1", in.rtmp(), tcURL, func(p *peer) error { return p.play("x") }); err == nil || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("play from a denied address: %v", err)
	}
	for _, path := range []string{"live/x.flv", "live/x.m3u8"} {
		if code, body := getFrom(t, "127.9.9.1", "http://"+in.http()+"/"+path, 1000); code != http.StatusForbidden {
			t.Errorf("%s from a denied address: %d %s", path, code, body)
		}
	}
	for _, tt := range []struct {
		ip, way string
		denied  bool
	}{
		{"127.0.0.1", "whip", true}, {"127.9.8.7", "whip", false},
		{"127.9.9.1", "whep", true}, {"127.0.0.1", "whep", false},
	} {
		url := fmt.Sprintf("http://%s/rtc/v1/%s/?app=live&stream=y", in.http(), tt.way)
		if status := offerFrom(t, tt.ip, url, tt.way == "whip"); (status == http.StatusForbidden) != tt.denied {
			t.Errorf("%s from %s: HTTP %d, denied %v", tt.way, tt.ip, status, tt.denied)
		}
	}
	if err := os.WriteFile(conf, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := srsProxy(t, "reload", "--state-dir", in.stateDir); r.code != 0 || !strings.Contains(r.out, "allow") {
		t.Errorf("reload: %d %s%s", r.code, r.out, r.err)
	}
	if err := publish("127.0.0.1"); err != nil {
		t.Errorf("publish after the lists are gone: %v", err)
	}
}
