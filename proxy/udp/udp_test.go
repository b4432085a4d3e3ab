package udp_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"srs-proxy/proxy/source"
	"srs-proxy/proxy/udp"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(relayEnv); kind != "" {
		fmt.Fprintln(os.Stderr, beRelay(kind, os.Getenv(originEnv)))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func TestAnswersComeFromTheAddressThatWasAsked(t *testing.T) {
	for _, tt := range []struct{ listen, host string }{
		{":0", "127.0.0.1"},
		{":0", "127.0.0.77"},
		{":0", "::1"},
		{"0.0.0.0:0", "127.0.0.77"},
		{"127.0.0.1:0", "127.0.0.1"},
		{"[::1]:0", "::1"},
	} {
		t.Run(tt.listen+" at "+tt.host, func(t *testing.T) {
			s, b, _ := start(t, udp.Config{Listen: tt.listen, Shards: 2}, startEcho(t, "127.0.0.1:0").LocalAddr())
			c := dial(t, s, tt.host)
			ask(t, c, "hello")
			ask(t, c, "again")
			want := udp.Peer{Addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), Local: netip.MustParseAddr(tt.host)}
			if got := b.session(t, 0).peer; got != want {
				t.Errorf("peer = %+v, want %+v", got, want)
			}
		})
	}
}

// A link-local address means nothing without its interface.
func TestLinkLocalClient(t *testing.T) {
	host, zone := linkLocal(t)
	s, b, _ := start(t, udp.Config{Listen: ":0"}, startEcho(t, "127.0.0.1:0").LocalAddr())
	c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: host.AsSlice(), Port: s.Addr().(*net.UDPAddr).Port, Zone: zone})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask(t, c, "hello")
	if b.session(t, 0).peer.Interface == 0 {
		t.Error("the peer has no interface")
	}
}

func linkLocal(t *testing.T) (netip.Addr, string) {
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				return p.Addr(), i.Name
			}
		}
	}
	t.Skip("no interface has a link-local IPv6 address")
	return netip.Addr{}, ""
}

func TestOriginSeesAPeerForEachSession(t *testing.T) {
	origin := startEcho(t, "127.0.0.1:0")
	s, b, pool := start(t, udp.Config{Listen: "127.0.0.1:0", Shards: 2}, origin.LocalAddr())
	const clients = 20
	for range clients {
		ask(t, dial(t, s, "127.0.0.1"), "hello")
	}
	seen := make(map[netip.Addr]bool)
	for _, from := range origin.seen() {
		if !source.Contains(from.Addr()) {
			t.Errorf("the origin saw %s", from)
		}
		seen[from.Addr()] = true
	}
	if len(seen) != clients {
		t.Errorf("%d peers at the origin, want %d", len(seen), clients)
	}
	for i := range clients {
		se := b.session(t, i)
		if client, ok := pool.Client(se.flow.Local().Addr()); !ok || client != se.peer.Addr {
			t.Errorf("source %s stands for %s, want %s", se.flow.Local(), client, se.peer.Addr)
		}
	}
	if n := s.Stats().Flows; n != clients {
		t.Errorf("%d flows, want %d", n, clients)
	}
}

// An origin on another machine is reached by a connected socket; IPv6 loopback is
// treated like one, and is at hand.
func TestConnectedOrigin(t *testing.T) {
	origin := startEcho(t, "[::1]:0")
	s, b, pool := start(t, udp.Config{Listen: "127.0.0.1:0"}, origin.LocalAddr())
	c := dial(t, s, "127.0.0.1")
	ask(t, c, "hello")
	ask(t, dial(t, s, "127.0.0.1"), "me too")
	if pool.InUse() != 0 {
		t.Error("a source address was taken for a connected flow")
	}
	flow := b.session(t, 0).flow
	if got := origin.seen()[0]; got != flow.Local() {
		t.Errorf("the origin saw %s, Local is %s", got, flow.Local())
	}
	// Who is not the origin cannot reach it.
	stranger, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(flow.Local()))
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Write([]byte("forged")); err != nil {
		t.Fatal(err)
	}
	ask(t, c, "still here")
	flow.Close()
	eventually(t, "the flow is closed", func() bool { return s.Stats().Flows == 1 })
	flow.ToOrigin(b.session(t, 0).shard, []byte("too late"))
}

// Any process of the host can send to a session's source address, from any address of
// 127.0.0.0/8; only the origin's own is passed on.
func TestStrangersAreDropped(t *testing.T) {
	origin := startEcho(t, "127.0.0.1:0")
	s, b, _ := start(t, udp.Config{Listen: "127.0.0.1:0"}, origin.LocalAddr())
	c := dial(t, s, "127.0.0.1")
	ask(t, c, "hello")
	local := b.session(t, 0).flow.Local()
	other := netip.AddrPortFrom(netip.MustParseAddr("127.64.0.0"), local.Port()) // of no session
	for i, tt := range []struct {
		from string
		to   netip.AddrPort
	}{
		{"127.0.0.1:0", local},
		{"127.0.0.9:" + portOf(origin.LocalAddr()), local},
		{"127.0.0.1:0", other},
	} {
		stranger := listen(t, tt.from)
		if _, err := stranger.WriteToUDPAddrPort([]byte("forged"), tt.to); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the stranger's datagram is counted", func() bool { return s.Stats().Strangers == int64(i+1) })
	}
	ask(t, c, "nothing in between")
}

func portOf(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

// A client whose port changed comes to another shard; its origin must not see that.
func TestFlowOfAnotherShard(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			origin := startEcho(t, addr)
			s, b, _ := start(t, udp.Config{Listen: "127.0.0.1:0", Shards: 2}, origin.LocalAddr())
			c := dial(t, s, "127.0.0.1")
			ask(t, c, "hello")
			se := b.session(t, 0)
			other := s.Shards()[1-se.shard.Index()]
			other.Post(func() { se.flow.ToOrigin(other, []byte("from the other")) })
			buf := make([]byte, 64)
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != "from the other" {
				t.Fatalf("Read = %q, %v", buf[:n], err)
			}
			if seen := origin.seen(); len(seen) != 1 {
				t.Errorf("the origin saw %v, want one peer", seen)
			}
		})
	}
}

func TestClosedFlow(t *testing.T) {
	origin := startEcho(t, "127.0.0.1:0")
	s, b, pool := start(t, udp.Config{Listen: "127.0.0.1:0"}, origin.LocalAddr())
	ask(t, dial(t, s, "127.0.0.1"), "hello")
	flow := b.session(t, 0).flow
	flow.Close()
	flow.Close()
	eventually(t, "the address is back", func() bool { return pool.InUse() == 0 })
	if n := s.Stats().Flows; n != 0 {
		t.Errorf("%d flows, want 0", n)
	}
	if _, err := origin.WriteToUDPAddrPort([]byte("late"), flow.Local()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the late datagram is counted", func() bool { return s.Stats().Strangers == 1 })
}

func TestTooLong(t *testing.T) {
	s, _, _ := start(t, udp.Config{Listen: "127.0.0.1:0"}, startEcho(t, "127.0.0.1:0").LocalAddr())
	c := dial(t, s, "127.0.0.1")
	ask(t, c, strings.Repeat("x", udp.MaxDatagram))
	if _, err := c.Write(make([]byte, udp.MaxDatagram+1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is counted", func() bool { return s.Stats().TooLong == 1 })
	ask(t, c, "")
	ask(t, c, "next")
}

// SO_REUSEPORT must not let us share the port with a process that sets it too.
func TestBusyPort(t *testing.T) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	taken, err := lc.ListenPacket(context.Background(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := udp.New(udp.Config{Listen: taken.LocalAddr().String()}, &bridge{}, source.New(), slog.New(slog.DiscardHandler))
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("Listen = %v, want that the address is in use", err)
	}
}

// Who needs the same port for TCP too, and does not get it, begins again.
func TestListenAgain(t *testing.T) {
	b := &bridge{origin: startEcho(t, "127.0.0.1:0").LocalAddr().(*net.UDPAddr).AddrPort(), flows: []map[udp.Peer]*bridgeSession{{}}}
	s := udp.New(udp.Config{Listen: "127.0.0.1:0"}, b, source.New(), slog.New(slog.DiscardHandler))
	for range 2 {
		s.Close()
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ask(t, dial(t, s, "127.0.0.1"), "hello")
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestPanicCostsABatch(t *testing.T) {
	s, b, _ := start(t, udp.Config{Listen: "127.0.0.1:0"}, startEcho(t, "127.0.0.1:0").LocalAddr())
	c := dial(t, s, "127.0.0.1")
	b.panicAt.Store(true)
	if _, err := c.Write([]byte("boom")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the panic is counted", func() bool { return s.Stats().Panics == 1 })
	ask(t, c, "alive")
}

func TestTickAndPost(t *testing.T) {
	b := &bridge{}
	s := udp.New(udp.Config{Listen: "127.0.0.1:0", Tick: time.Millisecond}, b, source.New(), slog.New(slog.DiscardHandler))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	eventually(t, "it ticks", func() bool { return b.ticks.Load() > 2 })
	sh := s.Shards()[0]
	ran := make(chan struct{})
	if !sh.Post(func() { close(ran) }) {
		t.Error("Post = false while the server runs")
	}
	<-ran
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if sh.Post(func() {}) {
		t.Error("Post = true after the end")
	}
}

// A shard that has nothing to look at wakes nobody; when it has, it ticks at once.
func TestTickEvery(t *testing.T) {
	s, b, _ := start(t, udp.Config{Listen: "127.0.0.1:0", Tick: time.Hour}, startEcho(t, "127.0.0.1:0").LocalAddr())
	sh := s.Shards()[0]
	every := func(d time.Duration) {
		t.Helper()
		done := make(chan struct{})
		if !sh.Post(func() { sh.TickEvery(d); close(done) }) {
			t.Fatal("the shard has stopped")
		}
		<-done
	}
	every(0) // nonsense changes nothing
	every(time.Millisecond)
	eventually(t, "it ticks", func() bool { return b.ticks.Load() > 5 })
	every(time.Hour)
	before := b.ticks.Load()
	time.Sleep(50 * time.Millisecond)
	if n := b.ticks.Load() - before; n > 1 { // one that was due
		t.Errorf("%d ticks in what should be an hour", n)
	}
}

// Neither sessions nor the server leave descriptors behind.
func TestDescriptors(t *testing.T) {
	before := descriptors(t)
	t.Run("", func(t *testing.T) {
		origin := startEcho(t, "127.0.0.1:0")
		s, _, _ := start(t, udp.Config{Listen: ":0", Shards: 4}, origin.LocalAddr())
		c := dial(t, s, "127.0.0.1")
		ask(t, c, "first")
		idle := descriptors(t)
		for range 100 {
			c := dial(t, s, "127.0.0.1")
			ask(t, c, "hello")
			c.Close()
		}
		if n := descriptors(t); n != idle {
			t.Errorf("%d descriptors with 100 sessions more, want %d", n, idle)
		}
	})
	if n := descriptors(t); n != before {
		t.Errorf("%d descriptors after the end, want %d", n, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
