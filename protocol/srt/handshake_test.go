package srt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// A conclusion of libsrt 1.5 (ffmpeg -f mpegts "srt://127.0.0.1:10080?streamid=#!::r=live/x,m=publish").
func conclusion(id string) Packet {
	h := Handshake{
		Version: Version5, Extensions: FlagHSReq | FlagConfig, Sequence: 0x12345678, MTU: 1500, FlowWindow: 8192,
		Stage: StageConclusion, SocketID: 0x0badcafe, Cookie: 0xdeadbeef, PeerIP: PeerIP(netip.MustParseAddr("127.0.0.1")),
	}
	b := h.Append(nil, 0, 1000)
	b = append(b, 0, 1, 0, 3, 0, 1, 5, 3, 0, 0, 0, 0xbf, 0, 120, 0, 120) // HSREQ: version, flags, latencies
	return AppendStreamID(b, id)
}

func TestConclusion(t *testing.T) {
	for _, id := range []string{"a", "ab", "abc", "abcd", "#!::r=live/x,m=publish", strings.Repeat("y", MaxStreamID)} {
		p := conclusion(id)
		if !p.Is(ControlHandshake) || p.Destination() != 0 || p.Timestamp() != 1000 {
			t.Fatalf("header %x", p[:HeaderSize])
		}
		h, err := ParseHandshake(p)
		if err != nil {
			t.Fatal(err)
		}
		if h.Stage != StageConclusion || h.SocketID != 0x0badcafe || h.Cookie != 0xdeadbeef || h.Version != Version5 {
			t.Errorf("handshake %+v", h)
		}
		if got, err := ConclusionStreamID(p, h); err != nil || got != id {
			t.Errorf("stream id %q, %v; want %q", got, err, id)
		}
		before := bytes.Clone(p)
		h.Put(p)
		if !bytes.Equal(before, p) {
			t.Errorf("put back differs:\n%x\n%x", before, p)
		}
	}
}

// A stream id as libsrt writes it: each word's bytes are reversed, the last one padded.
func TestStreamIDOnTheWire(t *testing.T) {
	got := AppendStreamID(nil, "live/x")
	want, _ := hex.DecodeString("00050002" + hex.EncodeToString([]byte("evil")) + "0000" + hex.EncodeToString([]byte("x/")))
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestConclusionStreamID(t *testing.T) {
	base := func() []byte { return conclusion("x")[:HandshakeSize] }
	h, err := ParseHandshake(base())
	if err != nil {
		t.Fatal(err)
	}
	words := func(n int) []byte { return make([]byte, 4*n) }
	for name, c := range map[string]struct {
		ext  []byte
		want string
		err  error
	}{
		"none":              {nil, "", nil},
		"less than a word":  {[]byte{0, 5, 0}, "", nil},
		"empty":             {[]byte{0, 5, 0, 0}, "", ErrStreamIDLength},
		"too long":          {append([]byte{0, 5, 0, 129}, words(129)...), "", ErrStreamIDLength},
		"beyond the packet": {[]byte{0, 5, 0, 2, 'd', 'c', 'b', 'a'}, "", ErrExtension},
		"length of 65535":   {[]byte{0, 5, 0xff, 0xff, 'd', 'c', 'b', 'a'}, "", ErrExtension},
		"other beyond":      {[]byte{0, 3, 0xff, 0xff}, "", ErrExtension},
		"after another":     {append([]byte{0, 6, 0, 1, 1, 2, 3, 4}, AppendStreamID(nil, "ab")...), "ab", nil},
		"last of two":       {append(AppendStreamID(nil, "ab"), AppendStreamID(nil, "cd")...), "cd", nil},
		"NUL within":        {[]byte{0, 5, 0, 2, 'b', 0, 'a', 'x', 'd', 'd', 'd', 'd'}, "xa", nil},
		"only NULs":         {append([]byte{0, 5, 0, 1}, words(1)...), "", nil},
		"trailing bytes":    {append(AppendStreamID(nil, "ab"), 0, 5, 0), "ab", nil},
	} {
		got, err := ConclusionStreamID(append(base(), c.ext...), h)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", name, got, err, c.want, c.err)
		}
	}
	p := conclusion("x")
	for name, h := range map[string]Handshake{
		"version 4":         {Version: Version4, Extensions: typeDatagram},
		"no flag of config": {Version: Version5, Extensions: FlagHSReq},
	} {
		if got, err := ConclusionStreamID(p, h); got != "" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestShort(t *testing.T) {
	p := conclusion("x")
	for n := range HandshakeSize {
		if n < HeaderSize {
			if _, err := Parse(p[:n]); !errors.Is(err, ErrShort) {
				t.Errorf("%d bytes: %v", n, err)
			}
			continue
		}
		if _, err := ParseHandshake(p[:n]); !errors.Is(err, ErrShort) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	data := bytes.Clone(p)
	data[0] = 0
	if _, err := ParseHandshake(data); err == nil {
		t.Error("a data packet is a handshake")
	}
}

func TestAnswers(t *testing.T) {
	h, err := ParseHandshake(conclusion("x"))
	if err != nil {
		t.Fatal(err)
	}
	ind := h.Induction()
	if ind.Stage != StageInduction || ind.Version != Version4 || ind.Extensions != 2 || ind.Cookie != 0 ||
		ind.SocketID != h.SocketID || ind.Sequence != h.Sequence {
		t.Errorf("induction %+v", ind)
	}
	ch := ind.Challenge(7)
	if ch.Stage != StageInduction || ch.Version != Version5 || ch.Extensions != 0x4A17 || ch.Cookie != 7 {
		t.Errorf("challenge %+v", ch)
	}
	no := h.Refusal(ReasonOverload)
	if r, refused := no.Stage.Refused(); !refused || r != ReasonOverload || no.Stage != 2402 {
		t.Errorf("refusal %+v", no)
	}
	for _, s := range []Stage{StageInduction, StageConclusion, StageWaveAHand, StageAgreement} {
		if r, refused := s.Refused(); refused {
			t.Errorf("stage %d is refusal %d", s, r)
		}
	}
}

func TestShutdown(t *testing.T) {
	p := Packet(AppendShutdown(nil, 5, 9))
	if !p.Is(ControlShutdown) || p.Destination() != 5 || p.Timestamp() != 9 || len(p) != 20 {
		t.Errorf("%x", p)
	}
	if c, ok := p.Control(); !ok || c != ControlShutdown {
		t.Errorf("type %v, %v", c, ok)
	}
	p.SetDestination(6)
	p.SetTimestamp(10)
	if p.Destination() != 6 || p.Timestamp() != 10 {
		t.Errorf("%x", p)
	}
	if _, ok := (Packet(make([]byte, HeaderSize))).Control(); ok {
		t.Error("a data packet is a control packet")
	}
}

func TestPeerIP(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1":        "0100007f000000000000000000000000",
		"::ffff:192.0.2.1": "010200c0000000000000000000000000",
		"2001:db8::1":      "b80d0120000000000000000001000000",
	} {
		ip := PeerIP(netip.MustParseAddr(addr))
		if got := hex.EncodeToString(ip[:]); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
