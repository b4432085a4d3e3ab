package srt

import (
	"net/netip"
	"testing"
	"time"

	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/route"
)

func TestCookies(t *testing.T) {
	key := newCookieKey()
	a, b := newCookies(key), newCookies(key) // of two shards
	addr := netip.MustParseAddrPort("192.0.2.1:5000")
	now := time.Unix(1_000_000_060, 0) // 20 s before the next minute
	cookie := a.bake(addr, now)
	for name, c := range map[string]struct {
		cookie uint32
		addr   string
		after  time.Duration
		want   bool
	}{
		"at once":         {cookie, "192.0.2.1:5000", 0, true},
		"next minute":     {cookie, "192.0.2.1:5000", 30 * time.Second, true},
		"minute after":    {cookie, "192.0.2.1:5000", 110 * time.Second, false},
		"before":          {cookie, "192.0.2.1:5000", -60 * time.Second, false},
		"another port":    {cookie, "192.0.2.1:5001", 0, false},
		"another address": {cookie, "192.0.2.2:5000", 0, false},
		"forged":          {cookie + 1, "192.0.2.1:5000", 0, false},
		"zero":            {0, "192.0.2.1:5000", 0, false},
	} {
		if got := b.verify(c.cookie, netip.MustParseAddrPort(c.addr), now.Add(c.after)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if newCookies(newCookieKey()).verify(cookie, addr, now) {
		t.Error("a cookie of another server's key is good")
	}
	if n := testing.AllocsPerRun(100, func() { a.verify(cookie, addr, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A conclusion without the cookie of its address keeps nothing and gets no answer.
func TestForgedCookie(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	other := dial(t, e.addr())
	other.induct()
	c := dial(t, e.addr())
	c.induct()
	for i, cookie := range []uint32{0, c.h.Cookie + 1, other.h.Cookie, originCookie} {
		forged := *c
		forged.h.Cookie = cookie
		c.send(forged.conclusion("live/x"))
		eventually(t, "it is dropped", func() bool { return e.server.Stats().Dropped.Cookie == int64(i+1) })
	}
	c.silence(50 * time.Millisecond)
	if n := len(o.conclusions()); n != 0 || e.server.Stats().Sessions != 0 {
		t.Errorf("%d conclusions reached the origin", n)
	}
	c.send(c.conclusion("live/x"))
	c.accepted()
}

// Before the address is proved, no answer is longer than what it answers.
func TestNoAmplification(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	c := dial(t, e.addr())
	c.send(append(c.h.Append(nil, 0, 1), make([]byte, 1000)...))
	if p, _ := c.handshake(); len(p) != srt.HandshakeSize {
		t.Errorf("%d bytes in answer to a long induction", len(p))
	}
	for _, stage := range []srt.Stage{srt.StageInduction, srt.StageWaveAHand, srt.StageConclusion, srt.StageAgreement, 1000, 5} {
		h := c.h
		h.Stage = stage
		request := h.Append(nil, 0, 1)
		for n := range len(request) + 1 {
			c.send(request[:n])
		}
		sent := len(request) * (len(request) + 1) / 2
		got := 0
		for p := c.read(50 * time.Millisecond); p != nil; p = c.read(50 * time.Millisecond) {
			if got += len(p); len(p) > len(request) {
				t.Errorf("stage %d: %d bytes for %d", stage, len(p), len(request))
			}
		}
		if got > len(request) || got >= sent {
			t.Errorf("stage %d: %d bytes in answer", stage, got)
		}
	}
	if st := e.server.Stats(); st.Sessions != 0 {
		t.Errorf("%+v", st)
	}
}
