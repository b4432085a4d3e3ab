package main

import (
	"net"
	"strings"
	"testing"

	"srs-proxy/runtime"
)

// A port that an outgoing connection has is busy without a listener.
func TestPortHolderOfAnOutgoingConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	port := c.LocalAddr().(*net.TCPAddr).Port
	if lo, hi, err := runtime.EphemeralRange(); err != nil || port < lo || port > hi {
		t.Skipf("port %d is outside the ephemeral range %d-%d (%v)", port, lo, hi, err)
	}
	if err := tryListen(t.Context(), "tcp", c.LocalAddr().String()); !isBusy(err) {
		t.Errorf("tryListen: %v, want address in use", err)
	}
	if got := portHolder("tcp", port); !strings.Contains(got, "outgoing connection") {
		t.Errorf("holder is %q", got)
	}
	if got := portHolder("tcp", ln.Addr().(*net.TCPAddr).Port); !strings.HasPrefix(got, "pid ") {
		t.Errorf("holder of a listener is %q", got)
	}
}
