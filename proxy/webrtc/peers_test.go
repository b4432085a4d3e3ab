package webrtc_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	pion "github.com/pion/stun/v3"
	"go.uber.org/goleak"

	"srs-proxy/balancer"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/source"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a running webrtc.Server and what is behind it.
type server struct {
	*webrtc.Server
	sources *source.Pool
}

// start runs a server until the test ends; by then every session must be gone from
// every table.
func start(t testing.TB, cfg webrtc.Config) *server {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	log := slog.New(slog.DiscardHandler)
	s := &server{sources: source.New()}
	router := route.New(route.Config{Sources: s.sources}, balancer.NewMemory(balancer.Config{}), log)
	s.Server = webrtc.New(cfg, s.sources, router, relay.New(relay.Config{}), log)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	stop := testkit.Serve(t, s.Run)
	t.Cleanup(func() {
		stop()
		st := s.Stats()
		if st.Sessions != 0 || st.Added != st.Ended || st.UDP.Flows != 0 || s.sources.InUse() != 0 || st.UDP.Panics+st.Panics != 0 {
			t.Errorf("after the end: %+v, %d source addresses in use", st, s.sources.InUse())
		}
	})
	return s
}

func (s *server) at(host string) *net.UDPAddr {
	return &net.UDPAddr{IP: net.ParseIP(host), Port: s.Addr().(*net.UDPAddr).Port}
}

// origin is the media side of an origin as far as the proxy can tell: it remembers
// what came and from whom, and answers it with itself.
type origin struct {
	*net.UDPConn
	mute bool // does not answer

	mu  sync.Mutex // guards the following fields
	got []string
	by  []netip.AddrPort
}

func startOrigin(t testing.TB) *origin {
	t.Helper()
	o := newOrigin(t)
	go o.run()
	return o
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &origin{UDPConn: c}
}

func (o *origin) run() {
	buf := make([]byte, 4096)
	for {
		n, from, err := o.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		o.mu.Lock()
		o.got = append(o.got, string(buf[:n]))
		o.by = append(o.by, from)
		o.mu.Unlock()
		if !o.mute {
			_, _ = o.WriteToUDPAddrPort(buf[:n], from)
		}
	}
}

func (o *origin) addr() netip.AddrPort { return o.LocalAddr().(*net.UDPAddr).AddrPort() }

// seen returns what came and the distinct addresses that it came from.
func (o *origin) seen() (got []string, by map[netip.AddrPort]int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	by = make(map[netip.AddrPort]int)
	for _, a := range o.by {
		by[a]++
	}
	return append([]string(nil), o.got...), by
}

// session is the n-th of a test, to an origin.
func session(n int, o *origin) webrtc.Session {
	return webrtc.Session{
		LocalUfrag: fmt.Sprintf("local%03d", n), LocalPwd: fmt.Sprintf("password%024d", n), RemoteUfrag: fmt.Sprintf("re%d", n),
		Stream: balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: fmt.Sprint("s", n)}, Role: balancer.Play,
		OriginID: "0", UDP: o.addr(),
	}
}

func add(t testing.TB, s *server, se webrtc.Session) webrtc.Session {
	t.Helper()
	if err := s.Add(se); err != nil {
		t.Fatal(err)
	}
	return se
}

// check is a connectivity check of the session's client.
func check(t testing.TB, se webrtc.Session) []byte { return checkWith(t, se, se.LocalPwd) }

func checkWith(t testing.TB, se webrtc.Session, password string) []byte {
	t.Helper()
	m, err := pion.Build(pion.TransactionID, pion.BindingRequest, pion.NewUsername(se.Username()), pion.NewShortTermIntegrity(password), pion.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// rtp is a packet as every session has them: not STUN, and told from others by its text.
func rtp(text string) string { return "\x80\x60" + text }

// client is a socket of a client.
type client struct {
	*net.UDPConn
	t testing.TB
}

func dial(t testing.TB, s *server, host string) *client {
	t.Helper()
	c, err := net.DialUDP("udp", nil, s.at(host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{c, t}
}

func (c *client) addr() netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func (c *client) send(payload string) {
	c.t.Helper()
	if _, err := c.Write([]byte(payload)); err != nil {
		c.t.Fatal(err)
	}
}

const patience = 5 * time.Second

// expect waits for the next datagram, which must be this one.
func (c *client) expect(payload string) {
	c.t.Helper()
	buf := make([]byte, 4096)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(buf)
	if err != nil {
		c.t.Fatalf("nothing came, want %q: %v", payload, err)
	}
	if string(buf[:n]) != payload {
		c.t.Fatalf("got %q, want %q", buf[:n], payload)
	}
}

// ask sends a datagram that the origin answers with itself.
func (c *client) ask(payload string) {
	c.t.Helper()
	c.send(payload)
	c.expect(payload)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testkit.Within(t, patience, what, ok)
}
