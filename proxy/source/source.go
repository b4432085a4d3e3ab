// Package source gives each session toward an origin on this machine an address of
// its own.
//
//	client 203.0.113.9:50123 ─▶ proxy ── 127.64.18.7 ─▶ origin 127.0.0.1:20001
//	                              ▲                        │
//	        Client(127.64.18.7) ──┴── hook or API: "ip": "127.64.18.7"
//
// All of 127.0.0.0/8 is the machine's own, so a socket may be bound to any address of
// it without being configured. An origin then sees a different peer for each client,
// and what it says of a peer (in a hook, in its API) leads back to the client.
//
// It opens no socket, and it is of no use toward another machine.
package source

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Range is the network of the addresses; its first and last are not used.
const Range = "127.64.0.0/10"

// Range, as numbers.
const (
	base = uint32(127)<<24 | 64<<16
	size = 1 << 22
)

// capacity is how many addresses may be in use or lingering: a quarter of them, so
// that a free one is never far from the cursor.
const capacity = size / 4

// linger is how long a released address still names its client and is given to no
// other. An origin tells of a session's end after it: on_unpublish, and then on_close,
// each of which may wait for a hook server that does not answer (SRS: 30 s).
const linger = 45 * time.Second

// ErrExhausted says that a million sessions hold an address.
var ErrExhausted = errors.New("no loopback source address is free")

// Contains tells whether ip is one of those that a Pool hands out.
func Contains(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.Is4() {
		return false
	}
	n := index(ip)
	return n > 0 && n < size-1
}

func index(ip netip.Addr) uint32 {
	b := ip.As4()
	return (uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])) - base
}

func address(n uint32) netip.Addr {
	n += base
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// Pool hands out addresses. It can be used by many goroutines at once.
type Pool struct {
	mu       sync.RWMutex
	next     uint32 // cursor; the addresses rotate, so that one is long out of use before it is used again
	holders  map[uint32]holder
	released []lingering // oldest first
	sweeping bool        // a timer will look at released
}

type holder struct {
	client   netip.AddrPort
	released bool
}

type lingering struct {
	index uint32
	until time.Time
}

// New returns a Pool. It begins anywhere: an origin that outlived an earlier process
// may still have sessions of that one.
func New() *Pool {
	return &Pool{next: rand.Uint32N(size), holders: make(map[uint32]holder)}
}

// Take gives client's session an address, until Release. The error is ErrExhausted.
func (p *Pool) Take(client netip.AddrPort) (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.holders) >= capacity {
		if len(p.released) == 0 {
			return netip.Addr{}, ErrExhausted
		}
		p.forgetLocked(1)
	}
	for {
		p.next = (p.next + 1) % size
		if p.next == 0 || p.next == size-1 { // the network's and the broadcast address
			continue
		}
		if _, taken := p.holders[p.next]; !taken {
			p.holders[p.next] = holder{client: client}
			return address(p.next), nil
		}
	}
}

// Release ends the use of an address. One that is not in use is ignored. Client still
// answers for it for a while.
func (p *Pool) Release(addr netip.Addr) {
	if !Contains(addr) {
		return
	}
	n := index(addr.Unmap())
	p.mu.Lock()
	defer p.mu.Unlock()
	h, ok := p.holders[n]
	if !ok || h.released {
		return
	}
	h.released = true
	p.holders[n] = h
	p.released = append(p.released, lingering{n, time.Now().Add(linger)})
	if !p.sweeping {
		p.sweeping = true
		time.AfterFunc(linger, p.sweep)
	}
}

// Client is who has the address, or had it until a moment ago.
func (p *Pool) Client(addr netip.Addr) (netip.AddrPort, bool) {
	if !Contains(addr) {
		return netip.AddrPort{}, false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	h, ok := p.holders[index(addr.Unmap())]
	return h.client, ok
}

// InUse is how many addresses are taken and not released.
func (p *Pool) InUse() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.holders) - len(p.released)
}

// sweepPause bounds how often the sweep runs while sessions end all the time.
const sweepPause = time.Second

// sweep forgets the addresses that have lingered, and comes again for the rest.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	n := 0
	for n < len(p.released) && !p.released[n].until.After(now) {
		n++
	}
	p.forgetLocked(n)
	p.sweeping = len(p.released) > 0
	if p.sweeping {
		time.AfterFunc(max(p.released[0].until.Sub(now), sweepPause), p.sweep)
	}
}

// forgetLocked frees the n addresses that were released first.
func (p *Pool) forgetLocked(n int) {
	for _, l := range p.released[:n] {
		delete(p.holders, l.index)
	}
	p.released = p.released[n:]
	if len(p.released) == 0 {
		p.released = nil
	}
	if len(p.holders) == 0 { // a map keeps the memory of its greatest size
		p.holders = make(map[uint32]holder)
	}
}
