package httpserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/testkit"
)

const flvHead = "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Type: video/x-flv\r\nServer: SRS\r\nTransfer-Encoding: chunked\r\n\r\n"

const corsLines = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: *\r\n" +
	"Access-Control-Allow-Headers: *\r\nAccess-Control-Expose-Headers: *\r\n"

func TestLiveByTheByte(t *testing.T) {
	heads := make(chan string, 1)
	o := newRawOrigin(t, func(c *rawConn, head string) {
		heads <- head
		// The head and the first bytes of the body in one write, an odd reason, odd
		// case, a folded line, a header that Connection names.
		c.send("HTTP/1.1 200 Fine\r\nserver: SRS\r\nX-odd-Case:  two blanks \r\n folded\r\nConnection: Close, X-Hop\r\nx-hop: 1\r\n folded\r\n" +
			"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nFLV\r\n")
		c.expect("and bytes after the request")
		c.send("2\r\n\x00\x01\r\n0\r\n\r\n")
	})
	e := start(t, nil, o.addr)
	c := e.dial("GET /live/a%20b.flv?token=s%2F&&x=y%20z&spbhid=none HTTP/1.1\r\nHost: Media.Example:8080\r\n" +
		"User-Agent: x\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\nX-Real-IP: 9.9.9.9\r\nForwarded: for=1.2.3.4\r\n" +
		"Cookie: a\r\nRange: bytes=0-\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nX-Multi: 1\r\nX-Multi: 2\r\nOrigin: http://page\r\n\r\n" +
		"and bytes after the request")
	want := "GET /live/a%20b.flv?token=s%2F&&x=y%20z HTTP/1.1\r\nHost: Media.Example:8080\r\n" +
		"Cookie: a\r\nOrigin: http://page\r\nRange: bytes=0-\r\nUser-Agent: x\r\nX-Forwarded-For: 127.0.0.1\r\nX-Multi: 1\r\nX-Multi: 2\r\n" +
		"X-Real-Ip: 127.0.0.1\r\nConnection: close\r\n\r\n"
	if got := <-heads; got != want {
		t.Errorf("request:\n%s\nwant:\n%s", got, want)
	}
	c.expect("HTTP/1.1 200 Fine\r\nserver: SRS\r\nX-odd-Case:  two blanks \r\n folded\r\n" +
		"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nTransfer-Encoding: chunked\r\n" + corsLines + "Connection: close\r\n\r\n" +
		"3\r\nFLV\r\n2\r\n\x00\x01\r\n0\r\n\r\n")
	c.ended()
	c.Close()

	e.stop()
	st := e.Stats()
	if st.Accepted != 1 || st.Closed != 1 || st.BytesIn != int64(len("and bytes after the request")) || st.BytesOut < 100 {
		t.Errorf("counters: %+v", st)
	}
	log := e.log.String()
	if strings.Count(log, "level=INFO") != 2 || !strings.Contains(log, "session open") || !strings.Contains(log, "session closed") {
		t.Errorf("want one line at open and one at close:\n%s", log)
	}
	for _, secret := range []string{"token", "s%2F", "x=y"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}
}

func TestLiveOriginsOwnCORSIsKept(t *testing.T) {
	o := newRawOrigin(t, func(c *rawConn, _ string) {
		c.send("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://page\r\n\r\nbody")
	})
	e := start(t, nil, o.addr)
	c := e.dial("GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://page\r\nConnection: close\r\n\r\nbody")
	c.ended()
}

// Answers that are no streams go through net/http, and the client's connection lives on.
func TestLiveOtherAnswers(t *testing.T) {
	tests := []struct {
		name, method, answer string
		status               int
		body                 string
		header, value        string
	}{
		{"not found", "GET", "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 9\r\nConnection: Close\r\n\r\nNot Found", 404, "Not Found", "Content-Type", "text/plain"},
		{"forbidden, chunked", "GET", "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 403, "no", "Content-Type", ""},
		{"until the close", "GET", "HTTP/1.1 500 Oh\r\n\r\n<html>", 500, "<html>", "Content-Type", ""},
		{"redirect", "GET", "HTTP/1.1 302 Found\r\nLocation: http://other/live/a.flv\r\nContent-Length: 0\r\n\r\n", 302, "", "Location", "http://other/live/a.flv"},
		{"HEAD, SRS sends a body all the same", "HEAD", flvHead + "3\r\nFLV\r\n", 200, "", "Content-Type", "video/x-flv"},
		{"HEAD of a file", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", 200, "", "Content-Length", "77"},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", 304, "", "Etag", `"1"`},
		{"after 1xx", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", 404, "no", "Content-Length", "2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newRawOrigin(t, func(c *rawConn, _ string) {
				c.send(tt.answer)
				if tt.method == "HEAD" {
					io.Copy(io.Discard, c) // it is up to the proxy to hang up
				}
			})
			e := start(t, nil, o.addr)
			c := e.dial("")
			for range 2 {
				c.send(tt.method + " /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n")
				resp, err := http.ReadResponse(c.br, &http.Request{Method: tt.method})
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != tt.status || string(body) != tt.body || resp.Header.Get(tt.header) != tt.value {
					t.Errorf("got %d %q %v, %v", resp.StatusCode, body, resp.Header, err)
				}
				if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
					t.Error("no CORS")
				}
			}
		})
	}
}

func TestLiveHTTP10(t *testing.T) {
	heads := make(chan string, 1)
	next := make(chan struct{})
	o := newRawOrigin(t, func(c *rawConn, head string) {
		heads <- head
		c.send(flvHead + "3\r\nFLV\r\n")
		<-next
		c.send("1\r\n!\r\n0\r\n\r\n")
	})
	e := start(t, nil, o.addr)
	c := e.dial("GET /live/a.flv HTTP/1.0\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nServer: SRS\r\n" + corsLines + "Connection: close\r\n\r\nFLV")
	close(next)
	c.expect("!")
	c.ended()
	if want, got := "GET /live/a.flv HTTP/1.0\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-Ip: 127.0.0.1\r\nConnection: close\r\n\r\n", <-heads; got != want {
		t.Errorf("request %q, want %q", got, want)
	}
}

// A client that goes takes its request with it, whatever it was waiting for.
func TestDefect13_ClientGoneCancels(t *testing.T) {
	for _, tt := range []struct{ name, request, answer string }{
		{"before the answer", "GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"in half a head", "GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n"},
		{"in the stream", "GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n", flvHead + "3\r\nFLV\r\n"},
		{"in the stream, HTTP/1.0", "GET /live/a.flv HTTP/1.0\r\n\r\n", flvHead + "3\r\nFLV\r\n"},
		{"a file before the answer", "GET /live/a.mp4 HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"in a file", "GET /live/a.mp4 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"},
		{"a playlist before the answer", "GET /live/a.m3u8 HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"in half a playlist", "GET /live/a.m3u8 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n#EX"},
	} {
		for _, how := range []string{"FIN", "RST"} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				asked, ended := make(chan struct{}), make(chan time.Time, 1)
				o := newRawOrigin(t, func(c *rawConn, _ string) {
					c.send(tt.answer)
					close(asked)
					io.Copy(io.Discard, c)
					ended <- time.Now()
				})
				e := start(t, nil, o.addr)
				c := e.dial(tt.request)
				<-asked
				if strings.Contains(tt.answer, "FLV") {
					c.head()
				}
				if how == "RST" {
					c.Conn.(*net.TCPConn).SetLinger(0)
				}
				gone := time.Now()
				c.Close()
				select {
				case at := <-ended:
					if took := at.Sub(gone); took > 100*time.Millisecond {
						t.Errorf("the origin saw the end after %v", took)
					}
				case <-time.After(5 * time.Second):
					t.Error("the origin never saw the end")
				}
			})
		}
	}
}

func TestLiveOriginEnds(t *testing.T) {
	o := newRawOrigin(t, func(c *rawConn, _ string) { c.send(flvHead + "3\r\nFLV\r\n") })
	e := start(t, nil, o.addr)
	c := e.dial("GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n")
	c.head()
	c.expect("3\r\nFLV\r\n")
	if took := c.ended(); took > time.Second {
		t.Errorf("the client saw the end after %v", took)
	}
}

func TestLiveFailures(t *testing.T) {
	reset := func(c *rawConn, _ string) { c.Conn.(*net.TCPConn).SetLinger(0) }
	tests := []struct {
		name   string
		serve  func(c *rawConn, head string)
		status int
		text   string
		asked  int // of two such origins
	}{
		{"hang-up, as SRS refuses", func(*rawConn, string) {}, 502, "may have refused", 1},
		{"hang-up in the head", func(c *rawConn, _ string) { c.send("HTTP/1.1 200") }, 502, "may have refused", 1},
		{"reset", reset, 503, "no origin", 2},
		{"not HTTP", func(c *rawConn, _ string) { c.send("SSH-2.0-x\r\n\r\n") }, 502, "not HTTP", 1},
		{"endless head", func(c *rawConn, _ string) {
			for range 2 * maxHead / 1024 {
				if _, err := io.WriteString(c.Conn, "X: "+strings.Repeat("x", 1020)+"\r\n"); err != nil {
					return
				}
			}
		}, 502, "not HTTP", 1},
		{"no answer", func(c *rawConn, _ string) { io.Copy(io.Discard, c) }, 504, "in time", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newRawOrigin(t, tt.serve), newRawOrigin(t, tt.serve)
			e := start(t, func(c *Config) { c.LiveTimeout = 300 * time.Millisecond }, a.addr, b.addr)
			resp, body := e.get("/live/a.flv?token=secret")
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.text) {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
			if n := a.connections() + b.connections(); n != tt.asked {
				t.Errorf("%d origins were asked, want %d", n, tt.asked)
			}
			if strings.Contains(body, "127.0.0.1") {
				t.Errorf("the answer tells of the inside: %q", body)
			}
			if log := e.log.String(); !strings.Contains(log, "request failed") || strings.Contains(log, "secret") {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

func TestLiveAnotherOrigin(t *testing.T) {
	for _, tt := range []struct {
		name string
		bad  func(t *testing.T) string
	}{
		{"refuses connections", func(t *testing.T) string { return testkit.FreeAddr(t) }},
		{"resets connections", func(t *testing.T) string {
			return newRawOrigin(t, func(c *rawConn, _ string) { c.Conn.(*net.TCPConn).SetLinger(0) }).addr
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good := newRawOrigin(t, func(c *rawConn, _ string) { c.send(flvHead + "0\r\n\r\n") })
			e := start(t, nil, tt.bad(t), good.addr)
			for i := range 8 { // wherever the balancer begins
				if resp, _ := e.get(fmt.Sprintf("/live/s%d.flv", i)); resp.StatusCode != 200 {
					t.Errorf("stream %d: %s", i, resp.Status)
				}
			}
		})
	}
}

func TestLiveNoOrigin(t *testing.T) {
	e := start(t, nil)
	if resp, body := e.get("/live/a.flv"); resp.StatusCode != 503 || !strings.Contains(body, "no origin is available") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	e = start(t, nil, "")
	if resp, body := e.get("/live/a.flv"); resp.StatusCode != 503 || !strings.Contains(body, "no such endpoint") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	e = start(t, nil, testkit.FreeAddr(t))
	e.pin("a", "o0")
	if resp, body := e.get("/live/a.flv"); resp.StatusCode/100 != 5 || body == "" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

// Stopping the server ends its sessions, in whatever phase they are.
func TestStopEndsSessions(t *testing.T) {
	asked := make(chan struct{}, 3)
	o := newRawOrigin(t, func(c *rawConn, head string) {
		if !strings.Contains(head, "/waiting") {
			c.send(flvHead + "3\r\nFLV\r\n")
		}
		asked <- struct{}{}
		io.Copy(io.Discard, c)
	})
	e := start(t, nil, o.addr)
	waiting := e.dial("GET /live/waiting.flv HTTP/1.1\r\nHost: x\r\n\r\n")
	streaming := e.dial("GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n")
	old := e.dial("GET /live/a.flv HTTP/1.0\r\n\r\n")
	for range 3 {
		<-asked
	}
	for _, c := range []*rawConn{streaming, old} {
		c.head()
	}
	streaming.expect("3\r\nFLV\r\n")
	old.expect("FLV")
	if st := e.Stats(); st.Active != 3 || st.Accepted != 3 {
		t.Errorf("counters: %+v", st)
	}
	from := time.Now()
	e.stop()
	if took := time.Since(from); took > 2*time.Second {
		t.Errorf("the stop took %v", took)
	}
	streaming.ended()
	old.ended()
	if head := waiting.head(); !strings.Contains(head, "503") {
		t.Errorf("a waiting player got %q", head)
	}
	if log := e.log.String(); strings.Count(log, errStopping.Error()) < 2 {
		t.Errorf("the closing lines do not say why:\n%s", log)
	}
}

// The lease keeps the stream where its players wait, so that the publisher joins them.
func TestLiveHoldsALease(t *testing.T) {
	asked := make(chan struct{}, 1)
	serve := func(c *rawConn, _ string) {
		asked <- struct{}{}
		io.Copy(io.Discard, c)
	}
	e := start(t, nil, newRawOrigin(t, serve).addr, newRawOrigin(t, serve).addr)
	c := e.dial("GET /live/a.flv?vhost=known.example HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	s := balancer.Stream{Vhost: "known.example", App: "live", Name: "a"}
	players := func() (n int) {
		statuses, _ := e.bal.Origins(context.Background())
		for _, st := range statuses {
			n += st.Players
		}
		return n
	}
	if players() != 1 {
		t.Errorf("%d leases, want 1", players())
	}
	o, err := e.bal.Lookup(context.Background(), s)
	l, err2 := e.bal.Pick(context.Background(), balancer.Request{Stream: s, Role: balancer.Publish})
	if err != nil || err2 != nil || l.Origin.ID != o.ID {
		t.Errorf("publisher on %s, player on %s; %v %v", l.Origin.ID, o.ID, err, err2)
	}
	e.bal.Release(context.Background(), l)
	c.Close()
	eventually(t, "the lease is given back", func() bool { return players() == 0 })
}
