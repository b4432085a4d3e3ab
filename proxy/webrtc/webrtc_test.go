package webrtc_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/proxy/source"
	"srs-proxy/proxy/webrtc"
)

func TestMediaOfAProvedClient(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "127.0.0.77", "::1"} {
		t.Run(host, func(t *testing.T) {
			s, o := start(t, webrtc.Config{Listen: ":0", Shards: 2}), startOrigin(t)
			se := add(t, s, session(1, o))
			c := dial(t, s, host)
			c.ask(string(check(t, se)))
			c.ask(rtp("media"))
			c.ask("\x16\xfe\xfd a handshake of DTLS")
			in, ok := s.Lookup(se.Username())
			if !ok || in.Media != c.addr() || in.DatagramsIn != 3 || in.DatagramsOut != 3 || in.BytesIn != in.BytesOut {
				t.Errorf("Lookup = %+v, %v", in, ok)
			}
			_, by := o.seen()
			if len(by) != 1 || by[in.Local] != 3 || !source.Contains(in.Local.Addr()) {
				t.Errorf("the origin saw %v, Local = %s", by, in.Local)
			}
			if client, _ := s.sources.Client(in.Local.Addr()); client != c.addr() {
				t.Errorf("the source address stands for %s, want %s", client, c.addr())
			}
		})
	}
}

func TestNothingOfAStrangerIsPassedOn(t *testing.T) {
	s, o := start(t, webrtc.Config{}), startOrigin(t)
	se := add(t, s, session(1, o))
	other := se
	other.RemoteUfrag = "another"
	c := dial(t, s, "127.0.0.1")
	for _, tt := range []struct {
		name, datagram string
		count          func(webrtc.Stats) int64
	}{
		{"media before any proof", rtp("media"), func(st webrtc.Stats) int64 { return st.Unbound }},
		{"a check with a wrong password", string(checkWith(t, se, "guessed")), func(st webrtc.Stats) int64 { return st.BadIntegrity }},
		{"a check cut before its integrity", string(cutIntegrity(t, se)), func(st webrtc.Stats) int64 { return st.BadIntegrity }},
		{"a check of no session", string(check(t, other)), func(st webrtc.Stats) int64 { return st.Unknown }},
		{"a keepalive before any proof", "\x00\x11\x00\x00\x21\x12\xa4\x42transaction!", func(st webrtc.Stats) int64 { return st.Unbound }},
		{"the datagram of 21 bytes", "\x00\x01\x00\x00\x21\x12\xa4\x42transaction!\x00", func(st webrtc.Stats) int64 { return st.Malformed }},
		{"truncated attributes", "\x00\x01\x00\x04\x21\x12\xa4\x42transaction!\x00\x06\xff\xff", func(st webrtc.Stats) int64 { return st.Malformed }},
		{"one byte", "\x00", func(st webrtc.Stats) int64 { return st.Malformed }},
		{"nothing at all", "", func(st webrtc.Stats) int64 { return st.Malformed }},
		{"TURN", "\x40\x00\x00\x04data", func(st webrtc.Stats) int64 { return st.Malformed }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.count(s.Stats())
			c.send(tt.datagram)
			eventually(t, "it is counted", func() bool { return tt.count(s.Stats()) == before+1 })
		})
	}
	c.ask(string(check(t, se)))
	if got, _ := o.seen(); len(got) != 1 {
		t.Errorf("the origin got %q", got)
	}
}

// cutIntegrity is a check that ends before its MESSAGE-INTEGRITY.
func cutIntegrity(t *testing.T, se webrtc.Session) []byte {
	raw := check(t, se)
	raw = raw[:len(raw)-8-24]
	raw[3] = byte(len(raw) - 20)
	return raw
}

// A forged request, however often, neither moves a client nor reaches the origin: SRS
// would believe it.
func TestForgedMove(t *testing.T) {
	const forgeries = 100_000
	s, o := start(t, webrtc.Config{Shards: 2}), startOrigin(t)
	se := add(t, s, session(1, o))
	victim, forger := dial(t, s, "127.0.0.1"), dial(t, s, "127.0.0.1")
	victim.ask(string(check(t, se)))
	forged := string(checkWith(t, se, "guessed"))
	for sent := int64(0); sent < forgeries; {
		for range 500 { // no more than a socket's buffer holds anywhere
			forger.send(forged)
			sent++
		}
		eventually(t, "they are counted", func() bool { return s.Stats().BadIntegrity == sent })
	}
	victim.send(forged) // from the client's own address as well
	forger.send(rtp("forged media"))
	eventually(t, "they are counted", func() bool { st := s.Stats(); return st.BadIntegrity == forgeries+1 && st.Unbound == 1 })
	if in, _ := s.Lookup(se.Username()); in.Media != victim.addr() {
		t.Errorf("the client was moved to %s, want %s", in.Media, victim.addr())
	}
	if got, _ := o.seen(); len(got) != 1 {
		t.Errorf("the origin got %d datagrams, want 1", len(got))
	}
	if n := s.Stats().Moves; n != 0 {
		t.Errorf("%d moves, want 0", n)
	}
	victim.ask(rtp("still the victim's"))
}

// Whatever comes is counted as dropped or passed on, and never does harm.
func TestMutatedDatagrams(t *testing.T) {
	const datagrams, seed = 100_000, 4
	s, o := start(t, webrtc.Config{Shards: 2}), newOrigin(t)
	o.mute = true
	go o.run()
	se := add(t, s, session(1, o))
	victim, forger := dial(t, s, "127.0.0.1"), dial(t, s, "127.0.0.1")
	victim.send(string(check(t, se)))
	eventually(t, "the client is there", func() bool { return s.Stats().Addresses == 1 })
	random := rand.New(rand.NewPCG(seed, seed))
	genuine := check(t, se)
	covered := len(genuine) - 8 // by MESSAGE-INTEGRITY, or what it consists of
	before := s.Stats().Dropped
	for sent := int64(0); sent < datagrams; {
		for range 500 {
			b := slices.Clone(genuine)
			for range 1 + random.IntN(4) {
				at := random.IntN(covered)
				b[at] ^= byte(1 + random.IntN(255))
				if random.IntN(4) == 0 {
					b = b[:at] // cut
					break
				}
			}
			if bytes.Equal(b, genuine) {
				b = nil // it was mutated back
			}
			forger.send(string(b))
			sent++
		}
		eventually(t, "they are dropped", func() bool {
			d := s.Stats().Dropped
			return d.Malformed+d.Unknown+d.BadIntegrity+d.Unbound-before.Malformed-before.Unknown-before.BadIntegrity-before.Unbound == sent
		})
	}
	if in, _ := s.Lookup(se.Username()); in.Media != victim.addr() || in.DatagramsIn != 1 {
		t.Errorf("%+v", in)
	}
}

// The port of a client that has gone is another's now: the ufrag says so, whatever the
// address was before. What is still sent to the first must not reach the second.
func TestPortReusedByAnotherUfrag(t *testing.T) {
	s, first, second := start(t, webrtc.Config{}), startOrigin(t), startOrigin(t)
	a, b := add(t, s, session(1, first)), add(t, s, session(2, second))
	c := dial(t, s, "127.0.0.1")
	c.ask(string(check(t, a)))
	c.ask(rtp("of the first"))
	c.ask(string(check(t, b)))
	c.ask(rtp("of the second"))
	if got, _ := second.seen(); len(got) != 2 || got[1] != rtp("of the second") {
		t.Errorf("the second origin got %q", got)
	}
	in, _ := s.Lookup(a.Username())
	if in.Media.IsValid() {
		t.Errorf("the first session's client is still at %s", in.Media)
	}
	if _, err := first.WriteToUDPAddrPort([]byte(rtp("late")), in.Local); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the late datagram is dropped", func() bool { return s.Stats().Homeless == 1 })
	c.ask(rtp("nothing in between"))

	c.ask(string(check(t, a))) // and back
	c.ask(rtp("first again"))
	if n := s.Stats().Addresses; n != 1 {
		t.Errorf("%d addresses are bound, want 1", n)
	}
}

// Each change may lead to another shard; the origin sees one and the same peer.
func TestClientChangesItsPort(t *testing.T) {
	const moves = 20
	s, o := start(t, webrtc.Config{Shards: 4}), startOrigin(t)
	se := add(t, s, session(1, o))
	before := dial(t, s, "127.0.0.1")
	before.ask(string(check(t, se)))
	first := before
	for range moves {
		now := dial(t, s, "127.0.0.1")
		now.ask(string(check(t, se)))
		before.send(rtp("from the old port")) // it was proved once
		now.expect(rtp("from the old port"))  // but answers go to where the client is
		now.ask(rtp("from the new one"))
		before = now
	}
	if _, by := o.seen(); len(by) != 1 {
		t.Errorf("the origin saw %v, want one peer", by)
	}
	if n := s.Stats().Moves; n != moves {
		t.Errorf("%d moves, want %d", n, moves)
	}
	eventually(t, "old addresses are forgotten", func() bool { return s.Stats().Addresses == 8 })
	first.send(rtp("from the first"))
	eventually(t, "it is dropped", func() bool { return s.Stats().Unbound == 1 })
	s.Remove(se.Username())
	eventually(t, "all addresses are forgotten", func() bool { return s.Stats().Addresses == 0 })
}

// A client that is told of two of our addresses proves itself at both, and is answered
// from that which it used last.
func TestTwoPathsOfAClient(t *testing.T) {
	s, o := start(t, webrtc.Config{Listen: ":0"}), startOrigin(t)
	se := add(t, s, session(1, o))
	a, b := dial(t, s, "127.0.0.5"), dial(t, s, "127.0.0.6")
	a.ask(string(check(t, se)))
	b.ask(string(check(t, se)))
	b.ask(rtp("media"))
	a.ask(string(check(t, se)))
	a.ask(rtp("media"))
}

func TestRemoveEndsAtOnce(t *testing.T) {
	s, o := start(t, webrtc.Config{}), startOrigin(t)
	var ends atomic.Int64
	var cause error
	se := session(1, o)
	se.OnEnd = func(e webrtc.End) {
		cause = e.Cause
		if e.DatagramsIn != 1 {
			t.Errorf("End = %+v", e)
		}
		ends.Add(1)
	}
	add(t, s, se)
	c := dial(t, s, "127.0.0.1")
	c.ask(string(check(t, se)))
	var wg sync.WaitGroup
	var removed atomic.Int64
	for range 8 {
		wg.Go(func() {
			if s.Remove(se.Username()) {
				removed.Add(1)
			}
		})
	}
	wg.Wait()
	if removed.Load() != 1 || ends.Load() != 1 || !errors.Is(cause, webrtc.ErrRemoved) {
		t.Errorf("Remove was true %d times, OnEnd called %d times with %v", removed.Load(), ends.Load(), cause)
	}
	if _, ok := s.Lookup(se.Username()); ok {
		t.Error("it is still there")
	}
	eventually(t, "address and flow are gone", func() bool {
		st := s.Stats()
		return st.Addresses == 0 && st.UDP.Flows == 0 && s.sources.InUse() == 0
	})
	c.send(rtp("late"))
	c.send(string(check(t, se)))
	eventually(t, "both are dropped", func() bool { st := s.Stats(); return st.Unbound == 1 && st.Unknown == 1 })
	add(t, s, se) // the name is free
	c.ask(string(check(t, se)))
}

func TestIdleSessionsEnd(t *testing.T) {
	const idle = 200 * time.Millisecond
	ended := make(chan error, 3)
	onEnd := func(e webrtc.End) { ended <- e.Cause }
	for _, tt := range []struct {
		name string
		mute bool
		use  func(c *client, check string)
		want error
	}{
		{"the client never comes", false, func(*client, string) {}, webrtc.ErrIdle},
		{"the client leaves", false, func(c *client, check string) { c.ask(check) }, webrtc.ErrIdle},
		{"the origin is silent", true, func(c *client, check string) {
			for len(ended) == 0 {
				c.send(check)
				time.Sleep(idle / 20)
			}
		}, webrtc.ErrSilent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, o := start(t, webrtc.Config{Idle: idle}), newOrigin(t)
			o.mute = tt.mute
			go o.run()
			se := session(1, o)
			se.OnEnd = onEnd
			added := time.Now()
			add(t, s, se)
			tt.use(dial(t, s, "127.0.0.1"), string(check(t, se)))
			if err := <-ended; !errors.Is(err, tt.want) {
				t.Errorf("ended by %v, want %v", err, tt.want)
			}
			if d := time.Since(added); d < idle {
				t.Errorf("ended after %s, want %s", d, idle)
			}
			eventually(t, "all is gone", func() bool { st := s.Stats(); return st.Sessions == 0 && st.Addresses == 0 && st.UDP.Flows == 0 })
		})
	}
}

// What keeps a session alive is traffic, of whatever kind.
func TestSessionsInUseStay(t *testing.T) {
	const idle = 200 * time.Millisecond
	s, o := start(t, webrtc.Config{Idle: idle}), startOrigin(t)
	se := add(t, s, session(1, o))
	c := dial(t, s, "127.0.0.1")
	c.ask(string(check(t, se)))
	for begun := time.Now(); time.Since(begun) < 4*idle; time.Sleep(idle / 20) {
		c.ask(rtp("media"))
	}
}

func TestLimits(t *testing.T) {
	s, o := start(t, webrtc.Config{PerIP: 2, MaxSessions: 4}), startOrigin(t)
	from := func(n int, ip string) webrtc.Session {
		se := session(n, o)
		se.Client = netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(n))
		return se
	}
	for i, tt := range []struct {
		session webrtc.Session
		want    error
	}{
		{from(1, "192.0.2.1"), nil},
		{from(1, "192.0.2.2"), webrtc.ErrExists},
		{from(2, "::ffff:192.0.2.1"), nil},
		{from(3, "192.0.2.1"), webrtc.ErrTooManyPerIP},
		{from(4, "192.0.2.2"), nil},
		{session(5, o), nil},
		{from(6, "192.0.2.3"), webrtc.ErrTooMany},
	} {
		if err := s.Add(tt.session); !errors.Is(err, tt.want) {
			t.Errorf("%d: Add = %v, want %v", i, err, tt.want)
		}
	}
	first, third := from(1, "192.0.2.1"), from(3, "192.0.2.1")
	if !s.Remove(first.Username()) {
		t.Error("Remove = false")
	}
	if err := s.Add(third); err != nil {
		t.Errorf("Add after an end = %v", err)
	}
	if n := len(s.Sessions()); n != 4 {
		t.Errorf("%d sessions, want 4", n)
	}
	s.SetPerIP(3)
	s.Remove("local004:re4")
	if err := s.Add(from(7, "192.0.2.1")); err != nil {
		t.Errorf("Add below a new limit = %v", err)
	}
}

func TestInvalidSessions(t *testing.T) {
	s, o := start(t, webrtc.Config{}), startOrigin(t)
	for name, spoil := range map[string]func(*webrtc.Session){
		"no ufrag":            func(se *webrtc.Session) { se.LocalUfrag = "" },
		"no remote ufrag":     func(se *webrtc.Session) { se.RemoteUfrag = "" },
		"a colon":             func(se *webrtc.Session) { se.RemoteUfrag = "a:b" },
		"no password":         func(se *webrtc.Session) { se.LocalPwd = "" },
		"no endpoint":         func(se *webrtc.Session) { se.UDP = netip.AddrPort{} },
		"no port of endpoint": func(se *webrtc.Session) { se.UDP = netip.AddrPortFrom(se.UDP.Addr(), 0) },
		"a long ufrag":        func(se *webrtc.Session) { se.LocalUfrag = string(slices.Repeat([]byte("x"), 257)) },
	} {
		se := session(1, o)
		spoil(&se)
		if err := s.Add(se); !errors.Is(err, webrtc.ErrInvalid) {
			t.Errorf("%s: Add = %v", name, err)
		}
	}
}

func TestStop(t *testing.T) {
	ended := make(chan error, 1)
	var s *server
	o := startOrigin(t)
	t.Run("", func(t *testing.T) {
		s = start(t, webrtc.Config{})
		se := session(1, o)
		se.OnEnd = func(e webrtc.End) { ended <- e.Cause }
		add(t, s, se)
	})
	if err := <-ended; !errors.Is(err, webrtc.ErrStopped) {
		t.Errorf("ended by %v", err)
	}
	if err := s.Add(session(2, o)); !errors.Is(err, webrtc.ErrStopped) {
		t.Errorf("Add = %v", err)
	}
}
