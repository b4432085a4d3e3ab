package srt

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	goruntime "runtime"
	"sync"
	"testing"
	"time"

	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/udp"
)

// A datagram with a socket id that nobody has keeps nothing (it was a table entry for
// ever in an older proxy). The table is asked directly: a million through a socket
// would test the socket.
func TestRandomSocketIDs(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("live/x")
	n := 1_000_000
	if testing.Short() {
		n = 50_000
	}
	table := e.server.tables[0]
	done := make(chan [2]uint64)
	table.sh.Post(func() {
		var before, after goruntime.MemStats
		goruntime.ReadMemStats(&before)
		random := rand.New(rand.NewPCG(1, 2))
		b := make([]byte, srt.HeaderSize+64)
		from := udp.Peer{Addr: netip.MustParseAddrPort("192.0.2.1:5000"), Local: netip.MustParseAddr("127.0.0.1")}
		for range n {
			b[0] = byte(random.Uint32()) // data and control packets
			srt.Packet(b).SetDestination(random.Uint32() | 1)
			table.fromClient(b, from)
		}
		goruntime.ReadMemStats(&after)
		done <- [2]uint64{after.Mallocs - before.Mallocs, uint64(len(table.byCaller) + len(table.byPublic))}
	})
	r := <-done
	if r[0] > uint64(n)/100 || r[1] != 2 { // other goroutines allocate too
		t.Errorf("%d allocations, %d table entries", r[0], r[1])
	}
	if got := e.server.Stats().Dropped.Unknown; got != int64(n) {
		t.Errorf("%d of %d are counted", got, n)
	}
	c.echo()
}

// Crafted conclusions, each from a proved address (one ended the older proxy).
func TestCraftedConclusions(t *testing.T) {
	e := start(t, Config{PerIP: -1}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	witness := dial(t, e.addr())
	witness.id = 1
	witness.h.SocketID = 1
	witness.call("live/x")

	c := dial(t, e.addr())
	c.induct()
	good := c.conclusion("#!::r=live/x,m=publish")
	for n := range len(good) { // cut anywhere
		c.send(good[:n])
	}
	for at := srt.HandshakeSize; at+4 <= len(good); at += 4 { // each word a block of any length
		for _, size := range []uint16{0, 1, 2, 128, 129, 0x7fff, 0xffff} {
			b := append([]byte(nil), good...)
			binary.BigEndian.PutUint16(b[at:], uint16(srt.ExtensionStreamID))
			binary.BigEndian.PutUint16(b[at+2:], size)
			c.send(b)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		b := append([]byte(nil), good...)
		for range 1 + random.IntN(8) {
			b[srt.HandshakeSize+random.IntN(len(b)-srt.HandshakeSize)] = byte(random.Uint32())
		}
		c.send(b[:srt.HandshakeSize+random.IntN(len(b)-srt.HandshakeSize)])
		if e.server.udp.Stats().FromClients%64 == 0 {
			goruntime.Gosched()
		}
	}
	witness.echo()
	if n := e.server.udp.Stats().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

// Ten thousand sessions come and go; the ends are of all kinds. start checks that
// nothing of them is left.
func TestChurn(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	e := start(t, Config{PerIP: -1, Shards: 2, Handshaking: 1 << 20}, route.Config{})
	origins := make([]*origin, 4)
	for i := range origins {
		origins[i] = startOrigin(t)
		e.register(fmt.Sprint("o", i), origins[i].addr())
	}
	const workers = 8
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(e.addr()))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for i := range n / workers {
				c := socket(t, conn, uint32(i+1))
				if !c.tryCall(fmt.Sprintf("live/%d-%d", w, i%50)) {
					t.Errorf("worker %d: call %d got no answer", w, i)
					return
				}
				switch i % 3 {
				case 0:
					c.send(srt.AppendShutdown(nil, c.peer, 0))
				case 1: // again by the same socket, or never heard of until the end
					c.h.Sequence++
					c.send(c.conclusion("live/again"))
				}
			}
		})
	}
	all.Wait()
	if got := e.server.Stats().Opened; got < int64(n) {
		t.Errorf("%d of %d sessions were opened", got, n)
	}
	base := goruntime.NumGoroutine()
	e.stop()
	eventually(t, "goroutines end", func() bool { return goruntime.NumGoroutine() < base })
}

// tryCall is call by a caller that repeats what got no answer and ignores what is not
// for this socket.
func (c *caller) tryCall(id string) bool {
	var request []byte
	for range 20 {
		if request == nil {
			request = c.h.Append(nil, 0, 10)
		}
		c.send(request)
		for p := c.read(250 * time.Millisecond); p != nil; p = c.read(250 * time.Millisecond) {
			h, err := srt.ParseHandshake(p)
			switch {
			case err != nil || p.Destination() != c.id:
			case h.Stage == srt.StageInduction && c.h.Cookie == 0:
				c.h.Cookie = h.Cookie
				request = c.conclusion(id)
				c.send(request)
			case h.Stage == srt.StageConclusion:
				c.peer = h.SocketID
				return true
			}
		}
	}
	return false
}

// Nothing is allocated for a packet of an open session, either way.
func TestNoAllocation(t *testing.T) {
	_, s, p, answer := openSession(t)
	table := s.table
	result := make(chan [2]float64)
	table.sh.Post(func() {
		var r [2]float64
		// A shard's queue takes a batch; it is flushed as it fills.
		r[0] = testing.AllocsPerRun(1000, func() { p.SetDestination(s.publicID); table.fromClient(p, s.peer) })
		r[1] = testing.AllocsPerRun(1000, func() { s.up.FromOrigin(table.sh, answer) })
		result <- r
	})
	if r := <-result; r != [2]float64{} {
		t.Errorf("%v allocations a packet from the client, %v from the origin", r[0], r[1])
	}
}

// openSession is a session of a running server, with a packet of each direction.
func openSession(t testing.TB) (*env, *session, srt.Packet, srt.Packet) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("live/x")
	found := make(chan *session)
	table := e.server.tables[0]
	table.sh.Post(func() {
		for _, s := range table.byPublic {
			found <- s
		}
	})
	fromOrigin := srt.Packet(c.data())
	fromOrigin.SetDestination(c.id)
	o.conn.Close() // what is sent to it is not to come back
	return e, <-found, c.data(), fromOrigin
}

// BenchmarkPacket is what a packet costs here; the sockets are package udp's matter,
// and part of it: the system calls that send are in these figures.
func BenchmarkPacket(b *testing.B) {
	for name, f := range map[string]func(s *session, p, answer srt.Packet){
		"from client": func(s *session, p, _ srt.Packet) { p.SetDestination(s.publicID); s.table.fromClient(p, s.peer) },
		"from origin": func(s *session, _, answer srt.Packet) { s.up.FromOrigin(s.table.sh, answer) },
		// With a flow that is closed, what is left is this package's part.
		"from client, not sent": func(s *session, p, _ srt.Packet) {
			s.up.flow.Close()
			p.SetDestination(s.publicID)
			s.table.fromClient(p, s.peer)
		},
		"unknown id": func(s *session, p, _ srt.Packet) { p.SetDestination(1); s.table.fromClient(p, s.peer) },
		"induction": func(s *session, p, _ srt.Packet) {
			h := s.request.Induction()
			h.Append(p[:0], 0, 1)
			s.table.fromClient(p, s.peer)
		},
	} {
		b.Run(name, func(b *testing.B) {
			_, s, p, answer := openSession(b)
			done := make(chan struct{})
			b.ReportAllocs()
			s.table.sh.Post(func() {
				b.ResetTimer()
				for range b.N {
					f(s, p, answer)
				}
				b.StopTimer()
				close(done)
			})
			<-done
		})
	}
}

// Datagrams of all kinds with bytes changed, from many addresses, some of the conclusions
// with a good cookie: no panic, the session of somebody else goes on, and nothing is
// left (start checks that).
func TestMutatedDatagrams(t *testing.T) {
	e := start(t, Config{PerIP: -1, DialTimeout: 300 * time.Millisecond}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	witness := dial(t, e.addr())
	witness.call("live/witness")
	n := 1_000_000
	if testing.Short() {
		n = 50_000
	}
	table := e.server.tables[0]
	random := rand.New(rand.NewPCG(5, 6))
	c := socket(t, nil, 78)
	kinds := [][]byte{
		c.h.Append(nil, 0, 1), c.conclusion("#!::h=v,r=live/x,m=publish"), c.conclusion(""), c.data(), srt.AppendShutdown(nil, 1000, 1),
	}
	b := make([]byte, 2048)
	const batch = 500
	for i := 0; i < n; i += batch {
		done := make(chan struct{})
		table.sh.Post(func() {
			defer close(done)
			for range batch {
				p := srt.Packet(b[:copy(b, kinds[random.IntN(len(kinds))])])
				from := udp.Peer{
					Addr:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(random.Uint32()), byte(random.Uint32())}), uint16(1+random.IntN(65535))),
					Local: netip.MustParseAddr("127.0.0.1"),
				}
				if h, err := srt.ParseHandshake(p); err == nil && random.IntN(64) == 0 {
					h.Cookie = table.cookies.bake(from.Addr, table.sh.Now())
					h.Put(p)
				}
				for range random.IntN(4) {
					p[random.IntN(len(p))] = byte(random.Uint32())
				}
				if random.IntN(8) == 0 {
					p = p[:random.IntN(len(p))]
				}
				table.fromClient(p, from)
			}
		})
		<-done
		witness.echo()
	}
	if st := e.server.Stats(); st.Panics != 0 || st.Dropped.Malformed == 0 || st.Dropped.Cookie == 0 || st.Dropped.Unknown == 0 || len(st.Refused) < 3 || st.Opened < 2 {
		t.Errorf("%+v", st)
	} else {
		t.Logf("%d datagrams: %d sessions opened, %v refused, %+v dropped", n, st.Opened, st.Refused, st.Dropped)
	}
}
