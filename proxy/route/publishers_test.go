package route

import (
	"net/netip"
	"testing"

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
	if n := len(e.router.publishers.byStream); n != 0 {
		t.Errorf("%d streams are left", n)
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
