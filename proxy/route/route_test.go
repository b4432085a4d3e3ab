package route

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/balancer"
	"srs-proxy/protocol/streamurl"
)

// env is a router over a real balancer and origins that are TCP listeners.
type env struct {
	t      *testing.T
	bal    *balancer.Memory
	router *Router
}

func newEnv(t *testing.T, cfg Config) *env {
	bal := balancer.NewMemory(balancer.Config{})
	return &env{t: t, bal: bal, router: New(cfg, bal, slog.New(slog.DiscardHandler))}
}

func stream(name string) balancer.Stream {
	return balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: name}
}

func testClient() netip.AddrPort { return netip.MustParseAddrPort("203.0.113.9:50123") }

// register makes an origin known that listens at addr.
func (e *env) register(id, addr string) {
	e.t.Helper()
	err := e.bal.Update(context.Background(), balancer.Origin{ID: id, Endpoints: balancer.Endpoints{RTMP: addr}})
	if err != nil {
		e.t.Fatal(err)
	}
}

// origin registers a live origin.
func (e *env) origin(id string) *net.TCPListener {
	e.t.Helper()
	ln := listen(e.t)
	e.register(id, ln.Addr().String())
	return ln
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// deadAddr is an address where nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	return ln.Addr().String()
}

// pin ties a stream to an origin by a session of another proxy.
func (e *env) pin(name, id string, role balancer.Role) (release func()) {
	e.t.Helper()
	l, err := e.bal.Pick(context.Background(), balancer.Request{Stream: stream(name), Role: role})
	if err != nil {
		e.t.Fatal(err)
	}
	if l.Origin.ID != id {
		e.t.Fatalf("pinned to %s, want %s", l.Origin.ID, id)
	}
	return func() { e.bal.Release(context.Background(), l) }
}

func (e *env) connect(name string, role balancer.Role, try func(context.Context, *Conn) error) (*Conn, error) {
	e.t.Helper()
	c, err := e.router.Connect(context.Background(), Request{Stream: stream(name), Role: role, Proto: RTMP, Client: testClient()}, try)
	if c != nil {
		e.t.Cleanup(func() { c.Close() })
	}
	if err == nil && c == nil {
		e.t.Fatal("neither a connection nor an error")
	}
	return c, err
}

func (e *env) mustConnect(name string, role balancer.Role) *Conn {
	e.t.Helper()
	c, err := e.connect(name, role, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// wantHeld compares the leases and sessions that are held.
func (e *env) wantHeld(publishers, players, sessions int) {
	e.t.Helper()
	statuses, err := e.bal.Origins(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	var pub, play int
	for _, s := range statuses {
		pub, play = pub+s.Publishers, play+s.Players
	}
	if pub != publishers || play != players || e.router.Sessions() != sessions {
		e.t.Errorf("%d publishers, %d players, %d sessions are held; want %d, %d, %d", pub, play, e.router.Sessions(), publishers, players, sessions)
	}
}

func (e *env) ejected(id string) bool {
	e.t.Helper()
	statuses, err := e.bal.Origins(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	i := slices.IndexFunc(statuses, func(s balancer.Status) bool { return s.ID == id })
	return !statuses[i].EjectedUntil.IsZero()
}

func TestConnectIsSticky(t *testing.T) {
	e := newEnv(t, Config{})
	for i := range 8 {
		e.origin(fmt.Sprint("o", i))
	}
	first := e.mustConnect("a", balancer.Publish)
	var conns []*Conn
	for range 20 {
		c := e.mustConnect("a", balancer.Play)
		if c.Lease.Origin.ID != first.Lease.Origin.ID {
			t.Errorf("player on %s, publisher on %s", c.Lease.Origin.ID, first.Lease.Origin.ID)
		}
		if got := c.RemoteAddr().String(); got != first.Lease.Origin.Endpoints.RTMP {
			t.Errorf("connected to %s, want %s", got, first.Lease.Origin.Endpoints.RTMP)
		}
		conns = append(conns, c)
	}
	e.wantHeld(1, 20, 21)
	for _, c := range append(conns, first) {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		c.Close() // counts once
	}
	e.wantHeld(0, 0, 0)
	if again := e.mustConnect("a", balancer.Publish); again.Lease.Origin.ID != first.Lease.Origin.ID {
		t.Error("a publisher that comes back finds another origin")
	}
}

// The socket speaks with the origin, with the timeouts of the accepting side.
func TestConnectSocket(t *testing.T) {
	e := newEnv(t, Config{})
	ln := e.origin("o0")
	c := e.mustConnect("a", balancer.Play)
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct{ level, name, want int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000},
		{unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP},
	} {
		var got int
		cerr := rc.Control(func(fd uintptr) { got, err = unix.GetsockoptInt(int(fd), o.level, o.name) })
		if err := errors.Join(cerr, err); err != nil || got != o.want {
			t.Errorf("option %d/%d is %d, want %d (%v)", o.level, o.name, got, o.want, err)
		}
	}
}

func TestRetryWhenTheDialIsRefused(t *testing.T) {
	e := newEnv(t, Config{})
	e.register("dead", deadAddr(t))
	release := e.pin("a", "dead", balancer.Play)
	e.origin("live")
	for _, role := range []balancer.Role{balancer.Play, balancer.Publish} {
		c := e.mustConnect("a", role)
		if c.Lease.Origin.ID != "live" {
			t.Errorf("%s on %s", role, c.Lease.Origin.ID)
		}
		c.Close()
	}
	release()
	e.wantHeld(0, 0, 0)
}

func TestRefusedDialsEject(t *testing.T) {
	e := newEnv(t, Config{})
	e.register("dead", deadAddr(t))
	for i := range 3 {
		defer e.pin(fmt.Sprint(i), "dead", balancer.Play)()
	}
	e.origin("live")
	for i := range 3 {
		if e.ejected("dead") {
			t.Fatalf("ejected after %d failures", i)
		}
		e.mustConnect(fmt.Sprint(i), balancer.Play)
	}
	if !e.ejected("dead") {
		t.Error("not ejected after 3 refused dials")
	}
	e.router.ReportDial(context.Background(), "dead", nil)
	if e.ejected("dead") {
		t.Error("a success does not clear")
	}
}

func TestRetryWhenTryBlamesTheOrigin(t *testing.T) {
	e := newEnv(t, Config{})
	bad := e.origin("bad")
	defer e.pin("a", "bad", balancer.Play)()
	e.origin("good")
	var tried []string
	c, err := e.connect("a", balancer.Play, func(_ context.Context, c *Conn) error {
		tried = append(tried, c.Lease.Origin.ID)
		if c.Lease.Origin.ID == "bad" {
			return fmt.Errorf("handshake: %w", Retry(io.ErrUnexpectedEOF))
		}
		return nil
	})
	if err != nil || c.Lease.Origin.ID != "good" || !slices.Equal(tried, []string{"bad", "good"}) {
		t.Fatalf("tried %v: %v", tried, err)
	}
	hungUp(t, bad)
	e.wantHeld(0, 2, 1) // the pin's and the session's
	c.Close()
	e.wantHeld(0, 1, 0)
}

// hungUp takes a connection of an origin and wants it closed.
func hungUp(t *testing.T, ln *net.TCPListener) {
	t.Helper()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the failed connection is open: %v", err)
	}
}

func TestNoRetryForOtherErrors(t *testing.T) {
	e := newEnv(t, Config{})
	refused := errors.New("NetStream.Publish.BadName")
	ln := e.origin("o0")
	defer e.pin("a", "o0", balancer.Play)()
	e.origin("o1")
	for range 5 { // would eject after 3
		tries := 0
		_, err := e.connect("a", balancer.Publish, func(context.Context, *Conn) error {
			tries++
			return refused
		})
		if !errors.Is(err, refused) || tries != 1 {
			t.Errorf("%d tries: %v", tries, err)
		}
		hungUp(t, ln)
		e.wantHeld(0, 1, 0) // the pin's
	}
	if e.ejected("o0") {
		t.Error("the origin was ejected for what is not its fault")
	}
}

// A try function that closes the connection itself releases nothing twice.
func TestTryMayClose(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o0")
	e.origin("o1")
	tries := 0
	_, err := e.connect("a", balancer.Play, func(_ context.Context, c *Conn) error {
		tries++
		c.Close()
		return Retry(io.ErrUnexpectedEOF)
	})
	if tries != 2 || !errors.Is(err, balancer.ErrNoOrigin) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d tries: %v", tries, err)
	}
	if _, err := e.connect("a", balancer.Play, func(_ context.Context, c *Conn) error { c.Close(); return io.EOF }); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	e.wantHeld(0, 0, 0)
}

func TestAtMostThreeOrigins(t *testing.T) {
	for attempts, want := range map[int]int{0: 3, 2: 2} {
		e := newEnv(t, Config{Attempts: attempts})
		dead := deadAddr(t)
		for i := range 5 {
			e.register(fmt.Sprint("o", i), dead)
		}
		counter := &reports{Balancer: e.bal}
		e.router.bal = counter
		_, err := e.connect("a", balancer.Publish, nil)
		if !errors.Is(err, unix.ECONNREFUSED) || counter.failed != want {
			t.Errorf("%d dials for Attempts %d: %v", counter.failed, attempts, err)
		}
		e.wantHeld(0, 0, 0)
	}
}

// reports counts the dial failures that the balancer hears of.
type reports struct {
	balancer.Balancer
	failed int
}

func (r *reports) ReportDial(ctx context.Context, id string, err error) {
	if err != nil {
		r.failed++
	}
	r.Balancer.ReportDial(ctx, id, err)
}

func TestNoOrigin(t *testing.T) {
	e := newEnv(t, Config{})
	if _, err := e.connect("a", balancer.Play, nil); !errors.Is(err, balancer.ErrNoOrigin) {
		t.Errorf("none registered: %v", err)
	}
	e.wantHeld(0, 0, 0)
	e.register("dead", deadAddr(t))
	if _, err := e.connect("a", balancer.Play, nil); !errors.Is(err, balancer.ErrNoOrigin) || !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("all refused: %v; want both causes", err)
	}
	e.wantHeld(0, 0, 0)
}

func TestNoEndpoint(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o0")
	for _, proto := range []Proto{HTTP, API} {
		_, err := e.router.Connect(context.Background(), Request{Stream: stream("a"), Role: balancer.Play, Proto: proto, Client: testClient()}, nil)
		if !errors.Is(err, ErrNoEndpoint) {
			t.Errorf("%s: %v", proto, err)
		}
	}
	e.wantHeld(0, 0, 0)
}

func TestEachProtocolHasItsEndpoint(t *testing.T) {
	e := newEnv(t, Config{})
	want := map[Proto]string{RTMP: listen(t).Addr().String(), HTTP: listen(t).Addr().String(), API: listen(t).Addr().String()}
	o := balancer.Origin{ID: "o0", Endpoints: balancer.Endpoints{RTMP: want[RTMP], HTTP: want[HTTP], API: want[API]}}
	if err := e.bal.Update(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	for proto, addr := range want {
		c, err := e.router.Connect(context.Background(), Request{Stream: stream("a"), Role: balancer.Play, Proto: proto, Client: testClient()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.RemoteAddr().String(); got != addr {
			t.Errorf("%s goes to %s, want %s", proto, got, addr)
		}
		c.Close()
	}
}

// A second origin would split the stream: the owner's loss is told as such.
func TestOwnerUnreachable(t *testing.T) {
	e := newEnv(t, Config{})
	owner := e.origin("owner")
	publisher := e.mustConnect("a", balancer.Publish)
	e.origin("other")
	owner.Close()
	for _, role := range []balancer.Role{balancer.Play, balancer.Publish} {
		_, err := e.connect("a", role, nil)
		if !errors.Is(err, balancer.ErrOwnerUnreachable) || !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v; want the owner unreachable and why", role, err)
		}
	}
	e.wantHeld(1, 0, 1)
	publisher.Close()
	if c := e.mustConnect("a", balancer.Publish); c.Lease.Origin.ID != "other" {
		t.Errorf("once the publisher is gone the stream is on %s", c.Lease.Origin.ID)
	}
}

// The existing proxy's pick was load-then-store: first publish and first play of
// one name could split.
func TestDefect7_ConcurrentFirstSessionsMeetOnOneOrigin(t *testing.T) {
	e := newEnv(t, Config{})
	for i := range 8 {
		e.origin(fmt.Sprint("o", i))
	}
	const sessions = 1000
	var mu sync.Mutex
	origins := map[string]int{}
	conns := make([]*Conn, 0, sessions)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range sessions {
		role := balancer.Role(i % 2)
		all.Go(func() {
			<-start
			c, err := e.router.Connect(context.Background(), Request{Stream: stream("a"), Role: role, Proto: RTMP, Client: testClient()}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			origins[c.Lease.Origin.ID]++
			conns = append(conns, c)
		})
	}
	close(start)
	all.Wait()
	if len(origins) != 1 || len(conns) != sessions {
		t.Errorf("%d sessions: %v", len(conns), origins)
	}
	e.wantHeld(sessions/2, sessions/2, sessions)
	for _, c := range conns {
		c.Close()
	}
	e.wantHeld(0, 0, 0)
}

func TestStreamFoldsUnknownVhosts(t *testing.T) {
	r := newEnv(t, Config{Vhosts: []string{"known.example"}}).router
	for vhost, want := range map[string]string{"known.example": "known.example", "192.0.2.1": balancer.DefaultVhost} {
		got := r.Stream(streamurl.Stream{Vhost: vhost, App: "live", Name: "a"})
		if got != (balancer.Stream{Vhost: want, App: "live", Name: "a"}) {
			t.Errorf("%s becomes %v", vhost, got)
		}
	}
}

func TestRetryOfNil(t *testing.T) {
	if Retry(nil) != nil {
		t.Error("Retry(nil) is an error")
	}
}

// The lease of a connection that somebody else has closed is held until Close.
func TestForget(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o0")
	c := e.mustConnect("a", balancer.Play)
	c.TCPConn.Close()
	c.Forget()
	e.wantHeld(0, 1, 1)
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	e.wantHeld(0, 0, 0)
}
