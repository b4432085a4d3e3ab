package srt

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/balancer"
	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/source"
	"srs-proxy/testkit"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, testkit.IgnoreSRTDial()...)
}

// patience is how long a test waits for what has to come, on a busy machine.
const patience = 20 * time.Second

// env is a server over a real balancer, router and sockets.
type env struct {
	t       testing.TB
	bal     *balancer.Memory
	router  *route.Router
	sources *source.Pool
	server  *Server
	stop    func()
}

func start(t testing.TB, cfg Config, rcfg route.Config) *env {
	t.Helper()
	return startLogged(t, cfg, rcfg, slog.New(slog.DiscardHandler))
}

func startLogged(t testing.TB, cfg Config, rcfg route.Config, log *slog.Logger) *env {
	t.Helper()
	e := &env{t: t, bal: balancer.NewMemory(balancer.Config{}), sources: source.New()}
	rcfg.Sources = e.sources
	e.router = route.New(rcfg, e.bal, log)
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	e.server = New(cfg, e.router, e.sources, log)
	if err := e.server.Listen(); err != nil {
		t.Fatal(err)
	}
	stop := testkit.Serve(t, e.server.Run)
	e.stop = sync.OnceFunc(func() {
		stop()
		e.wantEmpty()
	})
	t.Cleanup(e.stop)
	return e
}

// wantEmpty says that nothing is left of any session. Only for a stopped server.
func (e *env) wantEmpty() {
	e.t.Helper()
	for _, t := range e.server.tables {
		if len(t.byCaller)+len(t.byPublic)+len(t.handshaking) > 0 {
			e.t.Errorf("left in a table: %d, %d, %d", len(t.byCaller), len(t.byPublic), len(t.handshaking))
		}
	}
	st := e.server.Stats()
	if st.Sessions != 0 || st.Handshaking != 0 || st.Flows != 0 {
		e.t.Errorf("left: %+v", st)
	}
	if len(e.server.clients.counts) != 0 {
		e.t.Errorf("addresses left: %v", e.server.clients.counts)
	}
	if n := e.router.Sessions(); n != 0 {
		e.t.Errorf("%d sessions are still counted", n)
	}
	if n := e.sources.InUse(); n != 0 {
		e.t.Errorf("%d source addresses are in use", n)
	}
}

func (e *env) addr() netip.AddrPort { return e.server.Addr().(*net.UDPAddr).AddrPort() }

// register makes an origin known.
func (e *env) register(id string, srt netip.AddrPort) {
	e.t.Helper()
	err := e.bal.Update(context.Background(), balancer.Origin{ID: id, Endpoints: balancer.Endpoints{SRT: srt.String()}})
	if err != nil {
		e.t.Fatal(err)
	}
}

// pin ties a stream to an origin, as a publisher of another proxy would.
func (e *env) pin(name, id string) {
	e.t.Helper()
	var others []string
	origins, err := e.bal.Origins(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	for _, o := range origins {
		if o.ID != id {
			others = append(others, o.ID)
		}
	}
	stream := balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: name}
	l, err := e.bal.Pick(context.Background(), balancer.Request{Stream: stream, Role: balancer.Play, Exclude: others})
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { e.bal.Release(context.Background(), l) })
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testkit.Within(t, patience, what, ok)
}

// origin answers handshakes and sends all data back, at the level of packets.
type origin struct {
	conn *net.UDPConn

	mu      sync.Mutex // guards what follows
	silent  bool       // answers nothing
	refuse  srt.Reason // answers a conclusion with it
	id      uint32     // of the next socket; it counts up
	sockets map[netip.AddrPort]uint32
	took    []srt.Packet // conclusions
	at      []time.Time  // when they came
	ended   int          // shutdowns
	drop    func(p srt.Packet) bool
}

func startOrigin(t testing.TB) *origin {
	t.Helper()
	return startOriginAt(t, "127.0.0.1")
}

func startOriginAt(t testing.TB, host string) *origin {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadBuffer(4 << 20)
	o := &origin{conn: conn, id: 1000, sockets: make(map[netip.AddrPort]uint32)}
	done := make(chan struct{})
	go func() { defer close(done); o.run() }()
	t.Cleanup(func() { conn.Close(); <-done })
	return o
}

func (o *origin) addr() netip.AddrPort { return o.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (o *origin) run() {
	b := make([]byte, 2048)
	for {
		n, from, err := o.conn.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if p, err := srt.Parse(b[:n]); err == nil {
			if answer := o.take(p, from); answer != nil {
				o.conn.WriteToUDPAddrPort(answer, from)
			}
		}
	}
}

const originCookie = 0x5eed

func (o *origin) take(p srt.Packet, from netip.AddrPort) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.silent || o.drop != nil && o.drop(p) {
		return nil
	}
	h, err := srt.ParseHandshake(p)
	switch {
	case err != nil && p.Is(srt.ControlShutdown):
		o.ended++
		delete(o.sockets, from)
		return nil
	case err != nil: // for a socket: back to its client
		if p.Destination() != o.sockets[from] || len(p) < srt.HeaderSize+4 {
			return nil
		}
		p.SetDestination(binary.BigEndian.Uint32(p[srt.HeaderSize:])) // data begin with the caller's id
		return p
	case h.Stage == srt.StageInduction:
		h = h.Challenge(originCookie)
		return h.Append(nil, h.SocketID, 1)
	case h.Stage != srt.StageConclusion || h.Cookie != originCookie:
		return nil
	}
	o.took = append(o.took, append(srt.Packet(nil), p...))
	o.at = append(o.at, time.Now())
	if o.refuse != 0 {
		h = h.Refusal(o.refuse)
		return h.Append(nil, h.SocketID, 1)
	}
	if o.sockets[from] == 0 {
		o.sockets[from] = o.id
		o.id++
	}
	caller := h.SocketID
	h.SocketID = o.sockets[from]
	return append(h.Append(nil, caller, 7000), p[srt.HandshakeSize:]...)
}

func (o *origin) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

func (o *origin) conclusions() []srt.Packet {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]srt.Packet(nil), o.took...)
}

func (o *origin) shutdowns() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// caller is a client at the level of packets.
type caller struct {
	t    testing.TB
	conn *net.UDPConn
	id   uint32 // its socket id
	peer uint32 // where it sends to
	h    srt.Handshake
}

func dial(t testing.TB, to netip.AddrPort) *caller {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return socket(t, conn, 77)
}

// socket is another socket of one address and port.
func socket(t testing.TB, conn *net.UDPConn, id uint32) *caller {
	return &caller{t: t, conn: conn, id: id, h: srt.Handshake{
		Version: srt.Version4, Extensions: 2, Sequence: 4711, MTU: 1500, FlowWindow: 8192, Stage: srt.StageInduction, SocketID: id,
	}}
}

func (c *caller) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the next datagram, nil if none comes in time.
func (c *caller) read(within time.Duration) srt.Packet {
	c.t.Helper()
	b := make([]byte, 2048)
	c.conn.SetReadDeadline(time.Now().Add(within))
	n, err := c.conn.Read(b)
	if err != nil {
		return nil
	}
	p, err := srt.Parse(b[:n])
	if err != nil {
		c.t.Fatalf("%x: %v", b[:n], err)
	}
	return p
}

// handshake reads an answer to one.
func (c *caller) handshake() (srt.Packet, srt.Handshake) {
	c.t.Helper()
	p := c.read(patience)
	if p == nil {
		c.t.Fatal("no answer")
	}
	h, err := srt.ParseHandshake(p)
	if err != nil || p.Destination() != c.id {
		c.t.Fatalf("%x: %v", []byte(p), err)
	}
	return p, h
}

func (c *caller) silence(within time.Duration) {
	c.t.Helper()
	if p := c.read(within); p != nil {
		c.t.Fatalf("got %x", []byte(p))
	}
}

// induct gets a cookie.
func (c *caller) induct() {
	c.t.Helper()
	c.send(c.h.Append(nil, 0, 10))
	p, h := c.handshake()
	if h.Stage != srt.StageInduction || h.Version != srt.Version5 || h.Cookie == 0 || len(p) != srt.HandshakeSize {
		c.t.Fatalf("answer to an induction: %+v", h)
	}
	c.h.Cookie = h.Cookie
}

// conclusion is a request for a stream id, "" for none; with an extension that nobody
// but the origin understands.
func (c *caller) conclusion(id string) []byte {
	h := c.h
	h.Version, h.Extensions, h.Stage = srt.Version5, srt.FlagHSReq|srt.FlagKMReq|srt.FlagConfig, srt.StageConclusion
	b := h.Append(nil, 0, 1000)
	b = append(b, 0, 1, 0, 3, 0, 1, 5, 3, 0, 0, 0, 0xbf, 0, 120, 0, 120)
	b = append(b, 0, 3, 0, 2, 's', 'e', 'c', 'r', 'e', 't', '!', '!')
	if id != "" {
		b = srt.AppendStreamID(b, id)
	}
	return b
}

// call opens a session.
func (c *caller) call(id string) srt.Packet {
	c.t.Helper()
	c.induct()
	c.send(c.conclusion(id))
	return c.accepted()
}

func (c *caller) accepted() srt.Packet {
	c.t.Helper()
	p, h := c.handshake()
	if h.Stage != srt.StageConclusion {
		reason, _ := h.Stage.Refused()
		c.t.Fatalf("refused: %s", reason)
	}
	c.peer = h.SocketID
	return p
}

// refused reads a refusal.
func (c *caller) refused() srt.Reason {
	c.t.Helper()
	_, h := c.handshake()
	reason, ok := h.Stage.Refused()
	if !ok {
		c.t.Fatalf("not refused: %+v", h)
	}
	return reason
}

// data is a packet of data to the session's socket, of the length of a usual one.
func (c *caller) data() []byte {
	b := make([]byte, srt.HeaderSize+1316)
	srt.Packet(b).SetDestination(c.peer)
	binary.BigEndian.PutUint32(b[srt.HeaderSize:], c.id)
	return b
}

// echo proves that data go to the origin and back.
func (c *caller) echo() {
	c.t.Helper()
	c.send(c.data())
	p := c.read(patience)
	if p == nil || p.Destination() != c.id || len(p) != srt.HeaderSize+1316 {
		c.t.Fatalf("%d bytes came back", len(p))
	}
}
