package udp_test

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/proxy/source"
	"srs-proxy/proxy/udp"
	"srs-proxy/testkit"
)

// bridge is the least protocol: each peer gets a flow to the one origin at its first
// datagram. What begins with a word of the test's is not for the origin.
type bridge struct {
	origin  netip.AddrPort
	flows   []map[udp.Peer]*bridgeSession // each shard's own
	ticks   atomic.Int64
	panicAt atomic.Bool

	mu       sync.Mutex // guards sessions
	sessions []*bridgeSession
}

type bridgeSession struct {
	peer  udp.Peer
	shard *udp.Shard
	flow  *udp.Flow
}

func (b *bridge) FromClient(sh *udp.Shard, payload []byte, from udp.Peer) {
	if b.panicAt.CompareAndSwap(true, false) {
		panic("a bug")
	}
	se := b.flows[sh.Index()][from]
	if se == nil {
		se = &bridgeSession{peer: from, shard: sh}
		flow, err := sh.Open(b.origin, from.Addr, se)
		if err != nil {
			return
		}
		se.flow = flow
		b.flows[sh.Index()][from] = se
		b.mu.Lock()
		b.sessions = append(b.sessions, se)
		b.mu.Unlock()
	}
	se.flow.ToOrigin(sh, payload)
}

func (b *bridge) Tick(*udp.Shard, time.Time) { b.ticks.Add(1) }

func (se *bridgeSession) FromOrigin(sh *udp.Shard, payload []byte) { sh.ToClient(se.peer, payload) }

func (b *bridge) session(t testing.TB, i int) *bridgeSession {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if i >= len(b.sessions) {
		t.Fatalf("%d sessions, want more than %d", len(b.sessions), i)
	}
	return b.sessions[i]
}

// start runs a server in front of origin until the test ends.
func start(t testing.TB, cfg udp.Config, origin net.Addr) (*udp.Server, *bridge, *source.Pool) {
	t.Helper()
	b := &bridge{origin: origin.(*net.UDPAddr).AddrPort()}
	for range max(cfg.Shards, 1) {
		b.flows = append(b.flows, make(map[udp.Peer]*bridgeSession))
	}
	pool := source.New()
	s := udp.New(cfg, b, pool, slog.New(slog.DiscardHandler))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	stop := testkit.Serve(t, s.Run)
	t.Cleanup(func() {
		stop()
		if n := pool.InUse(); n != 0 {
			t.Errorf("%d source addresses are in use after the end", n)
		}
		if n := s.Stats().Flows; n != 0 {
			t.Errorf("%d flows after the end", n)
		}
	})
	return s, b, pool
}

// echo answers each datagram with itself and remembers its senders.
type echo struct {
	*net.UDPConn

	mu      sync.Mutex // guards senders
	senders []netip.AddrPort
}

func startEcho(t testing.TB, addr string) *echo {
	t.Helper()
	e := &echo{UDPConn: listen(t, addr)}
	go e.run()
	return e
}

func (e *echo) run() {
	buf := make([]byte, 4096)
	for {
		n, from, err := e.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		e.mu.Lock()
		if len(e.senders) == 0 || e.senders[len(e.senders)-1] != from {
			e.senders = append(e.senders, from)
		}
		e.mu.Unlock()
		_, _ = e.WriteToUDPAddrPort(buf[:n], from)
	}
}

func (e *echo) seen() []netip.AddrPort {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]netip.AddrPort(nil), e.senders...)
}

func listen(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// dial returns a client of the server at one of the host's addresses. Being connected,
// it takes answers from that address alone.
func dial(t testing.TB, s *udp.Server, host string) *net.UDPConn {
	t.Helper()
	to := netip.AddrPortFrom(netip.MustParseAddr(host), s.Addr().(*net.UDPAddr).AddrPort().Port())
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const patience = 5 * time.Second

// ask sends and waits for the same to come back.
func ask(t testing.TB, c *net.UDPConn, payload string) {
	t.Helper()
	if _, err := c.Write([]byte(payload)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(buf)
	if err != nil {
		t.Fatalf("no answer to %q: %v", payload, err)
	}
	if string(buf[:n]) != payload {
		t.Fatalf("answer = %q, want %q", buf[:n], payload)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testkit.Within(t, patience, what, ok)
}
