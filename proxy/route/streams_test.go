package route

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/streamurl"
)

func TestPublisher(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o0")
	want := func(name, client string) {
		t.Helper()
		addr, origin, ok := e.router.Publisher(stream(name))
		switch {
		case client == "" && ok:
			t.Errorf("%s is published by %s", name, addr)
		case client != "" && (addr.String() != client || origin != "o0"):
			t.Errorf("%s is published by %s at %q, want %s", name, addr, origin, client)
		}
	}
	want("a", "")
	first := e.mustConnect("a", balancer.Publish)
	want("a", "") // nobody has said who it is
	first.Publishes(netip.MustParseAddr("192.0.2.1"))
	want("a", "192.0.2.1")
	// A second one, whom the origin will refuse, and one of another stream.
	second := e.mustConnect("a", balancer.Publish)
	second.Publishes(netip.MustParseAddr("192.0.2.2"))
	other := e.mustConnect("b", balancer.Publish)
	other.Publishes(netip.MustParseAddr("2001:db8::1"))
	want("a", "192.0.2.1")
	want("b", "2001:db8::1")
	first.Close()
	want("a", "192.0.2.2")
	second.Close()
	other.Close()
	want("a", "")
	want("b", "")
	if n := len(e.router.streams.byStream); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// Whoever is at an origin that is no more hears of it once, and nobody else does.
func TestAbandon(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o0")
	left := make(chan string, 10)
	connect := func(name string, role balancer.Role, who string) *Conn {
		t.Helper()
		c, err := e.router.Connect(t.Context(), Request{Stream: stream(name), Role: role, Proto: RTMP, Client: testClient(), Moved: func() { left <- who }}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if role == balancer.Publish {
			c.Publishes(netip.MustParseAddr("192.0.2.1"))
		}
		return c
	}
	connect("a", balancer.Publish, "publisher")
	connect("a", balancer.Play, "player")
	connect("b", balancer.Play, "gone").Close()
	if err := e.bal.Remove(t.Context(), "o0"); err != nil {
		t.Fatal(err)
	}
	e.origin("o1")
	connect("c", balancer.Play, "elsewhere")
	e.router.Abandon("o0")
	e.router.Abandon("o0")
	got := []string{<-left, <-left}
	slices.Sort(got)
	if !slices.Equal(got, []string{"player", "publisher"}) {
		t.Errorf("%v left", got)
	}
	select {
	case who := <-left:
		t.Errorf("%s left too", who)
	case <-time.After(20 * time.Millisecond):
	}
}

// The list of vhosts changes for who comes afterwards.
func TestSetVhosts(t *testing.T) {
	e := newEnv(t, Config{Vhosts: []string{"a.example.com"}})
	want := func(host, vhost string) {
		t.Helper()
		if got := e.router.Stream(streamurl.Stream{Vhost: host, App: "live", Name: "x"}).Vhost; got != vhost {
			t.Errorf("%s is vhost %s, want %s", host, got, vhost)
		}
	}
	want("a.example.com", "a.example.com")
	want("b.example.com", balancer.DefaultVhost)
	e.router.SetVhosts("b.example.com")
	want("a.example.com", balancer.DefaultVhost)
	want("b.example.com", "b.example.com")
}

// Players who wait at an origin that their stream has left are told once it is
// published elsewhere, and nobody else is.
func TestPlayersAreSentAfterTheirStream(t *testing.T) {
	e := newEnv(t, Config{})
	a, b := e.origin("a"), e.origin("b")
	load := func(id string, ln *net.TCPListener, cpu float64) {
		t.Helper()
		o := balancer.Origin{ID: id, Endpoints: balancer.Endpoints{RTMP: ln.Addr().String()}, Load: balancer.Load{CPU: cpu}}
		if err := e.bal.Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	moved := make(chan string, 8)
	play := func(who, name string) *Conn {
		t.Helper()
		req := Request{Stream: stream(name), Role: balancer.Play, Proto: RTMP, Client: testClient(), Moved: func() { moved <- who }}
		c, err := e.router.Connect(t.Context(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	told := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			select {
			case who := <-moved:
				got = append(got, who)
			case <-time.After(5 * time.Second):
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("told were %q, want %q", got, want)
		}
	}
	publish := func(want string) *Conn {
		t.Helper()
		c := e.mustConnect("x", balancer.Publish)
		if c.Lease.Origin.ID != want {
			t.Fatalf("published at %s, want %s", c.Lease.Origin.ID, want)
		}
		c.Publishes(testClient().Addr())
		return c
	}
	load("b", b, 0.9)
	first := publish("a")
	first.Accepted()
	play("early", "x")
	play("late", "x")
	play("gone", "x").Close()
	play("other", "y")
	held, err := e.router.Hold(t.Context(), Request{Stream: stream("x"), Role: balancer.Play, Proto: RTMP, Client: testClient()},
		func(context.Context, balancer.Lease) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	first.Close()

	back := publish("a")
	if !back.Refuse(t.Context()) {
		t.Fatal("the stream stays where it was refused")
	}
	told() // nobody, before it is accepted somewhere
	load("a", a, 0.9)
	again := publish("b")
	if held.Moved() {
		t.Error("told before the publish was accepted")
	}
	again.Accepted()
	told("early", "late")
	waitMoved := time.Now().Add(5 * time.Second)
	for !held.Moved() && time.Now().Before(waitMoved) {
		time.Sleep(time.Millisecond)
	}
	if !held.Moved() {
		t.Error("the session of datagrams was not told")
	}

	// One that was placed at the old origin and comes after the move.
	e.router.streams.play(balancer.Lease{Stream: stream("x"), Pin: first.Lease.Pin}, "slow", func() { moved <- "slow" })
	told("slow")
	play("new", "x")
	again.Accepted()
	select {
	case who := <-moved:
		t.Errorf("%s was told", who)
	case <-time.After(50 * time.Millisecond):
	}
}

// A player whose origin has not answered yet, as SRS does when there is no publisher, is
// not left there when the stream is published elsewhere.
func TestWaitingPlayerFollowsItsStream(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("a")
	first := e.mustConnect("x", balancer.Publish)
	first.Publishes(testClient().Addr())
	first.Accepted()
	first.Close()
	e.origin("b")

	var asked []string
	waits, result := make(chan struct{}, 1), make(chan *Conn, 1)
	go func() {
		c, _ := e.connect("x", balancer.Play, func(ctx context.Context, c *Conn) error {
			asked = append(asked, c.Lease.Origin.ID)
			if c.Lease.Origin.ID == "b" {
				return nil
			}
			waits <- struct{}{}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(20 * time.Second):
				return errors.New("left alone")
			}
		})
		result <- c
	}()
	<-waits
	back := e.mustConnect("x", balancer.Publish)
	if back.Lease.Origin.ID != "a" || !back.Refuse(t.Context()) {
		t.Fatalf("at %s the publish is not sent elsewhere", back.Lease.Origin.ID)
	}
	again := e.mustConnect("x", balancer.Publish)
	again.Publishes(testClient().Addr())
	again.Accepted()
	c := <-result
	if c == nil || !slices.Equal(asked, []string{"a", "b"}) {
		t.Fatalf("asked were %q", asked)
	}
	if e.ejected("a") {
		t.Error("the first origin is blamed")
	}
	e.wantHeld(1, 1, 2)
	c.Close()
	again.Close()
	e.wantHeld(0, 0, 0)
	if n := len(e.router.streams.byStream); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// sharing is a balancer that tells of streams that moved through others.
type sharing struct {
	balancer.Balancer
	moved func(s balancer.Stream, pin uint64)
}

func (b *sharing) OnMoved(f func(s balancer.Stream, pin uint64)) { b.moved = f }

// When the balancer has given up a pin because another proxy's publisher is elsewhere,
// all sessions on it are told, publishers too, and no others.
func TestSessionsLeaveAPinThatIsOver(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o0")
	bal := &sharing{Balancer: e.bal}
	router := New(Config{}, bal, e.router.log)
	told := make(chan string, 8)
	connect := func(who, name string, role balancer.Role) *Conn {
		t.Helper()
		c, err := router.Connect(t.Context(), Request{Stream: stream(name), Role: role, Proto: RTMP, Client: testClient(), Moved: func() { told <- who }}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if role == balancer.Publish {
			c.Publishes(netip.MustParseAddr("192.0.2.1"))
		}
		return c
	}
	pin := connect("publisher", "a", balancer.Publish).Lease.Pin
	connect("player", "a", balancer.Play)
	connect("other", "b", balancer.Publish)
	held, err := router.Hold(t.Context(), Request{Stream: stream("a"), Role: balancer.Play, Proto: RTMP, Client: testClient()}, func(context.Context, balancer.Lease) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	bal.moved(stream("a"), pin+100)
	bal.moved(stream("unknown"), pin)
	bal.moved(stream("a"), pin)
	bal.moved(stream("a"), pin) // once is enough
	got := []string{<-told, <-told}
	slices.Sort(got)
	if !slices.Equal(got, []string{"player", "publisher"}) {
		t.Errorf("told: %v", got)
	}
	for end := time.Now().Add(10 * time.Second); !held.Moved(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the session without a connection was not told")
		}
	}
	select {
	case who := <-told:
		t.Errorf("%s was told too", who)
	case <-time.After(20 * time.Millisecond):
	}
}
