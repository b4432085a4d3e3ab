package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

// Two origins register by heartbeat: what is published is played, whichever has it.
// One is killed: its streams go on at the other, and it is back when it is.
func TestProxyRegistered(t *testing.T) {
	t.Parallel()
	in := newProxy(t, 2).start()
	eventually(t, readyWithin, "the system API answers", func() (bool, string) {
		status, body := in.systemGet("/healthz")
		return status == http.StatusOK, body
	})
	if status, body := in.systemGet("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no origin") {
		t.Errorf("ready without an origin: %d %s", status, body)
	}
	a, b := newOutside(in, 0).run(), newOutside(in, 1).run()
	in.waitOrigins(2, 2, readyWithin)
	if status, body := in.systemGet("/readyz"); status != http.StatusOK {
		t.Errorf("not ready: %d %s", status, body)
	}
	ffmpegPublish(t, in.stream("rtmp", "live/ff"))
	checkCodecs(t, in.stream("rtmp", "live/ff"), "aac", "h264")
	checkCodecs(t, in.stream("flv", "live/ff"), "aac", "h264")

	in.publish(t, "a")
	in.playRTMP(t, "a").awaitFrames(t, 15, 15*time.Second)
	in.playFLV(t, "a").awaitFrames(t, 15, 15*time.Second)
	home, other := homeOf(t, "a", a, b)
	if other.has("a") {
		t.Error("both have the stream")
	}
	found := false
	for _, s := range in.ask(t, http.MethodGet, "/api/v1/streams/?count=100").Streams {
		found = found || s.Name == "a"
	}
	if !found {
		t.Error("the API of the whole does not show the stream")
	}
	if got := srsProxy(t, "streams", "--state-dir", in.stateDir, "-o", "wide"); got.code != 0 || !strings.Contains(got.out, "live/a") || !strings.Contains(got.out, home.addr) {
		t.Errorf("streams: %+v", got)
	}
	if got := srsProxy(t, "kick", "--state-dir", in.stateDir, "live/ff"); got.code != 0 || !strings.Contains(got.out, "live/ff at ") {
		t.Errorf("kick: %+v", got)
	}
	if got := srsProxy(t, "drain", "--state-dir", in.stateDir, "--all"); got.code != 1 || !strings.Contains(got.err, "without a supervisor") {
		t.Errorf("drain: %+v", got)
	}

	killed := time.Now()
	home.signal(syscall.SIGKILL)
	_, took := in.republish(t, "a", 10*time.Second)
	t.Logf("published again %s after the kill", time.Since(killed).Round(time.Millisecond))
	if took > time.Second {
		t.Errorf("a publish was accepted %s after the kill, want 1s", took)
	}
	in.playRTMP(t, "a").awaitFrames(t, 15, 15*time.Second)
	if !other.has("a") {
		t.Error("the stream is not at the other origin")
	}
	down := in.waitOrigins(1, 2, 3*time.Second)
	t.Logf("down in status %s after the publish", down.Round(time.Millisecond))
	if o := in.status().origin(home.addr); o.State != "down" || o.Reason == "" {
		t.Errorf("%+v", o)
	}
	home.run()
	in.waitOrigins(2, 2, readyWithin)
	if status, body := in.systemGet("/readyz"); status != http.StatusOK {
		t.Errorf("not ready: %d %s", status, body)
	}
}

// An origin that hangs is out within seconds, and its sessions with it: its kernel
// would keep them for long.
func TestProxyOriginHangs(t *testing.T) {
	t.Parallel()
	in := newProxy(t, 3).start()
	origins := []*outside{newOutside(in, 0).run(), newOutside(in, 1).run(), newOutside(in, 2).run()}
	in.waitOrigins(3, 3, readyWithin)
	in.publish(t, "a")
	player := in.playRTMP(t, "a")
	player.awaitFrames(t, 5, 15*time.Second)
	home, _ := homeOf(t, "a", origins...)
	home.signal(syscall.SIGSTOP)
	t.Cleanup(func() { _ = home.proc.Process.Signal(syscall.SIGCONT) })
	stopped := time.Now()
	select {
	case <-player.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the player's session lives on at an origin that hangs")
	}
	t.Logf("the player's session ended %s after the origin's", time.Since(stopped).Round(time.Millisecond))
	_, took := in.republish(t, "a", 15*time.Second)
	t.Logf("published again %s after that", took.Round(time.Millisecond))
	in.playRTMP(t, "a").awaitFrames(t, 5, 15*time.Second)
	home.signal(syscall.SIGCONT)
	in.waitOrigins(3, 3, readyWithin)
}

// Who does not register again is forgotten. A process that registers in the place of
// another has none of its streams.
func TestProxyOriginExpires(t *testing.T) {
	t.Parallel()
	in := newProxy(t, 1, "--register-ttl", "3s").start()
	o := newOutside(in, 0, "BEATS", "off").run()
	eventually(t, readyWithin, "the origin and the system API are there", func() (bool, string) {
		status, body := in.systemGet("/healthz")
		return status == http.StatusOK && dialable(o.addr), body
	})
	body := func(service string) string {
		return fmt.Sprintf(`{"device_id":"o","ip":"127.0.0.1","server":"vid-1","service":%q,"pid":"42","rtmp":["%s"]}`, service, o.addr)
	}
	if status, answer := in.register("/api/v1/srs/register", body("s1")); status != http.StatusOK || answer != fmt.Sprintf(`{"code":0,"pid":"%d"}`, in.cmd.Process.Pid) {
		t.Fatalf("%d %s", status, answer)
	}
	in.waitOrigins(1, 1, time.Second)
	registered := time.Now()
	in.waitOrigins(0, 0, 10*time.Second)
	if after := time.Since(registered); after < 2*time.Second {
		t.Errorf("forgotten after %s", after)
	}
	// With a session it stays as long as that lives, and takes no other stream.
	in.register("/api/v1/srs/register", body("s1"))
	pub := in.publish(t, "a")
	eventually(t, 10*time.Second, "it drains", func() (bool, string) {
		s := in.status().origin(o.addr)
		return s.State == "draining", s.State
	})
	if p, err := startPublisher(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "b"); err == nil {
		p.stop()
		t.Error("a new stream was placed on an origin without heartbeats")
	}
	in.playRTMP(t, "a").awaitFrames(t, 5, 15*time.Second)
	pub.stop()
	// The player that still waits there is no reason to stay: its publisher may be anywhere.
	in.register("/api/v1/srs/register", body("s2"))
	eventually(t, 10*time.Second, "another process has no streams", func() (bool, string) {
		s := in.status().origin(o.addr)
		return s.State == "ready", fmt.Sprintf("%+v", s)
	})
}

// A server without API and heartbeat, as nginx-rtmp is: RTMP works, what it has not is
// a clear error, and it is watched all the same.
func TestProxyListedOrigin(t *testing.T) {
	t.Parallel()
	in := newProxy(t, 1)
	o := newOutside(in, 0, "BEATS", "off")
	in.args = append(in.args, "--origin", "rtmp="+o.addr+",name=nginx")
	in.command(cleanEnv())
	in.start()
	in.waitOrigins(0, 1, readyWithin)
	if status, _ := in.systemGet("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready with an origin that does not answer: %d", status)
	}
	o.run()
	in.waitOrigins(1, 1, readyWithin)
	in.publish(t, "a")
	in.playRTMP(t, "a").awaitFrames(t, 10, 15*time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if r := get(t, ctx, in.stream("flv", "live/a"), nil); r.code != http.StatusServiceUnavailable || !strings.Contains(string(r.body), "endpoint") {
		t.Errorf("HTTP-FLV of an origin without HTTP: %d %s", r.code, r.body)
	}
	if s := in.status().origin("nginx"); s.State != "ready" || s.Ports.API != 0 {
		t.Errorf("%+v", s)
	}
	o.signal(syscall.SIGKILL)
	in.waitOrigins(0, 1, 3*time.Second)
	o.run()
	in.waitOrigins(1, 1, readyWithin)
}

// With a token, only who has it registers, and it is in no log.
func TestProxyToken(t *testing.T) {
	t.Parallel()
	const token = "sesame-4711"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := newProxy(t, 2, "--register-token", "file:"+file, "--log-level", "debug").start()
	a := newOutside(in, 0, "URL", "http://"+in.system()+"/api/v1/srs/register/"+token).run()
	newOutside(in, 1).run()
	in.waitOrigins(1, 1, readyWithin)
	eventually(t, 10*time.Second, "the other one was refused", func() (bool, string) {
		return strings.Contains(in.err.String(), "registration refused"), in.err.String()
	})
	if s := in.status(); len(s.Origins) != 1 || s.Origins[0].ID != a.addr {
		t.Errorf("%+v", s.Origins)
	}
	if strings.Contains(in.err.String(), token) {
		t.Errorf("the token is in the log:\n%s", in.err.String())
	}
}

// What curl sends that may not be, or makes no sense, is refused with one JSON answer, and
// the origins are those that there were.
func TestProxyRefusesRegistrations(t *testing.T) {
	t.Parallel()
	needTool(t, "curl", "curl")
	const token, path = "sesame-4711", "/api/v1/srs/register"
	in := newProxy(t, 2, "--register-token", token, "--max-origins", "1").start()
	newOutside(in, 0, "URL", "http://"+in.system()+path+"/"+token).run()
	in.waitOrigins(1, 1, readyWithin)
	table := func() string { // less what changes by itself
		var text strings.Builder
		for _, o := range in.status().Origins {
			fmt.Fprintln(&text, o.ID, o.State, o.PID, o.Ports)
		}
		return text.String()
	}
	before := table()
	body := fmt.Sprintf(`{"ip":"127.0.0.1","server":"s","service":"t","pid":"1","rtmp":["%d"]}`, in.ports.base+perOrigin)
	url := "http://" + in.system() + path
	file := writeFile(t, "large", `{"server":"`+strings.Repeat("x", 70_000)+`"}`)
	for name, tt := range map[string]struct {
		code int
		args []string
	}{
		"no token":             {401, []string{"-d", body, url}},
		"wrong token":          {401, []string{"-d", body, url + "/sesame-4712"}},
		"wrong bearer":         {401, []string{"-H", "Authorization: Bearer x", "-d", body, url + "/" + token}},
		"token in the query":   {401, []string{"-d", body, url + "?token=" + token}},
		"GET":                  {405, []string{url + "/" + token}},
		"a form":               {400, []string{"-d", "ip=127.0.0.1", url + "/" + token}},
		"half a body":          {400, []string{"-d", body[:40], url + "/" + token}},
		"a chunked half":       {400, []string{"-H", "Transfer-Encoding: chunked", "-d", body[:40], url + "/" + token}},
		"too large":            {413, []string{"-d", "@" + file, url + "/" + token}},
		"another path":         {404, []string{"-d", body, url + "s/" + token}},
		"a path with dots":     {404, []string{"--path-as-is", "-d", body, "http://" + in.system() + "/api/../api/v1/srs/register/" + token}},
		"a browser":            {403, []string{"-H", "Origin: http://example.com", "-d", body, url + "/" + token}},
		"no rtmp":              {400, []string{"-d", strings.Replace(body, "rtmp", "hls", 1), url + "/" + token}},
		"the proxy itself":     {400, []string{"-d", strings.Replace(body, fmt.Sprint(in.ports.base+perOrigin), fmt.Sprint(in.ports.RTMP), 1), url + "/" + token}},
		"more than one origin": {503, []string{"-d", body, url + "/" + token}},
	} {
		got := run(t, exec.Command("curl", append([]string{"-sS", "-w", "\n%{http_code}"}, tt.args...)...))
		text, code, _ := strings.Cut(got.out, "\n")
		var answer struct{ Code int }
		if err := json.Unmarshal([]byte(text), &answer); err != nil || code != fmt.Sprint(tt.code) || answer.Code != tt.code {
			t.Errorf("%s: %s %s %s, %v; want %d", name, code, text, got.err, err, tt.code)
		}
		if after := table(); after != before {
			t.Errorf("%s: the origins were\n%sand are\n%s", name, before, after)
		}
	}
	in.publish(t, "a")
	in.playRTMP(t, "a").awaitFrames(t, 5, 15*time.Second)
	if strings.Contains(in.err.String(), token) {
		t.Error("the token is in the log")
	}
}

// An operator's stop: no new clients, and those that there are, of all protocols, have
// their time.
func TestProxyDrains(t *testing.T) {
	t.Parallel()
	in := newProxy(t, 1, "--drain-timeout", "20s", "--shutdown-delay", "1s").start()
	newOutside(in, 0).run()
	in.waitOrigins(1, 1, readyWithin)
	pub := in.publish(t, "a")
	player, flv := in.playRTMP(t, "a"), in.playFLV(t, "a")
	awaitFrames(t, 5, 15*time.Second, player, flv)
	api := "http://" + in.api()
	whip := whipOpus(t, api, "/rtc/v1/whip/?app=live&stream=w", webrtc.NetworkTypeUDP4)
	whep := whepPlay(t, api, "/rtc/v1/whep/?app=live&stream=w", webrtc.NetworkTypeUDP4, webrtc.RTPCodecTypeAudio)
	srt := srtPublish(t, in.srtURL("#!::r=live/s,m=publish"))
	checkCodecs(t, in.stream("rtmp", "live/s"), "aac", "h264")

	in.signal(syscall.SIGTERM)
	eventually(t, time.Second, "not ready", func() (bool, string) {
		status, body := in.systemGet("/readyz")
		return status == http.StatusServiceUnavailable, body
	})
	if !dialable(in.rtmp()) {
		t.Error("refused before load balancers could notice")
	}
	eventually(t, 10*time.Second, "clients are refused", func() (bool, string) {
		return !dialable(in.rtmp()) && !dialable(in.http()) && !dialable(in.api()), "accepted"
	})
	awaitFrames(t, 30, 15*time.Second, player, flv)
	for len(whep.packets) > 0 {
		<-whep.packets
	}
	whep.receives(t, webrtc.MimeTypeOpus)
	if !srt.running() {
		t.Errorf("the SRT publisher was ended: %s", srt.out.String())
	}
	// Its port stays, for the sessions: who comes now is refused there.
	if code := srtPublish(t, in.srtURL("#!::r=live/late,m=publish")).waitEnd(t, 10*time.Second); code == 0 {
		t.Error("a new SRT publisher was let in")
	}
	if status, body := in.systemGet("/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d %s", status, body)
	}
	if !in.running() {
		t.Fatal("it has ended before its sessions")
	}
	pub.stop()
	player.stop()
	flv.stop()
	srt.stop()
	for _, c := range []*rtcClient{whep, whip} {
		_ = c.pc.GracefulClose()
	}
	// Nobody hears of the end of WebRTC and of a killed SRT caller: they are gone when they have
	// been silent for long enough, or when the time is over.
	if code := in.waitEnd(25 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// The time to drain is bounded, and a second signal ends it.
func TestProxyDrainEnds(t *testing.T) {
	t.Parallel()
	for name, flags := range map[string][]string{"deadline": {"--drain-timeout", "1s"}, "second signal": {"--drain-timeout", "5m", "--shutdown-delay", "5m"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := newProxy(t, 1, flags...).start()
			newOutside(in, 0).run()
			in.waitOrigins(1, 1, readyWithin)
			in.publish(t, "a")
			in.playRTMP(t, "a").awaitFrames(t, 5, 15*time.Second)
			in.signal(syscall.SIGTERM)
			if name == "second signal" {
				eventually(t, 5*time.Second, "it stops", func() (bool, string) {
					status, body := in.systemGet("/readyz")
					return status == http.StatusServiceUnavailable, body
				})
				in.signal(syscall.SIGTERM)
			}
			if code := in.waitEnd(10 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

// The existing proxy's documentation, word for word but for the ports: the bare
// command, its origins, its registration by hand, its default backend.
func TestExistingProxysCommands(t *testing.T) {
	t.Parallel()
	in := newProxy(t, 2)
	in.args = nil
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	env := []string{
		"PROXY_RTMP_SERVER=" + port(in.rtmp()), "PROXY_HTTP_SERVER=" + port(in.http()), "PROXY_HTTP_API=" + port(in.api()), "PROXY_WEBRTC_SERVER=" + port(in.webrtc()),
		"PROXY_SRT_SERVER=" + port(in.srt()), "PROXY_SYSTEM_API=" + port(in.system()), "PROXY_LOAD_BALANCER_TYPE=memory",
		"PROXY_FORCE_QUIT_TIMEOUT=30s", "PROXY_GRACE_QUIT_TIMEOUT=1s",
		"SRS_PROXY_STATE_DIR=" + in.stateDir,
	}
	in.command(cleanEnv(env...))
	in.start()
	newOutside(in, 0).run()
	newOutside(in, 1).run()
	in.waitOrigins(2, 2, readyWithin)
	if status, body := in.systemGet("/api/v1/versions"); status != http.StatusOK || !strings.Contains(body, `"signature"`) || !strings.Contains(body, `"version"`) {
		t.Errorf("versions: %d %s", status, body)
	}
	host := "localhost:" + port(in.rtmp())
	ffmpegPublish(t, "rtmp://"+host+"/live/livestream")
	checkCodecs(t, "rtmp://"+host+"/live/livestream", "aac", "h264")
	checkCodecs(t, "http://localhost:"+port(in.http())+"/live/livestream.flv", "aac", "h264")
	checkCodecs(t, "http://localhost:"+port(in.http())+"/live/livestream.m3u8", "aac", "h264")
	srt := "srt://127.0.0.1:" + port(in.srt()) + "?streamid=#!::r=live/srt,m="
	startTool(t, "ffmpeg", "-hide_banner", "-loglevel", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", suite.clip.path,
		"-c", "copy", "-pes_payload_size", "0", "-f", "mpegts", srt+"publish")
	checkCodecs(t, "rtmp://"+host+"/live/srt", "aac", "h264")
	checkCodecs(t, srt+"request", "aac", "h264")
	checkCodecs(t, "http://localhost:"+port(in.http())+"/live/srt.flv", "aac", "h264")
	api := "http://localhost:" + port(in.api()) // as the players whip.html and whep.html do
	whipOpus(t, api, "/rtc/v1/whip/?app=live&stream=rtc", webrtc.NetworkTypeUDP4)
	whepPlay(t, api, "/rtc/v1/whep/?app=live&stream=rtc", webrtc.NetworkTypeUDP4, webrtc.RTPCodecTypeAudio).receives(t, webrtc.MimeTypeOpus)
	status, answer := in.register("/api/v1/srs/register", `{"device_id": "origin2", "ip": "10.78.122.184", "server": "vid-46p14mm", "service": "z2s3w865", "pid": "42583",
		"rtmp": ["19352"], "http": ["8082"], "api": ["19853"], "srt": ["10082"], "rtc": ["udp://0.0.0.0:8001"]}`)
	if status != http.StatusOK || answer != fmt.Sprintf(`{"code":0,"pid":"%d"}`, in.cmd.Process.Pid) {
		t.Errorf("registration by hand: %d %s", status, answer)
	}
}

// Two of them with Redis, told by variables alone, of which some are empty.
func TestExistingProxysRedis(t *testing.T) {
	t.Parallel()
	_, addr, _ := sharing(t)
	host, port, _ := net.SplitHostPort(addr)
	start := func() *instance {
		in := newProxy(t, 2)
		in.args = nil
		in.command(cleanEnv("PROXY_RTMP_SERVER="+in.rtmp(), "PROXY_HTTP_SERVER="+in.http(), "PROXY_HTTP_API="+in.api(), "PROXY_WEBRTC_SERVER="+in.webrtc(),
			"PROXY_SRT_SERVER="+in.srt(), "PROXY_SYSTEM_API="+in.system(), "PROXY_LOAD_BALANCER_TYPE=redis", "PROXY_REDIS_HOST="+host, "PROXY_REDIS_PORT="+port,
			"PROXY_REDIS_PASSWORD=", "PROXY_REDIS_DB=0", "SRS_PROXY_STATE_DIR="+in.stateDir))
		return in.start()
	}
	a, b := start(), start()
	newOutside(a, 0).run()
	newOutside(a, 1, "URL", "http://"+b.system()+"/api/v1/srs/register").run() // each with another proxy
	for _, in := range []*instance{a, b} {
		in.waitOrigins(2, 2, readyWithin)
	}
	ffmpegPublish(t, a.stream("rtmp", "live/livestream"))
	for _, proto := range []string{"rtmp", "flv", "m3u8"} {
		checkCodecs(t, b.stream(proto, "live/livestream"), "aac", "h264")
	}
}

// The default backend is an origin that does not register, and .env a place for it all.
func TestExistingProxysEnvFile(t *testing.T) {
	t.Parallel()
	in := newProxy(t, 1)
	in.args = nil
	o := newOutside(in, 0, "BEATS", "off")
	dir := t.TempDir()
	text := fmt.Sprintf("# my proxy\nPROXY_RTMP_SERVER=%s\nPROXY_HTTP_SERVER=%s\nPROXY_HTTP_API=%s\nPROXY_WEBRTC_SERVER=%s\nPROXY_SRT_SERVER=%s\nPROXY_SYSTEM_API=%s\n"+
		"PROXY_DEFAULT_BACKEND_ENABLED=on\nPROXY_DEFAULT_BACKEND_IP=127.0.0.1\nPROXY_DEFAULT_BACKEND_RTMP=%d\nPROXY_DEFAULT_BACKEND_HTTP=%d\nPROXY_DEFAULT_BACKEND_API=%d\n",
		in.rtmp(), in.http(), in.api(), in.webrtc(), in.srt(), in.system(), in.ports.base, in.ports.base+1, in.ports.base+2)
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pages := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(pages, "player.html"), []byte("<p>player</p>"), 0o600), os.Symlink("/etc/passwd", filepath.Join(pages, "link.html"))); err != nil {
		t.Fatal(err)
	}
	in.command(cleanEnv("SRS_PROXY_STATE_DIR="+in.stateDir, "PROXY_GRACE_QUIT_TIMEOUT=1s", "PROXY_STATIC_FILES="+pages))
	in.cmd.Dir = dir
	in.start()
	o.run()
	in.waitOrigins(1, 1, readyWithin)
	pub := in.publish(t, "a")
	player := in.playFLV(t, "a")
	if !player.hasFramesWithin(5*time.Second) && o.isSplit("a") {
		t.Log("SRS has split the stream: its encoder is restarted")
		pub.stop()
		in.republish(t, "a", 10*time.Second)
	}
	player.awaitFrames(t, 10, 15*time.Second)
	if !o.has("a") {
		t.Error("the default backend does not have the stream")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if r := get(t, ctx, "http://"+in.http()+"/player.html", nil); r.code != http.StatusOK || string(r.body) != "<p>player</p>" {
		t.Errorf("a static page: %d %s", r.code, r.body)
	}
	for _, path := range []string{"/link.html", "/..%2f..%2fetc/passwd", "/none.html"} {
		if r := get(t, ctx, "http://"+in.http()+path, nil); r.code == http.StatusOK || strings.Contains(string(r.body), "root:") {
			t.Errorf("%s: %d %s", path, r.code, r.body)
		}
	}
}

// Two proxies of one user on one machine need no folders of their own.
func TestTwoProxiesOnOneMachine(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to run the program as another user with a home of its own")
	}
	home := t.TempDir()
	const nobody = 65534
	for dir := home; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	launch := func() *instance {
		in := newProxy(t, 1, "--drain-timeout", "0s")
		in.stateDir = filepath.Join(home, ".local", "state", "srs-proxy")
		flags := append([]string{"proxy"}, in.args[3:]...) // without a state dir
		in.args = flags
		in.command(cleanEnv("HOME="+home, "XDG_STATE_HOME="))
		in.cmd.Dir = "/"
		in.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		in.start()
		eventually(t, readyWithin, "the system API answers", func() (bool, string) {
			status, body := in.systemGet("/healthz")
			return status == http.StatusOK, body
		})
		return in
	}
	first, second := launch(), launch()
	if got := srsProxy(t, "status", "--control", filepath.Join(first.stateDir, "control.sock"), "-o", "json"); !strings.Contains(got.out, first.rtmp()) {
		t.Errorf("the first: %+v", got)
	}
	other := filepath.Join(first.stateDir, fmt.Sprintf("proxy-%d.sock", second.ports.RTMP))
	if got := srsProxy(t, "status", "--control", other, "-o", "json"); !strings.Contains(got.out, second.rtmp()) {
		t.Errorf("the second: %+v", got)
	}
	if got := srsProxy(t, "down", "--control", other); got.code != 0 {
		t.Errorf("down: %+v", got)
	}
	second.waitEnd(10 * time.Second)
	second.stateDir = t.TempDir() // the first's is still in use
}
