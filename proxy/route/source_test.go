package route

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"srs-proxy/balancer"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/source"
)

// peer accepts a connection and is where it comes from.
func peer(t *testing.T, ln *net.TCPListener) netip.Addr {
	t.Helper()
	c, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
}

func TestOriginSeesEachClientAsAPeerOfItsOwn(t *testing.T) {
	pool := source.New()
	e := newEnv(t, Config{Sources: pool})
	ln := e.origin("o")
	first := e.mustConnect("a", balancer.Publish)
	second := e.mustConnect("a", balancer.Play)
	a, b := peer(t, ln), peer(t, ln)
	if a == b || !source.Contains(a) || !source.Contains(b) {
		t.Errorf("the origin sees %s and %s", a, b)
	}
	for _, ip := range []netip.Addr{a, b} {
		if got, ok := pool.Client(ip); !ok || got != testClient() {
			t.Errorf("%s is %v, %v", ip, got, ok)
		}
	}
	if pool.InUse() != 2 {
		t.Errorf("%d addresses in use by two sessions", pool.InUse())
	}
	for range 2 { // the second time must not take an address from its next holder
		first.Close()
		second.Close()
	}
	if pool.InUse() != 0 {
		t.Errorf("%d addresses in use by no session", pool.InUse())
	}
}

func TestSourceIsGivenBackWhenTheOriginDoesNotServe(t *testing.T) {
	pool := source.New()
	e := newEnv(t, Config{Sources: pool})
	e.register("dead", deadAddr(t))
	if _, err := e.connect("a", balancer.Play, nil); err == nil {
		t.Fatal("a dead origin served")
	}
	e.origin("o")
	refusal := errors.New("refused")
	if _, err := e.connect("b", balancer.Play, func(context.Context, *Conn) error { return refusal }); err == nil {
		t.Fatal("a refusal was no error")
	}
	if pool.InUse() != 0 {
		t.Errorf("%d addresses in use by no session", pool.InUse())
	}
}

func TestNoSourceWhereItIsOfNoUse(t *testing.T) {
	pool := source.New()
	e := newEnv(t, Config{Sources: pool})
	for _, tt := range []struct {
		name string
		req  Request
		addr string
	}{
		{"HTTP", Request{Proto: HTTP, Client: testClient()}, "127.0.0.1:80"},
		{"IPv6", Request{Proto: RTMP, Client: testClient()}, "[::1]:1935"},
		{"another machine", Request{Proto: RTMP, Client: testClient()}, "192.0.2.1:1935"},
		{"unknown client", Request{Proto: RTMP}, "127.0.0.1:1935"},
		{"name", Request{Proto: RTMP, Client: testClient()}, "origin.example:1935"},
	} {
		if ip := e.router.takeSource(tt.req, tt.addr); ip.IsValid() {
			t.Errorf("%s: dialed from %s", tt.name, ip)
		}
	}
	if ip := e.router.takeSource(Request{Proto: RTMP, Client: testClient()}, "127.0.0.1:1935"); !ip.IsValid() {
		t.Error("none where it is of use")
	}
}

func TestWithoutTheAddressesSessionsGoOn(t *testing.T) {
	var log bytes.Buffer
	e := newEnv(t, Config{Sources: source.New()})
	e.router.log = slog.New(slog.NewTextHandler(&log, nil))
	ln := e.origin("o")
	for range 2 {
		nc, err := e.router.dialFrom(t.Context(), netip.MustParseAddr("192.0.2.1"), ln.Addr().String()) // nobody's
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
		if got := peer(t, ln); got != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("the origin sees %s", got)
		}
	}
	if n := strings.Count(log.String(), "WARN"); n != 1 {
		t.Errorf("told %d times: %s", n, log.String())
	}
}

func TestConnectAsksWhoMay(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o")
	deny, err := access.Parse("publish:" + testClient().Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	e.router.SetAccess(access.Rules{Deny: deny})
	if _, err := e.connect("a", balancer.Publish, nil); !errors.Is(err, access.ErrDenied) {
		t.Errorf("publish: %v", err)
	}
	if _, err := e.router.Hold(t.Context(), Request{Stream: stream("a"), Role: balancer.Publish, Proto: RTC, Client: testClient()}, taken); !errors.Is(err, access.ErrDenied) {
		t.Errorf("publish of datagrams: %v", err)
	}
	e.wantHeld(0, 0, 0)
	e.mustConnect("a", balancer.Play)
	e.router.SetAccess(access.Rules{})
	e.mustConnect("a", balancer.Publish)
}
