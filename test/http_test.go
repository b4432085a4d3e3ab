package e2e

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHTTP looks at the answers as browsers and CDNs do.
func TestHTTP(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	in.publish(t, "a")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	page := http.Header{"Origin": {"http://player.example.org"}}
	eventually(t, 20*time.Second, "a segment", func() (bool, string) {
		r, err := hlsSegment(ctx, in.stream("m3u8", "live/a"), nil)
		return err == nil && r.code == http.StatusOK, fmt.Sprintf("%d %v", r.code, err)
	})

	t.Run("flv", func(t *testing.T) {
		conn := dialFrom(t, "127.0.0.1", in.http())
		resp, err := exchange(conn, http.MethodGet, in.http(), "/live/a.flv", page)
		if err != nil {
			t.Fatal(err)
		}
		checkHeaders(t, resp.StatusCode, resp.Header, "video/x-flv")
	})
	t.Run("m3u8", func(t *testing.T) {
		r := get(t, ctx, in.stream("m3u8", "live/a"), page)
		checkHeaders(t, r.code, r.header, "application/vnd.apple.mpegurl")
		if !strings.HasPrefix(string(r.body), "#EXTM3U") {
			t.Errorf("no playlist: %s", r.body)
		}
	})
	t.Run("HEAD of m3u8", func(t *testing.T) {
		// SRS has no file of its master playlist, and says so to HEAD alone; what
		// the proxy must not do is hang or invent.
		direct := in.directHTTP(t, "a")
		want, err := fetch(ctx, http.MethodHead, direct+"/live/a.m3u8", page)
		if err != nil {
			t.Fatal(err)
		}
		r, err := fetch(ctx, http.MethodHead, in.stream("m3u8", "live/a"), page)
		if err != nil {
			t.Fatal(err)
		}
		if r.code != want.code || len(r.body) != 0 || r.header.Get("Content-Type") != want.header.Get("Content-Type") {
			t.Errorf("HTTP %d, %d bytes, %s; the origin says %d, %s", r.code, len(r.body), r.header.Get("Content-Type"), want.code, want.header.Get("Content-Type"))
		}
	})
	t.Run("ts", func(t *testing.T) {
		r, err := hlsSegment(ctx, in.stream("m3u8", "live/a"), page)
		if err != nil {
			t.Fatal(err)
		}
		checkHeaders(t, r.code, r.header, "video/mp2t")
		if got := r.header.Get("Content-Length"); got != fmt.Sprint(len(r.body)) {
			t.Errorf("Content-Length %q of %d bytes", got, len(r.body))
		}
	})
	t.Run("preflight", func(t *testing.T) {
		h := page.Clone()
		h.Set("Access-Control-Request-Method", "GET")
		r, err := fetch(ctx, http.MethodOptions, in.stream("flv", "live/a"), h)
		if err != nil {
			t.Fatal(err)
		}
		if r.code/100 != 2 || r.header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("HTTP %d, %v", r.code, r.header)
		}
	})
	t.Run("keep-alive", func(t *testing.T) { checkKeepAlive(t, in) })
	t.Run("real client", func(t *testing.T) { checkRealClient(t, in) })
	t.Run("client gone", func(t *testing.T) { checkClientGone(t, in) })
}

func checkHeaders(t *testing.T, code int, h http.Header, contentType string) {
	t.Helper()
	if code != http.StatusOK {
		t.Errorf("HTTP %d, want 200", code)
	}
	if got := strings.ToLower(h.Get("Content-Type")); got != contentType {
		t.Errorf("Content-Type %q, want %q", got, contentType)
	}
	if got := h.Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != "*" {
		t.Errorf("Access-Control-Allow-Origin %q, want one *", got)
	}
	if h.Get("Server") == "" {
		t.Error("the origin's Server header is lost")
	}
}

// directHTTP is the URL of the origin that has a stream.
func (in *instance) directHTTP(t *testing.T, name string) string {
	t.Helper()
	id, _ := in.home(t, name)
	return fmt.Sprintf("http://127.0.0.1:%d", in.status().origin(id).Ports.HTTP)
}

// dialFrom connects from an address of this machine: each of 127/8 is one.
func dialFrom(t *testing.T, ip, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 10 * time.Second}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// checkKeepAlive: playlists and segments come over one connection.
func checkKeepAlive(t *testing.T, in *instance) {
	conn := dialFrom(t, "127.0.0.1", in.http())
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	for i := range 20 {
		req, err := http.NewRequest(http.MethodGet, in.stream("m3u8", "live/a"), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if err := req.Write(conn); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		body := new(strings.Builder)
		if _, err := bufio.NewReader(resp.Body).WriteTo(body); err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(body.String(), "#EXTM3U") {
			t.Fatalf("answer %d: %s %v\n%s", i, resp.Status, err, body)
		}
		resp.Body.Close()
	}
}

// apiClient is a client as an origin's API shows it.
type apiClient struct {
	ID, IP, Type string
	Publish      bool
}

// clientsOf are the clients of all origins.
func (in *instance) clientsOf(t *testing.T) (all []apiClient) {
	t.Helper()
	for _, o := range in.status().Origins {
		var reply struct{ Clients []apiClient }
		o.api(t, "/api/v1/clients/?count=1000", &reply)
		all = append(all, reply.Clients...)
	}
	return all
}

// checkRealClient: the origin knows the client's address, whatever the client says it is.
func checkRealClient(t *testing.T, in *instance) {
	const real, forged = "127.0.0.77", "192.0.2.66"
	// Of HTTP-FLV, SRS's API shows the TCP peer; of HLS the header's address.
	path := "/live/a.flv"
	if suite.srs != "" {
		path = "/live/a.m3u8"
	}
	conn := dialFrom(t, real, in.http())
	resp, err := exchange(conn, http.MethodGet, in.http(), path, http.Header{"X-Forwarded-For": {forged}, "X-Real-Ip": {forged}})
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %+v", err, resp)
	}
	eventually(t, 5*time.Second, "the client's address at the origin", func() (bool, string) {
		found := false
		clients := in.clientsOf(t)
		for _, c := range clients {
			if c.IP == forged {
				t.Fatalf("the origin believes the client's own X-Forwarded-For: %+v", c)
			}
			found = found || c.IP == real
		}
		return found, fmt.Sprintf("%+v", clients)
	})
	if suite.srs == "" {
		return
	}
	// Over RTMP, SRS's log has the address (0xF3).
	const rtmpClient = "127.0.0.78"
	c := &peer{conn: dialFrom(t, rtmpClient, in.rtmp()).(*net.TCPConn)}
	_ = c.conn.SetDeadline(time.Now().Add(rtmpTimeout))
	if err := c.connect("rtmp://" + in.rtmp() + "/live"); err != nil {
		t.Fatal(err)
	}
	if err := c.play("a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the RTMP client's address in SRS's log", func() (bool, string) {
		for _, o := range in.status().Origins {
			if log, err := os.ReadFile(o.LogFile); err == nil && strings.Contains(string(log), rtmpClient) {
				return true, ""
			}
		}
		return false, "no log with " + rtmpClient
	})
}

// checkClientGone: the origin loses a client as soon as the proxy does.
func checkClientGone(t *testing.T, in *instance) {
	plays := func() (n int, saw string) {
		clients := in.clientsOf(t)
		for _, c := range clients {
			if !c.Publish && !strings.Contains(strings.ToLower(c.Type), "publish") && !strings.Contains(strings.ToLower(c.Type), "hls") {
				n++
			}
		}
		return n, fmt.Sprintf("%+v", clients)
	}
	players := map[string]*player{"flv": in.playFLV(t, "a"), "rtmp": in.playRTMP(t, "a")}
	for _, p := range players {
		p.awaitFrames(t, 2, 10*time.Second)
	}
	for name, p := range players {
		before, _ := plays()
		p.stop()
		took := eventually(t, 3*time.Second, "the origin loses the "+name+" client", func() (bool, string) {
			now, saw := plays()
			return now == before-1, saw
		})
		t.Logf("%s: the origin lost its client %s after it hung up", name, took.Round(time.Millisecond))
	}
	// One that waits for a publisher has no bytes by whose failure it is noticed.
	before := in.sessionSockets(t)
	fresh := func() []string {
		now := in.sessionSockets(t)
		maps.DeleteFunc(now, func(s string, _ bool) bool { return before[s] })
		return slices.Collect(maps.Keys(now))
	}
	waiting := []net.Conn{openWaiting(t, in, "nobody").conn}
	if suite.srs != "" { // the built-in origin answers 404
		conn := dialFrom(t, "127.0.0.1", in.http())
		if _, err := fmt.Fprintf(conn, "GET /live/nobody.flv HTTP/1.1\r\nHost: %s\r\n\r\n", in.http()); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, conn)
	}
	eventually(t, 5*time.Second, "waiting sessions with a socket on both sides", func() (bool, string) {
		now := fresh()
		return len(now) == 2*len(waiting), fmt.Sprint(now)
	})
	for _, conn := range waiting {
		conn.Close()
	}
	took := eventually(t, 3*time.Second, "no session waits for a publisher whose client is gone", func() (bool, string) {
		now := fresh()
		return len(now) == 0, fmt.Sprint(now)
	})
	t.Logf("waiting sessions ended %s after their clients hung up", took.Round(time.Millisecond))
}
