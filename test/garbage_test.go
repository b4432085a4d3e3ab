package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// garbage is what a port gets that is not for it. Fixed seeds: a failure can be
// had again.
func garbage() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return b
	}
	handshake := append([]byte{3}, random(1536)...)
	whole := append(bytes.Clone(handshake), random(1536)...) // C2 may say anything
	connect, _ := rtmp.Command{Name: "connect", TransactionID: 1, Object: amf0.Object{{Key: "tcUrl", Value: "rtmp://a/live"}, {Key: "app", Value: "live"}}}.Message(3, 0)
	after := func(chunks ...byte) []byte {
		return append(rtmp.AppendMessage(bytes.Clone(whole), connect, 128), chunks...)
	}
	return map[string][]byte{
		"10,000 random bytes":          random(10_000),
		"10,000 zeros":                 make([]byte, 10_000),
		"nothing":                      nil,
		"C0":                           {3},
		"another version":              append([]byte{0x47}, random(2000)...),
		"half of C1":                   handshake[:700],
		"C0 and C1":                    handshake,
		"half of C2":                   whole[:2500],
		"a handshake and random bytes": append(bytes.Clone(whole), random(10_000)...),
		"connect and random bytes":     after(random(10_000)...),
		"a message of 16 MiB":          after(0x03, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0),
		"a chunk size of 0":            after(0x02, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0),
		"half a command":               after(0x03, 0, 0, 0, 0, 0, 100, 20, 0, 0, 0, 0, 2, 0, 99),
		"a prefix of an address":       {0xf3, 0xff, 0xff},
		"half a request line":          []byte("GET /live/a.fl"),
		"half a request":               []byte("GET /live/a.flv HTTP/1.1\r\nHost: a\r\n"),
		"a request without end":        []byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 100_000)),
		"a path without end":           []byte("GET /" + strings.Repeat("a/", 100_000)),
		"a body that never comes":      []byte("POST /live/a.flv HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n"),
		"two lengths":                  []byte("GET /live/a.m3u8 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
		"control characters":           []byte("GET /live/%00%0d%0a.flv?a=\x01\x02 HTTP/1.1\r\nHost: \x03\r\n\r\n"),
		"TLS":                          append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, random(512)...),
	}
}

// TestGarbageOnEveryPort: strangers at the ports disturb nobody and leave nothing.
func TestGarbageOnEveryPort(t *testing.T) {
	in := up(t, 2)
	s := in.status()
	players := []*player{}
	for _, name := range []string{"a", "b", "c"} {
		in.publish(t, name)
		players = append(players, in.playRTMP(t, name), in.playFLV(t, name))
	}
	awaitFrames(t, 20, 10*time.Second, players...)
	pid := in.cmd.Process.Pid
	before := descriptors(t, pid)

	public := []string{in.rtmp(), in.http()}
	var origins []string
	for _, o := range s.Origins {
		for _, port := range []int{o.Ports.RTMP, o.Ports.HTTP, o.Ports.API} {
			origins = append(origins, fmt.Sprintf("127.0.0.1:%d", port))
		}
	}
	var all sync.WaitGroup
	var failures failures
	rude := 0
	for name, b := range garbage() {
		for _, addr := range append(public, origins...) {
			// One waits for what it gets, three are gone at once.
			for i := range 4 {
				rude++
				patience := time.Duration(0)
				if i == 0 && (addr == in.rtmp() || addr == in.http()) {
					patience = 25 * time.Second
				}
				all.Go(func() { failures.add(beRude(addr, b, patience), "%s on %s", name, addr) })
			}
		}
	}
	start := time.Now()
	all.Wait()
	t.Logf("%d rude clients; the last patient one was closed after %s", rude, time.Since(start).Round(time.Millisecond))
	failures.report(t, rude)

	// Pipes are kept for the next burst: of a session's two directions each may
	// have one at a time. Of the rest nothing may stay.
	const directions = 2 * (3 + 6)
	var after map[string]int
	eventually(t, 20*time.Second, "descriptors within 2 of the baseline", func() (bool, string) {
		after = descriptors(t, pid)
		grown := count(after) - count(before)
		pipes := after["pipe"] - before["pipe"]
		return grown-pipes <= 2 && pipes <= 2*directions, fmt.Sprintf("%v, before %v", after, before)
	})
	t.Logf("%d descriptors before, %d after, of which %d and %d are of pipes", count(before), count(after), before["pipe"], after["pipe"])
	awaitFrames(t, 15, 10*time.Second, players...)
	for _, p := range players {
		p.checkNoGap(t)
	}
	if s := in.status(); s.Totals.Ready != 2 || s.Totals.Restarts != 0 {
		t.Errorf("origins: %+v", s.Origins)
	}
	in.publish(t, "d")
	awaitFrames(t, 5, 10*time.Second, in.playRTMP(t, "d"), in.playFLV(t, "d"))
}

// beRude sends bytes; with patience it waits to be closed, for which that is the
// bound, and otherwise hangs up.
func beRude(addr string, b []byte, patience time.Duration) error {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(max(patience, 5*time.Second)))
	_, _ = conn.Write(b) // the other side may have had enough before the end
	if patience == 0 {
		return nil
	}
	if _, err := io.Copy(io.Discard, conn); err != nil && !isHangup(err) {
		return fmt.Errorf("not closed within %s", patience)
	}
	return nil
}
