package udp

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// datagrams are addressed to peers "a" and "b" in turns: "aab" and so on.
type sendCase struct {
	name  string
	peers string
	sizes []int
	want  []int // datagrams in each message
}

func sendCases() []sendCase {
	return []sendCase{
		{"one", "a", []int{100}, []int{1}},
		{"of one length", "aaaa", []int{100, 100, 100, 100}, []int{4}},
		{"the last is shorter", "aaa", []int{100, 100, 30}, []int{3}},
		{"a shorter one ends a run", "aaaa", []int{100, 30, 30, 30}, []int{2, 2}},
		{"a longer one begins one", "aaaa", []int{100, 120, 120, 100}, []int{1, 3}},
		{"two peers", "aabba", []int{100, 100, 100, 100, 100}, []int{2, 2, 1}},
		{"empty ones", "aaaaa", []int{0, 0, 100, 0, 100}, []int{1, 1, 1, 1, 1}},
		{"no more than a packet", strings.Repeat("a", 64), slices.Repeat([]int{1400}, 64), []int{42, 22}},
		{"a full batch", strings.Repeat("a", 64), slices.Repeat([]int{200}, 64), []int{64}},
	}
}

// Each datagram arrives as it was sent, whatever it was sent together with, from the
// address that it has to come from; where the kernel does not take runs, apart.
func TestRuns(t *testing.T) {
	for _, listen := range []string{"127.0.0.1", "::"} {
		for _, refused := range []bool{false, true} {
			for _, tt := range sendCases() {
				name := listen + ", " + tt.name
				if refused {
					name += ", refused"
				}
				t.Run(name, func(t *testing.T) { testRun(t, listen, refused, tt) })
			}
		}
	}
}

func testRun(t *testing.T, listen string, refused bool, tt sendCase) {
	fd, family, err := openPublic(&net.UDPAddr{IP: net.ParseIP(listen)}, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if refused { // segments without a checksum are what the kernel never makes
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
			t.Fatal(err)
		}
	}
	peers := map[byte]*net.UDPConn{}
	for _, p := range "ab" {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peers[byte(p)] = c
	}
	sh := &Shard{public: fd, family: family}
	for i, size := range tt.sizes {
		to := Peer{Addr: peers[tt.peers[i]].LocalAddr().(*net.UDPAddr).AddrPort(), Local: netip.MustParseAddr("127.0.0.1")}
		sh.ToClient(to, []byte(strings.Repeat(string(rune('0'+i)), size)))
	}
	var got []int
	for _, m := range sh.toClients.gather() {
		got = append(got, int(m.Iovlen))
	}
	if !slices.Equal(got, tt.want) {
		t.Errorf("messages of %v datagrams, want %v", got, tt.want)
	}
	if sent := sh.toClients.flush(fd); sent != len(tt.sizes) {
		t.Fatalf("%d datagrams sent, want %d", sent, len(tt.sizes))
	}
	buf := make([]byte, MaxDatagram)
	for i, size := range tt.sizes {
		c := peers[tt.peers[i]]
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != strings.Repeat(string(rune('0'+i)), size) {
			t.Fatalf("datagram %d: %d bytes %.5q, %v; want %d of %c", i, n, buf[:n], err, size, '0'+i)
		}
		if from.Addr() != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("datagram %d came from %s", i, from)
		}
	}
}

// One that cannot be sent takes none of the others with it.
func TestUnsendable(t *testing.T) {
	fd, family, err := openPublic(&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	local := netip.MustParseAddr("127.0.0.1")
	good := Peer{Addr: c.LocalAddr().(*net.UDPAddr).AddrPort(), Local: local}
	bad := Peer{Addr: netip.MustParseAddrPort("255.255.255.255:9"), Local: local} // broadcasts are not allowed
	sh := &Shard{public: fd, family: family}
	for _, to := range []Peer{bad, good, bad, bad, good} {
		sh.ToClient(to, []byte("datagram"))
	}
	if sent := sh.toClients.flush(fd); sent != 2 {
		t.Errorf("%d sent, want 2", sent)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for range 2 {
		if _, err := c.Read(make([]byte, 64)); err != nil {
			t.Fatal(err)
		}
	}
}
