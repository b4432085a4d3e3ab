package main

import (
	"net/netip"
	"testing"
)

// An origin at one of our own ports would be the proxy itself.
func TestOwnAddresses(t *testing.T) {
	cfg, err := resolve(proxySources(map[string]string{"rtmp": "1935", "http": "127.0.0.1:8080", "srt": "10080", "system-api": "12025"}, map[string]string{"HOME": "/home/u"}))
	if err != nil {
		t.Fatal(err)
	}
	s := &setup{cfg: cfg}
	for _, tt := range []struct {
		network, addr string
		own           bool
	}{
		{"tcp", "127.0.0.1:1935", true},
		{"tcp", "[::1]:1935", true},
		{"tcp", "127.9.9.9:1935", true},
		{"udp", "127.0.0.1:1935", false},
		{"tcp", "127.0.0.1:1936", false},
		{"tcp", "198.51.100.7:1935", false},
		{"tcp", "127.0.0.1:8080", true},
		{"tcp", "127.0.0.2:8080", false},
		{"udp", "127.0.0.1:10080", true},
		{"tcp", "127.0.0.1:12025", true},
	} {
		if got := s.isOwn(tt.network, netip.MustParseAddrPort(tt.addr)); got != tt.own {
			t.Errorf("%s %s: %v", tt.network, tt.addr, got)
		}
	}
}
