package httpserver

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/hls"
	"srs-proxy/testkit"
)

var tokenA = hls.Token(balancer.DefaultVhost, "live", "a")

func TestPlaylist(t *testing.T) {
	var got atomic.Pointer[http.Request]
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Clone(r.Context()))
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("Etag", `"x"`)
		fmt.Fprintf(w, "#EXTM3U\r\n#EXT-X-MAP:URI=\"a/init.mp4\"\r\n#EXTINF:2,\r\na-0.m4s?hls_ctx=1\r\nhttp://%s/live/a-1.m4s\r\nhttp://cdn/x.m4s", r.Context().Value(http.LocalAddrContextKey))
	})
	e := start(t, nil, o)
	resp, body := e.get("/live/a.m3u8?token=%2F&&x&spbhid="+tokenA, "Host", "media.example", "X-Forwarded-For", "1.2.3.4", "X-Real-Ip", "1.2.3.4",
		"Accept-Encoding", "gzip", "Range", "bytes=0-9", "User-Agent", "hls", "X-Forwarded-Proto", "https", "Connection", "X-Hop", "X-Hop", "1")
	want := strings.ReplaceAll("#EXTM3U\r\n#EXT-X-MAP:URI=\"a/init.mp4?spbhid=T\"\r\n#EXTINF:2,\r\na-0.m4s?hls_ctx=1&spbhid=T\r\n/live/a-1.m4s?spbhid=T\r\nhttp://cdn/x.m4s", "=T", "="+tokenA)
	if resp.StatusCode != 200 || body != want {
		t.Errorf("got %d\n%s\nwant\n%s", resp.StatusCode, body, want)
	}
	if h := resp.Header; resp.ContentLength != int64(len(want)) || h.Get("Content-Type") != "application/vnd.apple.mpegurl" ||
		h.Get("Cache-Control") != "no-cache" || h.Get("Etag") != `"x"` || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers: %d %v", resp.ContentLength, resp.Header)
	}
	r := got.Load()
	if r.RequestURI != "/live/a.m3u8?token=%2F&&x" || r.Host != "media.example" {
		t.Errorf("asked for %s on %s", r.RequestURI, r.Host)
	}
	wantHeader := http.Header{"X-Forwarded-For": {"127.0.0.1"}, "X-Real-Ip": {"127.0.0.1"}, "User-Agent": {"hls"}, "X-Forwarded-Proto": {"https"}, "Host": nil}
	delete(wantHeader, "Host")
	if fmt.Sprint(r.Header) != fmt.Sprint(wantHeader) {
		t.Errorf("header %v\nwant   %v", r.Header, wantHeader)
	}
}

func TestPlaylistAnswers(t *testing.T) {
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	io.WriteString(zw, "#EXTM3U\na.ts\n")
	zw.Close()
	const mime = "Content-Type: application/vnd.apple.mpegurl\r\n"
	tests := []struct {
		name, method, answer string
		status               int
		body                 string
	}{
		{"not found", "GET", "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n\r\nNot Found", 404, "Not Found"},
		{"not a playlist", "GET", "HTTP/1.1 200 OK\r\n\r\n<html>a.ts", 200, "<html>a.ts"},
		{"empty", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""},
		{"packed", "GET", "HTTP/1.1 200 OK\r\n" + mime + "Content-Encoding: gzip\r\n\r\n" + packed.String(), 200, packed.String()},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\n" + mime + "Transfer-Encoding: chunked\r\n\r\n9\r\n#EXTM3U\na\r\n3\r\n.ts\r\n0\r\n\r\n", 200, "#EXTM3U\na.ts?spbhid=" + tokenA},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\n" + mime + "Content-Length: 9\r\n\r\n", 200, ""},
		{"too large", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n#EXTM3U\n" + strings.Repeat("\n", 4097-8), 502, "the origin's playlist is too large\n"},
		{"just not too large", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n#EXTM3U\n" + strings.Repeat("\n", 4096-8), 200, "#EXTM3U\n" + strings.Repeat("\n", 4096-8)},
		{"cut short", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n#EXTM3U\n", 502, "the origin's playlist could not be read to its end\n"},
		{"stuck", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n#EXTM3U\n...", 504, "the origin did not answer in time\n"},
		{"no answer", "GET", "...", 504, "the origin did not answer in time\n"},
		{"hang-up", "GET", "", 502, errHungUp.Error() + "\n"},
		{"not HTTP", "GET", "SSH-2.0\r\n\r\n", 502, "the origin could not be reached\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newRawOrigin(t, func(c *rawConn, _ string) {
				answer, stuck := strings.CutSuffix(tt.answer, "...")
				c.send(answer)
				if stuck {
					io.Copy(io.Discard, c)
				}
			})
			e := start(t, func(c *Config) { c.MaxPlaylist = 4096; c.FileTimeout = 300 * time.Millisecond }, o.addr)
			resp, body := e.do(tt.method, "/live/a.m3u8")
			if resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, body, tt.status, tt.body)
			}
			if tt.method == "HEAD" && resp.ContentLength == 9 {
				t.Error("HEAD tells the length of another body")
			}
		})
	}
}

// Segments go where their token says, whatever their path, through any proxy.
func TestTokenRoutes(t *testing.T) {
	name := func(id string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".m3u8") {
				io.WriteString(w, "#EXTM3U\nseg/1.ts\nseg/2.m4s?hls_ctx=1\n")
				return
			}
			fmt.Fprintf(w, "%s %s", id, r.RequestURI)
		}
	}
	o0, o1, o2 := newOrigin(t, name("o0")), newOrigin(t, name("o1")), newOrigin(t, name("o2"))
	first := start(t, nil, o0, o1, o2)
	second := start(t, nil, o0, o1, o2)
	for i := range 6 {
		stream, origin := fmt.Sprintf("s%d", i), fmt.Sprintf("o%d", i%3)
		first.pin(stream, origin)
		second.pin(stream, origin)
		_, list := first.get("/live/" + stream + ".m3u8")
		lines := strings.Split(strings.TrimSpace(list), "\n")
		if len(lines) != 3 {
			t.Fatalf("playlist: %q", list)
		}
		for j, want := range []string{"/live/seg/1.ts", "/live/seg/2.m4s?hls_ctx=1"} {
			if resp, body := second.get("/live/" + lines[j+1]); resp.StatusCode != 200 || body != origin+" "+want {
				t.Errorf("%s: got %d %q, want %s %s", lines[j+1], resp.StatusCode, body, origin, want)
			}
		}
	}
	for _, q := range []string{"", "x", "%00", strings.Repeat("A", 4000)} {
		if resp, body := first.get("/live/a-1.ts?spbhid=" + q); resp.StatusCode != 400 || !strings.Contains(body, "not a stream token") {
			t.Errorf("token %q: %d %q", q, resp.StatusCode, body)
		}
	}
}

// Without a token a name like a-7.ts may be a live stream or a segment of one.
func TestSegmentWithoutToken(t *testing.T) {
	origin := func(has ...string) *rawOrigin {
		return newRawOrigin(t, func(c *rawConn, head string) {
			for _, path := range has {
				if strings.HasPrefix(head, "GET "+path+" ") {
					if strings.Contains(path, "cam-7") {
						c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlive\r\n0\r\n\r\n")
					} else {
						c.send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsegment")
					}
					return
				}
			}
			c.send("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
		})
	}
	var segments []string
	for i := range 12 { // some of them would find o0 by luck
		segments = append(segments, fmt.Sprintf("/live/a-%d.ts", i))
	}
	e := start(t, nil, origin(segments...).addr, origin("/live/cam-7.ts").addr, origin().addr)
	e.pin("a", "o0")
	e.pin("cam-7", "o1")
	e.pin("cam", "o2")
	want := map[string]string{"/live/cam-7.ts": "200 live", "/live/cam-8.ts": "404 no", "/live/a.ts": "404 no"}
	for _, path := range segments {
		want[path] = "200 segment"
	}
	for path, want := range want {
		resp, body := e.get(path)
		if got := fmt.Sprintf("%d %s", resp.StatusCode, body); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func TestFilesAnotherOrigin(t *testing.T) {
	good := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Method) })
	e := start(t, nil, testkit.FreeAddr(t), good)
	for i := range 8 {
		if resp, body := e.get(fmt.Sprintf("/live/s%d.mp4", i)); resp.StatusCode != 200 || body != "GET" {
			t.Errorf("file %d: %s %q", i, resp.Status, body)
		}
	}
	// A pinned stream is nowhere else: that must be said, and soon.
	e = start(t, nil, testkit.FreeAddr(t), good)
	e.pin("a", "o0")
	if resp, body := e.get("/live/a.m3u8"); resp.StatusCode != 502 || !strings.Contains(body, "could not be reached") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	e = start(t, nil)
	if resp, body := e.get("/index.html"); resp.StatusCode != 503 || !strings.Contains(body, "no origin is available") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestFilesByTheByte(t *testing.T) {
	heads := make(chan string, 1)
	o := newRawOrigin(t, func(c *rawConn, head string) {
		heads <- head
		c.send("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\nConnection: Close\r\nX-Y: 1\r\n\r\nabc")
	})
	e := start(t, nil, o.addr)
	// Bytes that net/http would escape, and a query that it would call malformed.
	c := e.dial("GET /rec/\xe6\xb5\x81\"a.mp4?a=1;b&%zz HTTP/1.1\r\nHost: media.example:80\r\nRange: bytes=0-2\r\n\r\n")
	const want = "GET /rec/\xe6\xb5\x81\"a.mp4?a=1;b&%zz HTTP/1.1\r\nHost: media.example:80\r\nRange: bytes=0-2\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-Ip: 127.0.0.1\r\n\r\n"
	if got := <-heads; got != want {
		t.Errorf("request\n%q, want\n%q", got, want)
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 206 || string(body) != "abc" || resp.Close ||
		resp.Header.Get("Content-Range") != "bytes 0-2/9" || resp.Header.Get("Content-Type") != "video/mp4" || resp.Header.Get("X-Y") != "1" {
		t.Errorf("got %d %q %v, %v", resp.StatusCode, body, resp.Header, err)
	}
	c.send("GET //live/a.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
	if got := <-heads; !strings.HasPrefix(got, "GET //live/a.mp4 HTTP/1.1\r\n") {
		t.Errorf("request %q", got)
	}
	// The origin said that it closes, so that was on a connection of its own; and it is the same there.
	e.dial("GET /rec/\xe6\xb5\x81\"a.mp4?a=1;b&%zz HTTP/1.1\r\nHost: media.example:80\r\nRange: bytes=0-2\r\n\r\n")
	if again := <-heads; again != want {
		t.Errorf("request\n%q, before\n%q", again, want)
	}
}

// A body that the origin stops in the middle of is cut, so that the client sees it.
func TestFileStuck(t *testing.T) {
	o := newRawOrigin(t, func(c *rawConn, _ string) {
		c.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
		io.Copy(io.Discard, c)
	})
	e := start(t, func(c *Config) { c.FileTimeout = 200 * time.Millisecond }, o.addr)
	c := e.dial("GET /live/a.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
	c.head()
	c.expect("abc")
	if took := c.ended(); took > 5*time.Second {
		t.Errorf("cut after %v", took)
	}
}

func TestMethodsAndLimits(t *testing.T) {
	o := newRawOrigin(t, func(c *rawConn, head string) { t.Errorf("the origin was asked: %q", head) })
	e := start(t, func(c *Config) { c.HeaderTimeout = 300 * time.Millisecond }, o.addr)
	for _, path := range []string{"/live/a.flv", "/live/a.m3u8", "/"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "CONNECT", "BREW"} {
			if resp, _ := e.do(method, path); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
				t.Errorf("%s %s: %d %v", method, path, resp.StatusCode, resp.Header)
			}
		}
		resp, body := e.do("OPTIONS", path, "Origin", "http://page", "Access-Control-Request-Method", "GET",
			"Access-Control-Request-Headers", "range, authorization", "Access-Control-Request-Private-Network", "true")
		h := resp.Header
		if resp.StatusCode != 204 || body != "" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Headers") != "range, authorization" ||
			!strings.Contains(h.Get("Access-Control-Allow-Methods"), "GET") || h.Get("Access-Control-Allow-Private-Network") != "true" {
			t.Errorf("OPTIONS %s: %d %q %v", path, resp.StatusCode, body, h)
		}
	}
	for name, tt := range map[string]struct{ request, status string }{
		"body":              {"GET /live/a.flv HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "413"},
		"chunked body":      {"GET /live/a.ts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "413"},
		"header too large":  {"GET /live/a.flv HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 24<<10) + "\r\n\r\n", "431"},
		"OPTIONS *":         {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "200"}, // by net/http
		"control character": {"GET /live/a%0ab.m3u8 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		"not HTTP":          {"\x16\x03\x01\x02\x00\x01\r\n\r\n", "400"},
	} {
		if head := e.dial(tt.request).head(); !strings.HasPrefix(head, "HTTP/1.1 "+tt.status) {
			t.Errorf("%s: %q", name, head)
		}
	}
	if took := e.dial("GET /live/a.flv HTTP/1.1\r\nHost: ").ended(); took > 3*time.Second {
		t.Errorf("half a header held the connection for %v", took)
	}
	if took := e.dial("").ended(); took > 3*time.Second {
		t.Errorf("no header held the connection for %v", took)
	}
}

func TestFilesOriginsOwnCORSIsKept(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "https://page")
		w.WriteHeader(http.StatusForbidden)
	})
	e := start(t, nil, o)
	for _, path := range []string{"/live/a.m3u8", "/live/a.flv"} {
		h := func() http.Header { resp, _ := e.get(path); return resp.Header }()
		if h.Get("Access-Control-Allow-Origin") != "https://page" || h.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// A panic ends its own request, is counted and told, and nothing else.
func TestPanicIsContained(t *testing.T) {
	e := start(t, nil)
	s := New(DefaultConfig(), nil, nil, e.Server.log) // without a router every request panics
	s.cfg.Listen = "127.0.0.1:0"
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for range 3 {
		(&env{t: t, addr: s.Addr().String()}).dial("GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n").ended()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := s.Stats(); st.Panics != 3 || !strings.Contains(e.log.String(), "panic in a session") {
		t.Errorf("%+v\n%s", st, e.log)
	}
}

func TestRunReportsALostListener(t *testing.T) {
	s := New(DefaultConfig(), nil, nil, start(t, nil).Server.log)
	s.cfg.Listen = "127.0.0.1:0"
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "serve HTTP on") {
		t.Errorf("Run: %v", err)
	}
	busy := DefaultConfig()
	busy.Listen = start(t, nil).addr
	if err := New(busy, nil, nil, s.log).Listen(); err == nil || !strings.Contains(err.Error(), busy.Listen) {
		t.Errorf("Listen on a busy port: %v", err)
	}
	var _ net.Addr = s.Addr()
}
