package runtime

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
)

func TestPortOwner(t *testing.T) {
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	listen := func(network, addr string) (port int, stop func()) {
		t.Helper()
		if strings.HasPrefix(network, "tcp") {
			l, err := lc.Listen(t.Context(), network, addr)
			if err != nil {
				t.Skipf("%s: %v", network, err)
			}
			return l.Addr().(*net.TCPAddr).Port, func() { l.Close() }
		}
		c, err := lc.ListenPacket(t.Context(), network, addr)
		if err != nil {
			t.Skipf("%s: %v", network, err)
		}
		return c.LocalAddr().(*net.UDPAddr).Port, func() { c.Close() }
	}
	for _, tc := range []struct{ listen, addr, ask string }{
		{"tcp4", "127.0.0.1:0", "tcp"},
		{"tcp6", "[::1]:0", "tcp"},
		{"tcp", ":0", "tcp"},
		{"udp4", "127.0.0.1:0", "udp"},
		{"udp6", "[::1]:0", "udp"},
	} {
		t.Run(tc.listen+" "+tc.addr, func(t *testing.T) {
			port, stop := listen(tc.listen, tc.addr)
			pid, name, found, err := PortOwner(tc.ask, port)
			stop()
			if err != nil || !found || pid != os.Getpid() || name != strings.TrimSpace(string(comm)) {
				t.Errorf("port %d is held by %d (%s), %v, %v", port, pid, name, found, err)
			}
			if pid, name, found, err := PortOwner(tc.ask, port); err != nil || found || pid != 0 || name != "" {
				t.Errorf("port %d, closed, is held by %d (%s), %v, %v", port, pid, name, found, err)
			}
		})
	}
	if _, _, _, err := PortOwner("sctp", 1); err == nil {
		t.Error("an unknown network is accepted")
	}
}

// A connection has its local port too, but for TCP it is the listener that matters.
func TestPortOwnerOfConnections(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, _, found, err := PortOwner("tcp", conn.LocalAddr().(*net.TCPAddr).Port); err != nil || found {
		t.Errorf("a client's port: %v, %v", found, err)
	}
	udp, err := new(net.Dialer).DialContext(context.Background(), "udp4", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if pid, _, found, err := PortOwner("udp", udp.LocalAddr().(*net.UDPAddr).Port); err != nil || !found || pid != os.Getpid() {
		t.Errorf("a connected UDP socket: %d, %v, %v", pid, found, err)
	}
}

func TestPortInodes(t *testing.T) {
	const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	table := heading +
		"   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0\n" +
		"   1: 0100007F:4E20 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 20 4 30 10 -1\n" +
		"   2: 00000000000000000000000000000000:4E20 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 333 1\n" +
		"   3: 0100007F:4E21 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 444 1\n" +
		"   4: 0100007F:4E20 0100007F:9C41 06 00000000:00000000 03:00000000 00000000     0        0 0 3\n"
	for listening, want := range map[bool]int{true: 2, false: 3} {
		got := make(map[string]bool)
		if err := portInodes(table, 20000, listening, got); err != nil || len(got) != want || !got["socket:[111]"] || !got["socket:[333]"] {
			t.Errorf("listening %v: %v, %v", listening, got, err)
		}
	}
	for _, bad := range []string{"x y", "0: 0100007F 0 0A 0 0 0 0 0 1", "0: A:GGGG 0 0A 0 0 0 0 0 1", "0: A:12345 0 0A 0 0 0 0 0 1"} {
		if err := portInodes(heading+bad+"\n", 1, true, map[string]bool{}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestEphemeralRange(t *testing.T) {
	lo, hi, err := EphemeralRange()
	if err != nil || lo < 1 || lo > hi || hi > 65535 {
		t.Fatalf("%d-%d, %v", lo, hi, err)
	}
	// The kernel itself picks from there.
	conn, err := new(net.Dialer).DialContext(t.Context(), "udp4", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if port := conn.LocalAddr().(*net.UDPAddr).Port; port < lo || port > hi {
		t.Errorf("the kernel picked %d, outside of %d-%d", port, lo, hi)
	}
}
