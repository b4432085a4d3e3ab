package httpserver

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An origin that closes is asked on a connection for each request, one that does not from the
// pool, and each is believed anew with each answer.
func TestClosers(t *testing.T) {
	var closing atomic.Bool
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if closing.Load() {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprint(w, r.RemoteAddr)
	})
	e := start(t, nil, o)
	peer := func(closes, isCloser bool) string {
		t.Helper()
		closing.Store(closes)
		resp, addr := e.get("/live/a.mp4")
		if resp.StatusCode != 200 || e.closers.has(o) != isCloser {
			t.Fatalf("%s, closer %v", resp.Status, e.closers.has(o))
		}
		return addr
	}
	first := peer(false, false)
	if again := peer(false, false); again != first {
		t.Errorf("the pool was not used: %s, then %s", first, again)
	}
	peer(true, true) // on the pooled one, the last time
	if own, next := peer(true, true), peer(true, true); own == next || own == first {
		t.Errorf("%s, then %s", own, next)
	}
	peer(false, false)
	if pooled, again := peer(false, false), peer(false, false); pooled != again {
		t.Errorf("the pool was not used again: %s, then %s", pooled, again)
	}
}

// The connection to an origin ends with the client, before an answer and in the middle of one; and
// an origin that does not go on ends the request.
func TestCloserEnds(t *testing.T) {
	gone := make(chan struct{}, 8)
	o := newRawOrigin(t, func(c *rawConn, head string) {
		if strings.Contains(head, "/body") {
			c.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
		}
		io.Copy(io.Discard, c)
		gone <- struct{}{}
	})
	e := start(t, func(c *Config) { c.FileTimeout = time.Minute }, o.addr)
	ended := func(what string) {
		t.Helper()
		select {
		case <-gone:
		case <-time.After(3 * time.Second):
			t.Errorf("%s: the origin is still asked", what)
		}
	}
	for i, path := range []string{"/live/a.mp4", "/live/body.mp4"} {
		e.closers.note(o.addr, true)
		c := e.dial("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if strings.Contains(path, "body") {
			c.head()
			c.expect("abc")
		} else {
			eventually(t, "it is asked", func() bool { return o.connections() == i+1 })
		}
		c.Close()
		ended(path)
	}
	e = start(t, func(c *Config) { c.FileTimeout = 200 * time.Millisecond }, o.addr)
	e.closers.note(o.addr, true)
	c := e.dial("GET /live/body.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
	c.head()
	c.expect("abc")
	c.ended()
	ended("stuck")
}

// What comes before the answer is passed over, and a head without end is none.
func TestCloserHeads(t *testing.T) {
	for name, tt := range map[string]struct {
		answer string
		status int
		body   string
	}{
		"early hints": {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"},
		"until close": {"HTTP/1.0 200 OK\r\n\r\nall of it", 200, "all of it"},
		"endless":     {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead) + "\r\n\r\n", 502, errHungUp.Error() + "\n"},
		"none":        {"", 502, errHungUp.Error() + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newRawOrigin(t, func(c *rawConn, _ string) { io.WriteString(c.Conn, tt.answer) })
			e := start(t, nil, o.addr)
			e.closers.note(o.addr, true)
			if resp, body := e.get("/live/a.mp4"); resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
		})
	}
}

// BenchmarkPlaylist is a poll with an origin that closes as SRS does, client and origin included.
func BenchmarkPlaylist(b *testing.B) {
	for name, closer := range map[string]bool{"pool": false, "own connection": true} {
		b.Run(name, func(b *testing.B) {
			list := mediaPlaylist(1000, 1009)
			o := newOrigin(b, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Connection", "close")
				w.Write(list)
			})
			e := start(b, nil, o)
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			b.ReportAllocs()
			for b.Loop() {
				e.closers.note(o, closer)
				resp, err := client.Get("http://" + e.addr + "/live/a.m3u8?hls_ctx=x")
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}

// BenchmarkSegment is a segment of 500 KB, from memory and from the origin each time, client and
// origin included.
func BenchmarkSegment(b *testing.B) {
	for name, limit := range map[string]int64{"shared": 256 << 20, "each alone": 0} {
		b.Run(name, func(b *testing.B) {
			const size = 500_000
			list, segment := mediaPlaylist(1000, 1009), make([]byte, size)
			o := newOrigin(b, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, ".m3u8") {
					w.Write(list)
					return
				}
				w.Header().Set("Content-Length", fmt.Sprint(size))
				w.Write(segment)
			})
			e := start(b, func(c *Config) { c.SegmentMemory = limit }, o)
			e.get("/live/a.m3u8")
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := client.Get("http://" + e.addr + segmentA + tokenA)
				if err != nil {
					b.Fatal(err)
				}
				if n, _ := io.Copy(io.Discard, resp.Body); n != size {
					b.Fatalf("%d bytes", n)
				}
				resp.Body.Close()
			}
		})
	}
}
