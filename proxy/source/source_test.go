package source

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func client(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("203.0.113.9"), port)
}

func take(t *testing.T, p *Pool, c netip.AddrPort) netip.Addr {
	t.Helper()
	a, err := p.Take(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTakeReleaseClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New()
		a, b := take(t, p, client(1)), take(t, p, client(2))
		if a == b {
			t.Fatalf("two sessions have %s", a)
		}
		for _, ip := range []netip.Addr{a, netip.AddrFrom16(a.As16())} {
			if got, ok := p.Client(ip); !ok || got != client(1) {
				t.Errorf("%s is %v, %v", ip, got, ok)
			}
		}
		p.Release(a)
		p.Release(a)
		if p.InUse() != 1 {
			t.Errorf("%d in use after one of two was released", p.InUse())
		}
		// The origin's last hooks of the session come now.
		time.Sleep(linger - time.Second)
		if got, ok := p.Client(a); !ok || got != client(1) {
			t.Errorf("a moment after its end the session is %v, %v", got, ok)
		}
		time.Sleep(2 * time.Second)
		if got, ok := p.Client(a); ok {
			t.Errorf("long after its end the session is still %v", got)
		}
		if _, ok := p.Client(b); !ok {
			t.Error("the other session's address is forgotten too")
		}
		p.Release(b)
		time.Sleep(linger + sweepPause)
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.holders) != 0 || len(p.released) != 0 || p.sweeping {
			t.Errorf("left behind: %d holders, %d released, sweeping %v", len(p.holders), len(p.released), p.sweeping)
		}
	})
}

// Sessions that end one after another all the time are swept in time, and the sweep
// does not run for each of them.
func TestReleasedAreSweptWhileOthersCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New()
		for range 1000 {
			p.Release(take(t, p, client(1)))
			time.Sleep(100 * time.Millisecond)
		}
		most := int((linger + 2*sweepPause) / (100 * time.Millisecond))
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(p.holders); n > most {
			t.Errorf("%d addresses are remembered, at most %d have lingered less than %s", n, most, linger)
		}
	})
}

func TestContains(t *testing.T) {
	for ip, want := range map[string]bool{
		"127.64.0.1":         true,
		"127.127.255.254":    true,
		"::ffff:127.64.0.1":  true,
		"127.64.0.0":         false,
		"127.127.255.255":    false,
		"127.0.0.1":          false,
		"127.128.0.0":        false,
		"10.64.0.1":          false,
		"::1":                false,
		"2001:db8::7f40:0:1": false,
	} {
		if got := Contains(netip.MustParseAddr(ip)); got != want {
			t.Errorf("Contains(%s) = %v", ip, got)
		}
	}
	if Contains(netip.Addr{}) {
		t.Error("the zero address is one of ours")
	}
	New().Release(netip.Addr{}) // is ignored
}

func TestRotates(t *testing.T) {
	p := New()
	p.next = size - 3 // so that it wraps
	seen := make(map[netip.Addr]bool)
	for range 1000 {
		a := take(t, p, client(1))
		if seen[a] {
			t.Fatalf("%s came back at once", a)
		}
		if !Contains(a) {
			t.Fatalf("%s is not in the range", a)
		}
		seen[a] = true
		p.Release(a)
	}
}

func TestTakenAreSkipped(t *testing.T) {
	p := New()
	p.next = 10
	held := take(t, p, client(1))
	p.next = 10
	if got := take(t, p, client(2)); got == held {
		t.Errorf("%s has two sessions", got)
	}
}

func TestExhausted(t *testing.T) {
	p := New()
	var first netip.Addr
	for i := range capacity {
		a := take(t, p, client(uint16(i)))
		if i == 0 {
			first = a
		}
	}
	if a, err := p.Take(client(1)); !errors.Is(err, ErrExhausted) {
		t.Fatalf("after all: %v, %v", a, err)
	}
	// A released one makes room, rather than that a session goes without.
	p.Release(first)
	take(t, p, client(1))
	if _, ok := p.Client(first); ok {
		t.Error("the released one is still remembered")
	}
}

func TestConcurrent(t *testing.T) {
	p := New()
	var mu sync.Mutex
	held := make(map[netip.Addr]uint16)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 500 {
				port := uint16(g*500 + i)
				a, err := p.Take(client(port))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if _, twice := held[a]; twice {
					t.Errorf("%s is held twice", a)
				}
				held[a] = port
				mu.Unlock()
				if got, ok := p.Client(a); !ok || got != client(port) {
					t.Errorf("%s is %v, %v", a, got, ok)
				}
				if i%2 == 0 {
					p.Release(a)
				}
			}
		})
	}
	wg.Wait()
	if got, want := p.InUse(), 16*250; got != want {
		t.Errorf("%d in use, want %d", got, want)
	}
}

// The kernel lets a socket bind to any address of the range.
func TestAddressesCanBeBound(t *testing.T) {
	p := New()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a := take(t, p, client(1))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: a.AsSlice()}}
	c, err := d.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if got := peer.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != a {
		t.Errorf("the listener sees %s, want %s", got, a)
	}
}

func BenchmarkTakeRelease(b *testing.B) {
	p := New()
	b.ReportAllocs()
	for b.Loop() {
		a, err := p.Take(client(1))
		if err != nil {
			b.Fatal(err)
		}
		p.Release(a)
	}
}
