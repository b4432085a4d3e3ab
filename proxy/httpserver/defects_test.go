package httpserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Regressions against the HTTP side of SRS's first Go proxy; 8 (the vhost of a host)
// and a part of 13 (a client that goes) have their tests beside the code.

// 11: the status was written before the headers, so that Content-Type was lost.
func TestDefect11_ContentTypeKept(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if ct, ok := r.Header["X-Type"]; ok {
			w.Header().Set("Content-Type", ct[0])
		} else {
			w.Header()["Content-Type"] = nil
		}
		io.WriteString(w, "#EXTM3U\n")
	})
	e := start(t, nil, o)
	for _, tt := range []struct{ path, given, want string }{
		{"/live/a.m3u8", "application/vnd.apple.mpegurl", "application/vnd.apple.mpegurl"},
		{"/live/a.m3u8", "audio/mpegurl", "audio/mpegurl"},
		{"/live/a.m3u8", "", "application/vnd.apple.mpegurl"},
		{"/live/a.m3u8", "text/plain; charset=utf-8", "application/vnd.apple.mpegurl"},
		{"/live/a-1.ts?spbhid=" + tokenA, "video/MP2T", "video/MP2T"},
		{"/live/a-1.ts?spbhid=" + tokenA, "", "video/mp2t"},
		{"/live/a-1.m4s", "", "video/iso.segment"},
		{"/live/a/init.mp4", "", "video/mp4"},
		{"/live/a.mpd", "", "application/dash+xml"},
		{"/live/a-1.key", "", "application/octet-stream"},
		{"/live/a-1.vtt", "text/plain", "text/vtt"},
		{"/live/a.flv", "video/x-flv", "video/x-flv"},
		{"/live/a.html", "text/html", "text/html"},
		{"/live/a.txt", "text/plain", "text/plain"},
		{"/live/a.unknown", "", ""},
	} {
		var header []string
		if tt.given != "" {
			header = []string{"X-Type", tt.given}
		}
		resp, _ := e.get(tt.path, header...)
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != tt.want {
			t.Errorf("%s, origin says %q: got %d %q, want %q", tt.path, tt.given, resp.StatusCode, got, tt.want)
		}
	}
}

// 12: any status but 200 became 500.
func TestDefect12_StatusAndHeadersKept(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscan(r.URL.Query().Get("status"), &status)
		w.Header().Set("X-Origin", "1")
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		if status >= 400 {
			io.WriteString(w, "because")
		}
	})
	e := start(t, nil, o)
	for _, path := range []string{"/live/a.flv", "/live/a-1.ts", "/live/a.m3u8", "/live/a.m4s", "/"} {
		for _, status := range []int{206, 302, 304, 401, 403, 404, 416, 500, 503} {
			resp, body := e.get(fmt.Sprintf("%s?status=%d", path, status))
			if resp.StatusCode != status || resp.Header.Get("X-Origin") != "1" || resp.Header.Get("Location") != "/elsewhere" || (status >= 400) != (body == "because") {
				t.Errorf("%s: want %d, got %d %v %q", path, status, resp.StatusCode, resp.Header, body)
			}
		}
	}
}

// 12: Host, request headers and the query of FLV were dropped; what clients
// claimed of their address was passed on.
func TestDefect12_RequestKept(t *testing.T) {
	var got atomic.Pointer[http.Request]
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { got.Store(r.Clone(context.Background())) })
	e := start(t, nil, o)
	for _, path := range []string{"/live/a.flv", "/live/a.ts", "/live/a.mp3", "/live/a.aac", "/live/a.m3u8", "/live/a.mpd", "/live/a-1.m4s", "/index.html"} {
		e.get(path+"?token=t&vhost=v", "Host", "media.example:8080", "Referer", "http://page/", "Authorization", "Bearer x",
			"User-Agent", "player", "X-Forwarded-For", "6.6.6.6", "X-Real-IP", "6.6.6.6")
		r := got.Load()
		if r.RequestURI != path+"?token=t&vhost=v" || r.Host != "media.example:8080" || r.Referer() != "http://page/" || r.UserAgent() != "player" || r.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("%s: %s %s %v", path, r.RequestURI, r.Host, r.Header)
		}
		if fmt.Sprint(r.Header["X-Forwarded-For"], r.Header["X-Real-Ip"]) != "[127.0.0.1] [127.0.0.1]" {
			t.Errorf("%s: the client's address is %v, %v", path, r.Header["X-Forwarded-For"], r.Header["X-Real-Ip"])
		}
	}
}

// 12: fMP4, DASH and AES keys were 404. They are served, and from the origin of
// their stream, with no token.
func TestDefect12_FilesOfAStream(t *testing.T) {
	name := func(id string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, id) }
	}
	e := start(t, nil, newOrigin(t, name("o0")), newOrigin(t, name("o1")), newOrigin(t, name("o2")))
	for i := range 6 {
		s, id := fmt.Sprintf("s%d", i), fmt.Sprintf("o%d", i%3)
		e.pin(s, id)
		for _, path := range []string{".m3u8", ".mpd", ".mp4", "-1.m4s", "/init.mp4", "-1.key", "-1.vtt", "/video-1.m4s", "/audio-1.m4s", "/video-init.mp4", "/audio-init.mp4"} {
			if resp, body := e.get("/live/" + s + path); resp.StatusCode != 200 || body != id {
				t.Errorf("%s%s: %d from %s, want %s", s, path, resp.StatusCode, body, id)
			}
		}
	}
}

// 13: two idle connections a host, so that a burst of segments was a burst of dials.
func TestDefect13_ConnectionsAreReused(t *testing.T) {
	const burst = 32
	var at sync.WaitGroup
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Header["X-Burst"]; ok {
			at.Done()
			at.Wait() // until all are here
		}
		io.WriteString(w, r.RemoteAddr)
	})
	e := start(t, nil, o)
	seen := make(map[string]bool)
	var mu sync.Mutex
	for range 3 {
		at.Add(burst)
		var wg sync.WaitGroup
		for range burst {
			wg.Go(func() {
				_, peer := e.get("/live/a.mp4", "X-Burst", "1")
				mu.Lock()
				defer mu.Unlock()
				seen[peer] = true
			})
		}
		wg.Wait()
	}
	// A connection may return to the pool just after the next request asked for one.
	if len(seen) > burst*3/2 {
		t.Errorf("%d connections for 3 bursts of %d requests", len(seen), burst)
	}
}

// 13: bytes waited until 4 KB were together.
func TestDefect13_FlushAtOnce(t *testing.T) {
	for _, path := range []string{"/live/a.flv", "/live/a-1.ts?spbhid=" + tokenA, "/live/a.mp4"} {
		next := make(chan struct{})
		o := newRawOrigin(t, func(c *rawConn, _ string) {
			c.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			c.send("a")
			<-next
			c.send("b")
		})
		e := start(t, nil, o.addr)
		c := e.dial("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Fatalf("%s: %q", path, head)
		}
		from := time.Now()
		c.expect("a")
		if took := time.Since(from); took > time.Second {
			t.Errorf("%s: one byte took %v", path, took)
		}
		close(next)
		c.expect("b")
	}
}
