package httpserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/balancer"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
	"srs-proxy/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a server that runs in front of origins.
type env struct {
	*Server
	t    testing.TB
	bal  *balancer.Memory
	log  *testkit.Log
	addr string
	stop func() // and wait; a test may call it early
}

// start runs a server over origins at the HTTP addresses; their ids are o0, o1...
func start(t testing.TB, tune func(*Config), origins ...string) *env {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	cfg.Listener = listener.Config{PerIP: -1}
	cfg.StopTimeout = 200 * time.Millisecond
	if tune != nil {
		tune(&cfg)
	}
	e := &env{t: t, bal: balancer.NewMemory(balancer.Config{}), log: &testkit.Log{}}
	for i, addr := range origins {
		o := balancer.Origin{ID: fmt.Sprintf("o%d", i), Endpoints: balancer.Endpoints{HTTP: addr}}
		if err := e.bal.Update(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.NewTextHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	rl := relay.New(relay.Config{})
	t.Cleanup(rl.Close)
	e.Server = New(cfg, route.New(route.Config{Vhosts: []string{"known.example", "ts.example", "aac.example", "mp3.example", "keys.example", "hooks.example"}}, e.bal, log), rl, log)
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	e.addr = e.Addr().String()
	e.stop = testkit.Serve(t, e.Run)
	t.Cleanup(func() {
		e.stop()
		st := e.Stats()
		if st.Accepted != st.Active+st.Closed || st.Active != 0 || st.RequestsActive != 0 || st.Panics != 0 {
			t.Errorf("counters after the stop: %+v", st)
		}
		statuses, _ := e.bal.Origins(context.Background())
		for _, s := range statuses {
			if s.Players != 0 || s.Publishers != 0 {
				t.Errorf("leases left on %s: %d publishers, %d players", s.ID, s.Publishers, s.Players)
			}
		}
	})
	return e
}

// pin puts a stream of app live on an origin, as its publisher would, for the test's time.
func (e *env) pin(name, origin string) {
	e.t.Helper()
	var exclude []string
	statuses, _ := e.bal.Origins(context.Background())
	for _, s := range statuses {
		if s.ID != origin {
			exclude = append(exclude, s.ID)
		}
	}
	l, err := e.bal.Pick(context.Background(), balancer.Request{
		Stream: balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: name},
		Role:   balancer.Publish, Exclude: exclude,
	})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.bal.Release(context.Background(), l) })
}

// get sends a GET and reads the whole answer.
func (e *env) get(path string, header ...string) (*http.Response, string) {
	e.t.Helper()
	return e.do(http.MethodGet, path, header...)
}

func (e *env) do(method, path string, header ...string) (*http.Response, string) {
	e.t.Helper()
	req, err := http.NewRequest(method, "http://"+e.addr+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Add(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}).Do(req)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatalf("%s %s: body: %v", method, path, err)
	}
	return resp, string(body)
}

// dial opens a raw connection to the server and sends text.
func (e *env) dial(text string) *rawConn {
	e.t.Helper()
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	rc := newRawConn(e.t, c)
	rc.send(text)
	return rc
}

// rawConn is one end of a connection where bytes matter. Every wait ends in 10 s.
type rawConn struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func newRawConn(t testing.TB, c net.Conn) *rawConn {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return &rawConn{Conn: c, t: t, br: bufio.NewReader(c)}
}

func (c *rawConn) send(text string) {
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.t.Errorf("send: %v", err)
	}
}

// expect reads exactly want.
func (c *rawConn) expect(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c.br, got)
	if err != nil || string(got) != want {
		c.t.Errorf("got %q, %v\nwant %q", got[:n], err, want)
	}
}

// head reads up to and with the empty line.
func (c *rawConn) head() string {
	var b strings.Builder
	for {
		line, err := c.br.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String()
		}
	}
}

// ended waits until the peer has closed and tells how long that took.
func (c *rawConn) ended() time.Duration {
	c.t.Helper()
	from := time.Now()
	rest, err := io.ReadAll(c.br)
	var nerr net.Error
	if errors.As(err, &nerr) && nerr.Timeout() {
		c.t.Errorf("the peer did not close: %v", err)
	}
	if len(rest) > 0 {
		c.t.Errorf("%q before the close", rest)
	}
	return time.Since(from)
}

// rawOrigin is an origin that speaks by the byte: serve is called for each connection
// with the request's head, and the connection closes when it returns.
type rawOrigin struct {
	addr  string
	mu    sync.Mutex
	conns int
}

func newRawOrigin(t *testing.T, serve func(c *rawConn, head string)) *rawOrigin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &rawOrigin{addr: ln.Addr().String()}
	var wg sync.WaitGroup
	var open sync.Map
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns++
			o.mu.Unlock()
			open.Store(c, nil)
			wg.Go(func() {
				defer open.Delete(c)
				defer c.Close()
				rc := newRawConn(t, c)
				serve(rc, rc.head())
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return o
}

func (o *rawOrigin) connections() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conns
}

// newOrigin is an origin with net/http's manners.
func newOrigin(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	done := make(chan struct{})
	go func() { defer close(done); hs.Serve(ln) }()
	t.Cleanup(func() { hs.Close(); <-done })
	return ln.Addr().String()
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testkit.Within(t, 10*time.Second, what, ok)
}
