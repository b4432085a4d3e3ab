package rtmp

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"
)

// script is a peer that sends fixed bytes and records the writes.
type script struct {
	in     *bytes.Reader
	writes [][]byte
	err    error // of writes
}

func play(parts ...[]byte) *script { return &script{in: bytes.NewReader(cat(parts...))} }

func (s *script) Read(b []byte) (int, error) { return s.in.Read(b) }

func (s *script) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.writes = append(s.writes, bytes.Clone(b))
	return len(b), nil
}

func prefix(content ...byte) []byte {
	return cat([]byte{0xf3, byte(len(content) >> 8), byte(len(content))}, content)
}

func TestHandshakeBothWays(t *testing.T) {
	tests := []struct {
		name   string
		realIP netip.Addr
		want   netip.Addr
	}{
		{"no address", netip.Addr{}, netip.Addr{}},
		{"IPv4", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.1")},
		{"IPv4 mapped into IPv6", netip.MustParseAddr("::ffff:192.0.2.2"), netip.MustParseAddr("192.0.2.2")},
		{"IPv6 has no place in the prefix", netip.MustParseAddr("2001:db8::1"), netip.Addr{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			_ = client.SetDeadline(time.Now().Add(20 * time.Second))
			_ = server.SetDeadline(time.Now().Add(20 * time.Second))
			dialed := make(chan error, 1)
			go func() { dialed <- DialHandshake(client, tt.realIP) }()
			got, err := AcceptHandshake(server)
			if err != nil {
				t.Fatal(err)
			}
			if err := <-dialed; err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("client %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDialSendsThePrefixBeforeC0(t *testing.T) {
	answer := cat([]byte{3}, data(2*handshakeSize))
	for ip, want := range map[string][]byte{
		"192.0.2.1":        {0xf3, 0, 4, 192, 0, 2, 1, 3},
		"::ffff:192.0.2.1": {0xf3, 0, 4, 192, 0, 2, 1, 3},
		"2001:db8::1":      {3},
	} {
		s := play(answer)
		if err := DialHandshake(s, netip.MustParseAddr(ip)); err != nil {
			t.Fatal(err)
		}
		if len(s.writes) != 2 || len(s.writes[0]) != len(want)+handshakeSize || !bytes.HasPrefix(s.writes[0], want) {
			t.Errorf("%s: %d writes, the first % x...", ip, len(s.writes), s.writes[0][:8])
		}
		if !bytes.Equal(s.writes[1], answer[1:1+handshakeSize]) {
			t.Errorf("%s: C2 is not S1", ip)
		}
	}
}

func TestAcceptReadsExactlyItsBytes(t *testing.T) {
	c0c1, c2, rest := cat([]byte{3}, data(handshakeSize)), make([]byte, handshakeSize), []byte("chunks")
	long := make([]byte, 1024)
	copy(long, []byte{10, 1, 2, 3})
	tests := []struct {
		name   string
		prefix []byte
		want   netip.Addr
	}{
		{"plain", nil, netip.Addr{}},
		{"prefix with IPv4", prefix(10, 1, 2, 3), netip.MustParseAddr("10.1.2.3")},
		{"prefix with more than the address", prefix(10, 1, 2, 3, 3, 3, 3), netip.MustParseAddr("10.1.2.3")},
		{"the longest prefix", prefix(long...), netip.MustParseAddr("10.1.2.3")},
		{"prefix too short for an address", prefix(10, 1, 2), netip.Addr{}},
		{"empty prefix", prefix(), netip.Addr{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := play(tt.prefix, c0c1, c2, rest)
			ip, err := AcceptHandshake(s)
			if err != nil {
				t.Fatal(err)
			}
			if ip != tt.want {
				t.Errorf("client %v, want %v", ip, tt.want)
			}
			if got, _ := io.ReadAll(s); !bytes.Equal(got, rest) {
				t.Errorf("%d bytes are left, want %d", len(got), len(rest))
			}
			// One segment: Nagle and delayed ACK would cost a client 40 ms else.
			if len(s.writes) != 1 || len(s.writes[0]) != 1+2*handshakeSize {
				t.Fatalf("%d writes", len(s.writes))
			}
			answer := s.writes[0]
			if answer[0] != 3 || !bytes.Equal(answer[1:9], make([]byte, 8)) {
				t.Errorf("S0 and the head of S1: % x", answer[:9])
			}
			if !bytes.Equal(answer[1+handshakeSize:], c0c1[1:]) {
				t.Error("S2 is not C1")
			}
		})
	}
}

func TestDialReadsExactlyItsBytes(t *testing.T) {
	rest := []byte("chunks")
	s := play([]byte{3}, data(2*handshakeSize), rest)
	if err := DialHandshake(s, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(s); !bytes.Equal(got, rest) {
		t.Errorf("%d bytes are left, want %d", len(got), len(rest))
	}
}

func TestAcceptRefuses(t *testing.T) {
	c1 := data(handshakeSize)
	tests := []struct {
		name string
		wire []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"version 6 (RTMPE)", cat([]byte{6}, c1), ErrVersion},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ErrVersion},
		{"version 6 after a prefix", cat(prefix(1, 2, 3, 4), []byte{6}, c1), ErrVersion},
		{"a prefix after a prefix", cat(prefix(1, 2, 3, 4), prefix(1, 2, 3, 4), []byte{3}, c1), ErrVersion},
		{"prefix too long", cat(prefix(make([]byte, 1025)...), []byte{3}, c1), ErrVersion},
		{"prefix of 65535", []byte{0xf3, 0xff, 0xff}, ErrVersion},
		{"end in the prefix's length", []byte{0xf3, 0}, io.ErrUnexpectedEOF},
		{"end in the prefix", []byte{0xf3, 0, 4, 1, 2}, io.ErrUnexpectedEOF},
		{"end before C0", prefix(1, 2, 3, 4), io.ErrUnexpectedEOF},
		{"end before C1", []byte{3}, io.ErrUnexpectedEOF},
		{"end in C1", cat([]byte{3}, c1[:1535]), io.ErrUnexpectedEOF},
		{"end before C2", cat([]byte{3}, c1), io.ErrUnexpectedEOF},
		{"end in C2", cat([]byte{3}, c1, c1[:1]), io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := AcceptHandshake(play(tt.wire))
			if err == nil {
				t.Fatal("taken")
			}
			wantError(t, err, tt.want)
		})
	}
	s := play([]byte{3}, c1)
	s.err = io.ErrClosedPipe
	_, err := AcceptHandshake(s)
	wantError(t, err, io.ErrClosedPipe)
}

func TestDialRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		wire []byte
		want error
	}{
		"nothing":   {nil, io.ErrUnexpectedEOF},
		"a part":    {data(3072), io.ErrUnexpectedEOF},
		"version 6": {cat([]byte{6}, data(3072)), ErrVersion},
		"HTTP":      {cat([]byte("HTTP/1.1 400 Bad Request\r\n"), data(3072)), ErrVersion},
	} {
		t.Run(name, func(t *testing.T) {
			err := DialHandshake(play(tt.wire), netip.Addr{})
			if err == nil {
				t.Fatal("taken")
			}
			wantError(t, err, tt.want)
		})
	}
	wantError(t, DialHandshake(&script{err: io.ErrClosedPipe, in: bytes.NewReader(nil)}, netip.Addr{}), io.ErrClosedPipe)
}

// A stranger's bytes: an error or a handshake, and no more than that.
func TestAcceptRandomBytes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := make([]byte, rnd.IntN(6000))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if len(b) > 3 && rnd.IntN(2) == 0 {
			b[0], b[1] = []byte{3, 0xf3}[rnd.IntN(2)], 0
		}
		checkAccept(t, b)
	}
}

// checkAccept lets a stranger's bytes in and checks what came of it.
func checkAccept(t *testing.T, b []byte) {
	t.Helper()
	s := play(b)
	_, err := AcceptHandshake(s)
	used := len(b) - s.in.Len()
	if used > 3+proxyPrefixMax+1+2*handshakeSize {
		t.Fatalf("%d bytes read", used)
	}
	if err == nil && used < 1+2*handshakeSize {
		t.Fatalf("accepted after %d bytes", used)
	}
	if len(s.writes) > 1 || (len(s.writes) == 1 && used < 1+handshakeSize) {
		t.Fatalf("%d writes after %d bytes", len(s.writes), used)
	}
}
