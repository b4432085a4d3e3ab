package webrtc_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"srs-proxy/proxy/source"
	"srs-proxy/proxy/webrtc"
)

// tcpOrigin is an origin's endpoint of WebRTC over TCP: it answers every byte with
// itself and remembers who connected.
type tcpOrigin struct {
	*net.TCPListener

	mu sync.Mutex // guards by
	by []netip.AddrPort
}

func startTCPOrigin(t *testing.T) *tcpOrigin {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	o := &tcpOrigin{TCPListener: ln}
	var conns sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.by = append(o.by, c.RemoteAddr().(*net.TCPAddr).AddrPort())
			o.mu.Unlock()
			conns.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-accepting
		conns.Wait()
	})
	return o
}

func (o *tcpOrigin) addr() netip.AddrPort { return o.Addr().(*net.TCPAddr).AddrPort() }

func (o *tcpOrigin) seen() []netip.AddrPort {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]netip.AddrPort(nil), o.by...)
}

// framed is a datagram as it is sent over TCP.
func framed(payload string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(payload)))) + payload
}

type tcpClient struct {
	*net.TCPConn
	t *testing.T
}

func dialTCP(t *testing.T, s *server) *tcpClient {
	t.Helper()
	to := s.at("127.0.0.1")
	c, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: to.IP, Port: to.Port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &tcpClient{c, t}
}

func (c *tcpClient) ask(payload string) {
	c.t.Helper()
	if _, err := c.Write([]byte(framed(payload))); err != nil {
		c.t.Fatal(err)
	}
	got := make([]byte, len(framed(payload)))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != framed(payload) {
		c.t.Fatalf("answer = %q, %v, want %q", got, err, framed(payload))
	}
}

func (c *tcpClient) expectEnd() {
	c.t.Helper()
	if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, net.ErrClosed) || isTimeout(err) {
		c.t.Fatalf("Read = %d, %v, want the end of the connection", n, err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func tcpSession(n int, o *origin, tcp *tcpOrigin) webrtc.Session {
	se := session(n, o)
	se.TCP = tcp.addr()
	return se
}

func TestMediaOverTCP(t *testing.T) {
	s, tcp := start(t, webrtc.Config{TCP: true}), startTCPOrigin(t)
	se := add(t, s, tcpSession(1, startOrigin(t), tcp))
	c := dialTCP(t, s)
	c.ask(string(check(t, se)))
	for range 100 {
		c.ask(rtp(strings.Repeat("media", 200)))
	}
	if by := tcp.seen(); len(by) != 1 || !source.Contains(by[0].Addr()) {
		t.Errorf("the origin saw %v, want one source address", by)
	} else if client, _ := s.sources.Client(by[0].Addr()); client != c.LocalAddr().(*net.TCPAddr).AddrPort() {
		t.Errorf("the source address stands for %s", client)
	}
	in, _ := s.Lookup(se.Username())
	if !in.TCP || in.Media != c.LocalAddr().(*net.TCPAddr).AddrPort() || in.BytesIn < 100_000 {
		t.Errorf("Lookup = %+v", in)
	}
	c.Close()
	eventually(t, "the client is gone", func() bool { in, _ := s.Lookup(se.Username()); return !in.TCP })
	if after, ok := s.Lookup(se.Username()); !ok || after.BytesIn < in.BytesIn {
		t.Errorf("after the connection: %+v, %v", after, ok)
	}
	again := dialTCP(t, s) // within its idle time it may come back
	again.ask(string(check(t, se)))
	again.ask(rtp("back"))
}

func TestTCPStrangers(t *testing.T) {
	s, tcp := start(t, webrtc.Config{TCP: true, HandshakeTimeout: 100 * time.Millisecond}), startTCPOrigin(t)
	se := add(t, s, tcpSession(1, startOrigin(t), tcp))
	unknown := se
	unknown.RemoteUfrag = "another"
	for _, tt := range []struct {
		name, sent string
		count      func(webrtc.Stats) int64
	}{
		{"a wrong password", framed(string(checkWith(t, se, "guessed"))), func(st webrtc.Stats) int64 { return st.BadIntegrity }},
		{"no such session", framed(string(check(t, unknown))), func(st webrtc.Stats) int64 { return st.Unknown }},
		{"media first", framed(rtp("media")), func(st webrtc.Stats) int64 { return st.Malformed }},
		{"no request", framed("\x00\x11\x00\x00\x21\x12\xa4\x42transaction!"), func(st webrtc.Stats) int64 { return st.Malformed }},
		{"HTTP", "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n", func(st webrtc.Stats) int64 { return st.Malformed }},
		{"an empty frame", framed(""), func(st webrtc.Stats) int64 { return st.Malformed }},
		{"a frame that never ends", framed(string(check(t, se)))[:50], func(st webrtc.Stats) int64 { return st.Malformed }},
		{"nothing", "", func(st webrtc.Stats) int64 { return st.Malformed }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.count(s.Stats())
			c := dialTCP(t, s)
			if _, err := c.Write([]byte(tt.sent)); err != nil {
				t.Fatal(err)
			}
			c.expectEnd()
			eventually(t, "it is counted", func() bool { return tt.count(s.Stats()) == before+1 })
		})
	}
	if by := tcp.seen(); len(by) != 0 {
		t.Errorf("the origin saw %v", by)
	}
}

func TestTCPEnds(t *testing.T) {
	s, tcp := start(t, webrtc.Config{TCP: true}), startTCPOrigin(t)
	ended := make(chan webrtc.End, 1)
	se := tcpSession(1, startOrigin(t), tcp)
	se.OnEnd = func(e webrtc.End) { ended <- e }
	add(t, s, se)
	first := dialTCP(t, s)
	first.ask(string(check(t, se)))
	second := dialTCP(t, s) // from another interface of the client's
	if _, err := second.Write([]byte(framed(string(check(t, se))))); err != nil {
		t.Fatal(err)
	}
	second.expectEnd()
	if by := tcp.seen(); len(by) != 1 {
		t.Errorf("the origin saw %v, want one connection: two crash SRS", by)
	}
	first.ask(rtp("media"))
	s.Remove(se.Username())
	first.expectEnd()
	if e := <-ended; !e.TCP || e.BytesIn == 0 || !errors.Is(e.Cause, webrtc.ErrRemoved) {
		t.Errorf("End = %+v", e)
	}
	eventually(t, "source addresses are back", func() bool { return s.sources.InUse() == 0 })
	late := dialTCP(t, s)
	if _, err := late.Write([]byte(framed(string(check(t, se))))); err != nil {
		t.Fatal(err)
	}
	late.expectEnd()
}

// Over TCP nothing is seen to pass, but a client that is there is not idle; once it
// has gone, it is.
func TestTCPIdle(t *testing.T) {
	const idle = 100 * time.Millisecond
	s, tcp := start(t, webrtc.Config{TCP: true, Idle: idle}), startTCPOrigin(t)
	ended := make(chan error, 1)
	se := tcpSession(1, startOrigin(t), tcp)
	se.OnEnd = func(e webrtc.End) { ended <- e.Cause }
	add(t, s, se)
	c := dialTCP(t, s)
	c.ask(string(check(t, se)))
	time.Sleep(3 * idle)
	c.ask(rtp("still there"))
	c.Close()
	if err := <-ended; !errors.Is(err, webrtc.ErrIdle) {
		t.Errorf("ended by %v", err)
	}
}

func TestOriginWithoutTCP(t *testing.T) {
	s := start(t, webrtc.Config{TCP: true})
	se := add(t, s, session(1, startOrigin(t)))
	c := dialTCP(t, s)
	if _, err := c.Write([]byte(framed(string(check(t, se))))); err != nil {
		t.Fatal(err)
	}
	c.expectEnd()
}

// Who connects and says nothing may not keep others out for long, and only so many can.
func TestTCPHandshaking(t *testing.T) {
	s, tcp := start(t, webrtc.Config{TCP: true, Handshaking: 2, HandshakeTimeout: 2 * time.Second}), startTCPOrigin(t)
	se := add(t, s, tcpSession(1, startOrigin(t), tcp))
	silent := []*tcpClient{dialTCP(t, s), dialTCP(t, s)}
	eventually(t, "both are accepted", func() bool { return s.Stats().TCP.Active == 2 })
	turnedAway := dialTCP(t, s)
	turnedAway.expectEnd()
	eventually(t, "it was turned away", func() bool { return s.Stats().TCP.Closed == 1 })
	if n := s.Stats().TCP.Active; n != 2 {
		t.Fatalf("%d clients are left, want the first two", n)
	}
	for _, c := range silent {
		c.expectEnd()
	}
	eventually(t, "there is room", func() bool { return s.Stats().TCP.Active == 0 })
	dialTCP(t, s).ask(string(check(t, se)))
}
