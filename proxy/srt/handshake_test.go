package srt

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/route"
)

func TestCall(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("#!::r=live/x,m=publish")
	c.echo()

	// What the origin got is what the caller sent, but for the cookie and the time.
	want, got := srt.Packet(c.conclusion("#!::r=live/x,m=publish")), o.conclusions()[0]
	h, _ := srt.ParseHandshake(want)
	h.Cookie = originCookie
	h.Put(want)
	want.SetTimestamp(got.Timestamp())
	if !bytes.Equal(got, want) {
		t.Errorf("the origin got\n%x, want\n%x", got, want)
	}
	stream := balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: "x"}
	eventually(t, "the publisher is known", func() bool {
		addr, id, ok := e.router.Publisher(stream)
		return ok && id == "o" && addr == netip.MustParseAddr("127.0.0.1")
	})

	c.send(srt.AppendShutdown(nil, c.peer, 0))
	eventually(t, "the origin hears of the end", func() bool { return o.shutdowns() == 1 })
	eventually(t, "nothing is left", func() bool {
		st := e.server.Stats()
		return st.Sessions == 0 && st.Flows == 0 && e.router.Sessions() == 0 && e.sources.InUse() == 0
	})
	c.send(c.data())
	eventually(t, "data of an ended session are dropped", func() bool { return e.server.Stats().Dropped.Unknown == 1 })
}

// The origin closes: the caller is told.
func TestOriginCloses(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("live/x")
	o.set(func() {
		for addr := range o.sockets {
			o.conn.WriteToUDPAddrPort(srt.AppendShutdown(nil, c.id, 5), addr)
		}
	})
	if p := c.read(patience); p == nil || !p.Is(srt.ControlShutdown) || p.Destination() != c.id {
		t.Fatalf("got %x", []byte(p))
	}
	eventually(t, "no session", func() bool { return e.server.Stats().Sessions == 0 })
}

// Both sides hear when the proxy stops.
func TestStop(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("live/x")
	c.echo()
	e.stop()
	if p := c.read(patience); p == nil || !p.Is(srt.ControlShutdown) || p.Destination() != c.id {
		t.Errorf("the caller got %x", []byte(p))
	}
	eventually(t, "the origin hears of the end", func() bool { return o.shutdowns() == 1 })
}

// place gives up while the origin accepts: both sides hear of it.
func TestPlaceGivesUpTooLate(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("live/x")
	table := e.server.tables[0]
	table.sh.Post(func() {
		for _, s := range table.byPublic {
			s.placed(nil, context.DeadlineExceeded)
		}
	})
	if p := c.read(patience); p == nil || !p.Is(srt.ControlShutdown) || p.Destination() != c.id {
		t.Errorf("the caller got %x", []byte(p))
	}
	eventually(t, "the origin hears of the end", func() bool { return o.shutdowns() == 1 })
	if n := e.server.Stats().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

func TestIdle(t *testing.T) {
	e := start(t, Config{Idle: 200 * time.Millisecond}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("live/x")
	if p := c.read(patience); p == nil || !p.Is(srt.ControlShutdown) {
		t.Errorf("the caller got %x", []byte(p))
	}
	eventually(t, "the origin hears of the end", func() bool { return o.shutdowns() == 1 })
	eventually(t, "no session", func() bool { return e.server.Stats().Sessions == 0 })
}

// One side that goes on sending does not keep a session whose other side is gone.
func TestHalfIdle(t *testing.T) {
	e := start(t, Config{Idle: 300 * time.Millisecond}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("live/x")
	o.set(func() { o.drop = func(p srt.Packet) bool { return !p.Is(srt.ControlShutdown) } })
	eventually(t, "the session of a silent origin ends", func() bool {
		c.send(c.data())
		time.Sleep(20 * time.Millisecond)
		return e.server.Stats().Sessions == 0
	})
	eventually(t, "the origin is told", func() bool { return o.shutdowns() == 1 })
}

// A caller's datagrams come from its address alone, to its socket alone.
func TestStrangers(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	c.call("live/x")
	thief := dial(t, e.addr())
	thief.peer = c.peer
	thief.send(thief.data())
	thief.send(srt.AppendShutdown(nil, c.peer, 0))
	eventually(t, "both are dropped", func() bool { return e.server.Stats().Dropped.Unknown == 2 })
	c.echo()
	if n := o.shutdowns(); n != 0 {
		t.Error("a stranger has ended the session")
	}
}

// Sessions are told apart where callers, or origins, have chosen the same socket id,
// even if they are those of one address and port.
func TestSameSocketIDs(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	var callers []*caller
	first := dial(t, e.addr())
	for i := range 3 {
		o := startOrigin(t)
		id := fmt.Sprint("o", i)
		e.register(id, o.addr())
		e.pin(fmt.Sprint("x", i), id)
	}
	second := dial(t, e.addr())
	for i, c := range []*caller{first, socket(t, first.conn, 78), second} {
		c.call(fmt.Sprint("live/x", i))
		callers = append(callers, c)
	}
	if callers[0].peer == callers[1].peer {
		t.Errorf("two sockets of one address send to the same id %d", callers[0].peer)
	}
	for _, c := range callers {
		c.echo()
	}
}

// A conclusion that comes again is answered again and opens nothing. The time in the
// answer, from which the caller counts those of the origin's data, moves on with it.
func TestRepeatedConclusion(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	c := dial(t, e.addr())
	first := c.call("live/x")
	time.Sleep(100 * time.Millisecond)
	c.send(c.conclusion("live/x"))
	again := c.accepted()
	if d := again.Timestamp() - first.Timestamp(); d < 95_000 || d > 2_000_000 {
		t.Errorf("the second answer is %d us after the first", d)
	}
	again.SetTimestamp(first.Timestamp())
	if !bytes.Equal(first, again) {
		t.Errorf("answered\n%x and then\n%x", first, again)
	}
	if st := e.server.Stats(); st.Sessions != 1 || st.Opened != 1 {
		t.Errorf("%+v", st)
	}
	// Once the caller has shown that it has the answer, there is none.
	c.echo()
	c.send(c.conclusion("live/x"))
	c.silence(100 * time.Millisecond)

	// A new call of the same socket id is another session.
	c.h.Sequence++
	c.send(c.conclusion("live/x"))
	c.accepted()
	c.echo()
	eventually(t, "the origin hears that the first call is over", func() bool { return o.shutdowns() == 1 })
	if st := e.server.Stats(); st.Sessions != 1 || st.Opened != 2 {
		t.Errorf("%+v", st)
	}
}

// Each step toward the origin is sent again when it or its answer is lost. The time
// of the conclusion that arrives says how long ago the caller sent it.
func TestLostTowardOrigin(t *testing.T) {
	for _, step := range []srt.Stage{srt.StageInduction, srt.StageConclusion} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			e := start(t, Config{DialTimeout: 10 * time.Second}, route.Config{})
			o := startOrigin(t)
			e.register("o", o.addr())
			lost := 0
			o.set(func() {
				o.drop = func(p srt.Packet) bool {
					h, err := srt.ParseHandshake(p)
					if err == nil && h.Stage == step && lost < 2 {
						lost++
						return true
					}
					return false
				}
			})
			c := dial(t, e.addr())
			began := time.Now()
			c.call("live/x")
			took := time.Since(began)
			if took < 2*repeatAfter {
				t.Errorf("took %v", took)
			}
			if us := o.conclusions()[0].Timestamp() - 1000; time.Duration(us)*time.Microsecond < took-150*time.Millisecond {
				t.Errorf("the conclusion claims to be %d us old after %v", us, took)
			}
			c.echo()
		})
	}
}

// The origin answers a conclusion twice, as it does when its first answer took long.
func TestOriginAnswersTwice(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	o := startOrigin(t)
	e.register("a", o.addr())
	first := dial(t, e.addr())
	first.call("live/x")
	o.set(func() { o.id-- }) // so that the next socket has the same id
	c := socket(t, first.conn, 78)
	p := c.call("live/x")
	o.set(func() {
		for addr, id := range o.sockets {
			h, _ := srt.ParseHandshake(p)
			h.SocketID = id
			o.conn.WriteToUDPAddrPort(append(h.Append(nil, c.id, 7000), p[srt.HandshakeSize:]...), addr)
		}
	})
	before := c.peer
	again := c.accepted()
	again.SetTimestamp(p.Timestamp())
	if c.peer != before || !bytes.Equal(p, again) {
		t.Errorf("the caller was to send to %d, and then to %d", before, c.peer)
	}
}

func TestAnotherOrigin(t *testing.T) {
	e := start(t, Config{DialTimeout: 300 * time.Millisecond}, route.Config{})
	dead, live := startOrigin(t), startOrigin(t)
	dead.set(func() { dead.silent = true })
	e.register("dead", dead.addr())
	e.register("live", live.addr())
	e.pin("x", "dead")
	c := dial(t, e.addr())
	c.call("#!::r=live/x,m=publish")
	c.echo()
	if n := len(live.conclusions()); n != 1 {
		t.Errorf("%d conclusions at the live origin", n)
	}
	if us := live.conclusions()[0].Timestamp() - 1000; us < 300_000 {
		t.Errorf("the conclusion claims to be %d us old", us)
	}
}

// Who publishes stays where it is; its players are not taken elsewhere.
func TestOwnerDoesNotAnswer(t *testing.T) {
	e := start(t, Config{DialTimeout: 200 * time.Millisecond}, route.Config{})
	owner, other := startOrigin(t), startOrigin(t)
	e.register("owner", owner.addr())
	e.pin("x", "owner")
	dial(t, e.addr()).call("#!::r=live/x,m=publish")
	e.register("other", other.addr())
	owner.set(func() { owner.silent = true })
	c := dial(t, e.addr())
	c.induct()
	c.send(c.conclusion("live/x"))
	if why := c.refused(); why != srt.ReasonGateway {
		t.Errorf("refused: %s", why)
	}
	if n := len(other.conclusions()); n != 0 {
		t.Error("the player went to an origin that does not have the stream")
	}
}

func TestRefusals(t *testing.T) {
	type set struct {
		cfg  Config
		rcfg route.Config
	}
	deny, err := access.Parse("publish:127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		set  set
		id   string
		prep func(e *env, o *origin)
		want srt.Reason
	}{
		"no origin":         {id: "live/x", prep: func(e *env, _ *origin) { e.bal.Remove(t.Context(), "o") }, want: srt.ReasonDown},
		"origin is silent":  {set: set{cfg: Config{DialTimeout: 60 * time.Millisecond}}, id: "live/x", prep: func(_ *env, o *origin) { o.set(func() { o.silent = true }) }, want: srt.ReasonGateway},
		"origin refuses":    {id: "live/x", prep: func(_ *env, o *origin) { o.set(func() { o.refuse = 1409 }) }, want: 1409},
		"bad stream id":     {id: "#!::m=publish", want: srt.ReasonBadRequest},
		"bad mode":          {id: "#!::r=live/x,m=bidirection", want: srt.ReasonBadMode},
		"too many sessions": {set: set{rcfg: route.Config{MaxSessions: 1}}, id: "live/x", want: srt.ReasonOverload},
		"denied":            {set: set{rcfg: route.Config{Access: access.Rules{Deny: deny}}}, id: "#!::r=live/x,m=publish", want: srt.ReasonForbidden},
		"no SRT there": {id: "live/x", prep: func(e *env, _ *origin) {
			e.bal.Update(t.Context(), balancer.Origin{ID: "o", Endpoints: balancer.Endpoints{RTMP: "127.0.0.1:1"}})
		}, want: srt.ReasonUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, tt.set.cfg, tt.set.rcfg)
			o := startOrigin(t)
			e.register("o", o.addr())
			if tt.prep != nil {
				tt.prep(e, o)
			}
			if tt.want == srt.ReasonOverload {
				holder := dial(t, e.addr())
				holder.call("#!::r=live/other,m=publish")
			}
			c := dial(t, e.addr())
			c.induct()
			c.send(c.conclusion(tt.id))
			if why := c.refused(); why != tt.want {
				t.Errorf("refused: %s (%d), want %s", why, why, tt.want)
			}
			eventually(t, "it is counted", func() bool { return e.server.Stats().Refused[tt.want] == 1 })
			eventually(t, "nothing is left", func() bool { return e.server.Stats().Handshaking == 0 })
		})
	}
}

func TestPerIP(t *testing.T) {
	e := start(t, Config{PerIP: 3}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	var last *caller
	for range 3 {
		last = dial(t, e.addr())
		last.call("live/x")
	}
	c := dial(t, e.addr())
	c.induct()
	c.send(c.conclusion("live/x"))
	if why := c.refused(); why != srt.ReasonOverload {
		t.Errorf("refused: %s", why)
	}
	last.send(srt.AppendShutdown(nil, last.peer, 0))
	eventually(t, "a session less", func() bool { return e.server.Stats().Sessions == 2 })
	c.call("live/x")
	e.server.Adjust(StreamIDs{}, 0, 4)
	dial(t, e.addr()).call("live/x")
}

// Version 4 has no stream id; the default one counts.
func TestVersion4AndNoStreamID(t *testing.T) {
	e := start(t, Config{StreamIDs: StreamIDs{Default: "#!::r=studio/main,m=publish"}}, route.Config{})
	o := startOrigin(t)
	e.register("o", o.addr())
	want := balancer.Stream{Vhost: balancer.DefaultVhost, App: "studio", Name: "main"}
	published := func() bool { _, _, ok := e.router.Publisher(want); return ok }

	c := dial(t, e.addr())
	c.call("")
	eventually(t, "no stream id", published)
	c.send(srt.AppendShutdown(nil, c.peer, 0))
	eventually(t, "gone", func() bool { return !published() })

	old := dial(t, e.addr())
	old.induct()
	h := old.h
	h.Stage = srt.StageConclusion
	old.send(h.Append(nil, 0, 10))
	old.accepted()
	eventually(t, "version 4", published)

	e.bal.Remove(t.Context(), "o")
	other := dial(t, e.addr())
	other.induct()
	h = other.h
	h.Stage = srt.StageConclusion
	other.send(h.Append(nil, 0, 10))
	if why := other.refused(); why != srt.ReasonDown {
		t.Errorf("refused: %s", why)
	}
	if p := other.read(patience); p == nil || !p.Is(srt.ControlShutdown) {
		t.Errorf("a refused caller of version 4 got %x", []byte(p))
	}
}

func TestRendezvous(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	c := dial(t, e.addr())
	h := c.h
	h.Version, h.Stage = srt.Version5, srt.StageWaveAHand
	c.send(h.Append(nil, 0, 10))
	if why := c.refused(); why != srt.ReasonUnsupported {
		t.Errorf("refused: %s", why)
	}
}
