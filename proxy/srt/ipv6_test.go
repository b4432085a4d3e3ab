package srt

import (
	"net"
	"net/netip"
	"testing"

	"srs-proxy/proxy/route"
)

// Callers over IPv6 come to origins over IPv4, and the other way round. An origin that
// is not on IPv4 loopback has a socket of its own for each session.
func TestIPv6(t *testing.T) {
	if c, err := net.ListenPacket("udp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		c.Close()
	}
	for _, tt := range []struct{ caller, origin string }{
		{"::1", "127.0.0.1"},
		{"127.0.0.1", "::1"},
		{"::1", "::1"},
	} {
		t.Run(tt.caller+" to "+tt.origin, func(t *testing.T) {
			e := start(t, Config{Listen: ":0"}, route.Config{})
			o := startOriginAt(t, tt.origin)
			e.register("o", o.addr())
			c := dial(t, netip.AddrPortFrom(netip.MustParseAddr(tt.caller), e.addr().Port()))
			c.call("live/x")
			c.echo()
		})
	}
}
