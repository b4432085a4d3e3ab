package httpserver

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/proxy/rawconn"
	"srs-proxy/testkit"
)

// Requests follow each other on a connection until the origin closes it, as soon as it says so.
func TestConnectionsInTurn(t *testing.T) {
	var closing atomic.Bool
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if closing.Load() {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprint(w, r.RemoteAddr)
	})
	e := start(t, nil, o)
	peer := func(closes bool) string {
		t.Helper()
		closing.Store(closes)
		resp, addr := e.get("/live/a.mp4")
		if resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
		eventually(t, "the connection is kept or not", func() bool { return (e.idlers(o) == 0) == closes })
		return addr
	}
	first := peer(false)
	if again := peer(false); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	peer(true) // on the first one, the last time
	if own, next := peer(true), peer(true); own == next || own == first {
		t.Errorf("%s, then %s", own, next)
	}
}

func (e *env) idlers(addr string) int {
	e.idle.mu.Lock()
	defer e.idle.mu.Unlock()
	return len(e.idle.at[addr])
}

// dropIdle ends the idle connections.
func (e *env) dropIdle() {
	most := e.cfg.IdlePerOrigin
	e.idle.close()
	e.idle.mu.Lock()
	defer e.idle.mu.Unlock()
	e.idle.most = most
}

// A connection that the origin has closed in the meantime, or closes when it is asked again, costs
// the client nothing; one on which it has answered something else than a whole answer is not used again.
func TestConnectionsThatAreNoGood(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for name, tt := range map[string]struct {
		first, second string // of a connection's first and second answer
		idle          int    // after the first one
		status        int    // of the second request
		connections   int
	}{
		"kept":                 {ok, ok, 1, 200, 1},
		"closed when asked":    {ok, "", 1, 200, 2},
		"more than the answer": {ok + "HTTP/1.1 500 Oops\r\n\r\n", ok, 0, 200, 2},
		"a broken answer":      {ok, "HTTP/1.1 2", 1, 502, 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := newRawOrigin(t, func(c *rawConn, _ string) {
				io.WriteString(c.Conn, tt.first)
				if tt.idle > 0 {
					if _, err := http.ReadRequest(c.br); err != nil {
						return
					}
					io.WriteString(c.Conn, tt.second)
				}
			})
			e := start(t, nil, o.addr)
			if resp, body := e.get("/live/a.mp4"); resp.StatusCode != 200 || body != "ok" {
				t.Fatalf("first: %s %q", resp.Status, body)
			}
			eventually(t, "the connection is kept or not", func() bool { return e.idlers(o.addr) == tt.idle })
			if resp, _ := e.get("/live/a.mp4"); resp.StatusCode != tt.status {
				t.Errorf("second: %s", resp.Status)
			}
			if got := o.connections(); got != tt.connections {
				t.Errorf("%d connections, want %d", got, tt.connections)
			}
		})
	}
}

// An idle connection that the origin closes is not used again, and one that nobody uses ends.
func TestIdlersEnd(t *testing.T) {
	e := start(t, nil)
	pair := func() (*originConn, net.Conn) {
		c, peer := testkit.TCPPair(t)
		return newOriginConn(rawconn.New(c), "o"), peer
	}
	a, _ := pair()
	b, peer := pair()
	e.idle.put(a)
	e.idle.put(b)
	peer.Close()
	eventually(t, "the close is seen", func() bool { return !b.Quiet() })
	if got := e.idle.take("o"); got != a {
		t.Errorf("took %v, want the one that is open", got)
	}
	if got := e.idle.take("o"); got != nil {
		t.Errorf("took %v of none", got)
	}
	e.idle.put(a)
	a.expiry.Reset(0)
	eventually(t, "it expires", func() bool { return e.idlers("o") == 0 })
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write to an expired one: %v", err)
	}
	c, _ := pair()
	for range e.cfg.IdlePerOrigin {
		d, _ := pair()
		e.idle.put(d)
	}
	if e.idle.put(c) {
		t.Error("there was room for one too many")
	}
	e.idle.close()
	if e.idle.put(c) || e.idlers("o") != 0 {
		t.Error("kept after the end")
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
			if resp, body := e.get("/live/a.mp4"); resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
		})
	}
}

// BenchmarkPlaylist is a poll with an origin that closes as SRS does and with one that does not, client and origin included.
func BenchmarkPlaylist(b *testing.B) {
	for name, closer := range map[string]bool{"kept": false, "closes": true} {
		b.Run(name, func(b *testing.B) {
			list := mediaPlaylist(1000, 1009)
			o := newOrigin(b, func(w http.ResponseWriter, r *http.Request) {
				if closer {
					w.Header().Set("Connection", "close")
				}
				w.Write(list)
			})
			e := start(b, nil, o)
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			b.ReportAllocs()
			for b.Loop() {
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
