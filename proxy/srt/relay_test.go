package srt

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"srs-proxy/protocol/srt"
)

// relay is a network between two places that loses what it is told to.
type relay struct {
	front *net.UDPConn
	to    netip.AddrPort

	mu sync.Mutex // guards what follows
	// lose is asked of each datagram; up is the way that a caller's take.
	lose func(up bool, p srt.Packet) bool
	// noisy makes it lose, double and swap some of all.
	noisy  bool
	passed int
	held   [2][]byte                       // of each way, to come after the next one
	behind map[netip.AddrPort]*net.UDPConn // by caller
	ended  sync.WaitGroup
}

func startRelay(t *testing.T, to netip.AddrPort, lose func(up bool, p srt.Packet) bool) *relay {
	t.Helper()
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{front: front, to: to, lose: lose, behind: make(map[netip.AddrPort]*net.UDPConn)}
	r.ended.Go(r.up)
	t.Cleanup(func() {
		front.Close()
		r.mu.Lock()
		for _, c := range r.behind {
			c.Close()
		}
		r.mu.Unlock()
		r.ended.Wait()
	})
	return r
}

func (r *relay) addr() netip.AddrPort { return r.front.LocalAddr().(*net.UDPAddr).AddrPort() }

func (r *relay) up() {
	b := make([]byte, 2048)
	for {
		n, from, err := r.front.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if c := r.socket(from); c != nil && !r.lost(true, b[:n]) {
			for _, p := range r.noise(0, b[:n]) {
				c.Write(p)
			}
		}
	}
}

func (r *relay) down(c *net.UDPConn, to netip.AddrPort) {
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if !r.lost(false, b[:n]) {
			for _, p := range r.noise(1, b[:n]) {
				r.front.WriteToUDPAddrPort(p, to)
			}
		}
	}
}

func (r *relay) socket(from netip.AddrPort) *net.UDPConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.behind[from]; c != nil {
		return c
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.to))
	if err != nil {
		return nil
	}
	r.behind[from] = c
	r.ended.Go(func() { r.down(c, from) })
	return c
}

func (r *relay) lost(up bool, b []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := srt.Parse(b)
	return err != nil || r.lose != nil && r.lose(up, p)
}

// noise is what arrives when b was sent. For one caller.
func (r *relay) noise(way int, b []byte) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.noisy {
		return [][]byte{b}
	}
	var out [][]byte
	switch r.passed++; {
	case r.passed%31 == 0: // lost
	case r.passed%37 == 0:
		out = append(out, b, b)
	case r.passed%41 == 0 && r.held[way] == nil:
		r.held[way] = bytes.Clone(b)
		return nil
	default:
		out = append(out, b)
	}
	if held := r.held[way]; held != nil {
		r.held[way] = nil
		out = append(out, held)
	}
	return out
}

// loseFirst loses the first n handshakes of a stage on one of the ways. What it lost
// is counted in lost.
func loseFirst(n int64, up bool, stage srt.Stage, lost *atomic.Int64) func(bool, srt.Packet) bool {
	return func(way bool, p srt.Packet) bool {
		h, err := srt.ParseHandshake(p)
		if err != nil || way != up || h.Stage != stage || lost.Load() >= n {
			return false
		}
		lost.Add(1)
		return true
	}
}
