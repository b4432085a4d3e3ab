package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

// sharing is a Redis, and a proxy that keeps there what it knows.
func sharing(t *testing.T) (s *redistest.Server, addr string, proxy func(origins int, flags ...string) *instance) {
	t.Helper()
	addr = testkit.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	s = redistest.Start(t, "--port", port, "--bind", "127.0.0.1")
	return s, addr, func(origins int, flags ...string) *instance {
		t.Helper()
		in := newProxy(t, origins, append([]string{"--balancer", "redis", "--redis", addr}, flags...)...).start()
		eventually(t, readyWithin, "the system API answers", func() (bool, string) {
			status, body := in.systemGet("/healthz")
			return status == http.StatusOK, body
		})
		return in
	}
}

func (in *instance) waitAnyOrigin() {
	in.t.Helper()
	eventually(in.t, readyWithin, "an origin is known", func() (bool, string) {
		status, body := in.systemGet("/readyz")
		return status == http.StatusOK, body
	})
}

// Two proxies of one Redis are one: what is published through one plays through the
// other, and an origin's death is both's. Redis may stop meanwhile.
func TestProxiesShareRedis(t *testing.T) {
	t.Parallel()
	redis, _, proxy := sharing(t)
	a, b := proxy(3), proxy(1)
	origins := []*outside{newOutside(a, 0).run(), newOutside(a, 1).run(), newOutside(a, 2).run()}
	a.waitOrigins(3, 3, readyWithin)
	b.waitAnyOrigin()
	for i := range 3 {
		through, other := a, b
		if i%2 == 1 {
			through, other = b, a
		}
		name := fmt.Sprint("s", i)
		through.publish(t, name)
		other.playRTMP(t, name).awaitFrames(t, 10, 15*time.Second)
		other.playFLV(t, name).awaitFrames(t, 10, 15*time.Second)
	}

	pub := a.publish(t, "live")
	player := b.playRTMP(t, "live")
	player.awaitFrames(t, 10, 15*time.Second)
	redis.Stop()
	stopped := time.Now()
	eventually(t, 10*time.Second, "a new stream is refused, and told why", func() (bool, string) {
		p, err := startPublisher(b.rtmp(), "rtmp://"+b.rtmp()+"/live", "new")
		if err == nil {
			p.stop()
			return false, "accepted"
		}
		return strings.Contains(err.Error(), "state store"), err.Error()
	})
	conn, err := net.Dial("tcp", b.http())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if resp, err := exchange(conn, http.MethodGet, b.http(), "/live/unknown.flv", nil); err != nil {
		t.Error(err)
	} else if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("an unknown stream over HTTP: %s", resp.Status)
	}
	b.playRTMP(t, "live").awaitFrames(t, 10, 15*time.Second)
	b.playFLV(t, "s0").awaitFrames(t, 10, 15*time.Second)
	time.Sleep(time.Until(stopped.Add(5 * time.Second)))
	redis.Continue()
	_, took := b.republish(t, "new", 30*time.Second)
	t.Logf("a new stream was accepted %s after Redis was back", took.Round(time.Millisecond))
	if took > 5*time.Second {
		t.Errorf("a new stream was accepted %s after Redis was back, want 5s", took)
	}
	player.checkNoGap(t)
	a.playRTMP(t, "new").awaitFrames(t, 10, 15*time.Second)

	home, other := homeOf(t, "live", origins...)
	if other.has("live") {
		t.Error("two origins have the stream")
	}
	home.signal(syscall.SIGKILL)
	pub.stop()
	_, took = b.republish(t, "live", 15*time.Second)
	t.Logf("published again through the other proxy %s after its origin's death", took.Round(time.Millisecond))
	if took > time.Second {
		t.Errorf("published again %s after its origin's death, want 1s", took)
	}
	a.playRTMP(t, "live").awaitFrames(t, 10, 15*time.Second)
}

// The existing proxy and this one on one Redis: what is published through either plays
// through the other. EXISTING_PROXY is the path of its binary.
func TestExistingProxyOnOneRedis(t *testing.T) {
	t.Parallel()
	binary := os.Getenv("EXISTING_PROXY")
	if binary == "" {
		t.Skip("EXISTING_PROXY is not set: no other proxy to share Redis with")
	}
	_, addr, proxy := sharing(t)
	in := proxy(2)
	old := newProxy(t, 1)
	host, port, _ := net.SplitHostPort(addr)
	other := exec.Command(binary)
	other.Dir = t.TempDir()
	var out output
	other.Stdout, other.Stderr = &out, &out
	other.Env = cleanEnv("PROXY_LOAD_BALANCER_TYPE=redis", "PROXY_REDIS_HOST="+host, "PROXY_REDIS_PORT="+port, "PROXY_STATIC_FILES="+other.Dir)
	for name, p := range map[string]int{"RTMP_SERVER": old.ports.RTMP, "HTTP_SERVER": old.ports.HTTP, "HTTP_API": old.ports.API, "SRT_SERVER": old.ports.SRT, "WEBRTC_SERVER": old.ports.WebRTC, "SYSTEM_API": old.ports.WebRTC + 1} {
		other.Env = append(other.Env, fmt.Sprintf("PROXY_%s=%d", name, p))
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
		if t.Failed() {
			t.Logf("the existing proxy:\n%.20000s", out.String())
		}
	})
	eventually(t, readyWithin, "the existing proxy answers", func() (bool, string) { return dialable(old.system()), "" })
	// That one takes servers for its own only if they say bare ports.
	theirs := newOutside(in, 1, "URL", "http://"+old.system()+"/api/v1/srs/register", "HOST:RTMP", fmt.Sprint(in.ports.base+perOrigin))
	origins := []*outside{newOutside(in, 0).run(), theirs.run()}
	in.waitOrigins(1, 1, readyWithin)
	homes := make(map[*outside]int)
	for i := range 8 {
		through, player := in, old
		if i%2 == 1 {
			through, player = old, in
		}
		name := fmt.Sprint("s", i)
		through.republish(t, name, readyWithin)
		home, stranger := homeOf(t, name, origins...)
		player.playRTMP(t, name).awaitFrames(t, 10, 15*time.Second)
		player.playFLV(t, name).awaitFrames(t, 10, 15*time.Second)
		if stranger.has(name) {
			t.Errorf("two origins have %s", name)
		}
		homes[home]++
	}
	if len(homes) != 2 {
		t.Error("only one of the origins was used: who registered with one proxy is unknown to the other")
	}
}
