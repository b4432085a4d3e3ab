package webrtc_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The cost of a packet of 1,200 bytes from a sender to a receiver in this process:
// directly, through the simplest forwarder in Go (one socket each way, one goroutine),
// and through the server. What a way costs is its cpu-ns/op less those of "direct".
//
//	go test -run xxx -bench Relay -benchtime 300000x ./proxy/webrtc
func BenchmarkRelay(b *testing.B) {
	b.Run("direct", func(b *testing.B) {
		o := newOrigin(b)
		c, err := net.DialUDP("udp", nil, o.LocalAddr().(*net.UDPAddr))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		pump(b, func(p []byte) error { _, err := c.Write(p); return err }, o.UDPConn)
	})
	b.Run("plain", func(b *testing.B) {
		o, in := newOrigin(b), newOrigin(b)
		out, err := net.DialUDP("udp", nil, o.LocalAddr().(*net.UDPAddr))
		if err != nil {
			b.Fatal(err)
		}
		defer out.Close()
		go forward(in.UDPConn, out)
		c, err := net.DialUDP("udp", nil, in.LocalAddr().(*net.UDPAddr))
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		pump(b, func(p []byte) error { _, err := c.Write(p); return err }, o.UDPConn)
	})
	b.Run("to the origin", func(b *testing.B) {
		_, c, o, _ := flood(b, 1)
		pump(b, func(p []byte) error { _, err := c.Write(p); return err }, o.UDPConn)
	})
	b.Run("to the client", func(b *testing.B) {
		s, c, o, se := flood(b, 1)
		in, _ := s.Lookup(se.Username())
		pump(b, func(p []byte) error { return sendTo(o.UDPConn, p, in.Local) }, c.UDPConn)
	})
}

// forward has what each Go proxy does at least: a table by the client's address.
func forward(in, out *net.UDPConn) {
	buf := make([]byte, 2048)
	sessions := make(map[netip.AddrPort]*net.UDPConn)
	for {
		n, from, err := in.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		to := sessions[from]
		if to == nil {
			to = out
			sessions[from] = out
		}
		_, _ = to.Write(buf[:n])
	}
}

func sendTo(c *net.UDPConn, p []byte, to netip.AddrPort) error {
	_, err := c.WriteToUDPAddrPort(p, to)
	return err
}

// pump sends in bursts, as media comes, and waits for each burst: nothing is lost.
func pump(b *testing.B, send func([]byte) error, sink *net.UDPConn) {
	const burst = 32
	packet, buf := []byte(rtp(strings.Repeat("x", 1198))), make([]byte, 2048)
	_ = sink.SetReadDeadline(time.Now().Add(5 * time.Minute))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	for left := b.N; left > 0; left -= burst {
		n := min(left, burst)
		for range n {
			if err := send(packet); err != nil {
				b.Fatal(err)
			}
		}
		for range n {
			if _, _, err := sink.ReadFromUDPAddrPort(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
