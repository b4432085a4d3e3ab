package register

import (
	"net/netip"
	"sync"
	"time"
)

// limiter bounds the requests of each address: a bucket that is filled at a rate.
// 128 origins of one machine that begin together fit into it, and so does a beat of
// each in every other second.
type limiter struct {
	rate  float64 // a second
	burst float64
	now   func() time.Time

	mu      sync.Mutex // guards the following
	buckets map[netip.Addr]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// maxBuckets bounds the addresses that are remembered. A bucket that is full again is
// as good as none.
const maxBuckets = 4096

// network is whose requests are counted together: one machine has many addresses of
// IPv6, all with the same 64 bits in front.
func limitKey(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// allow counts a request of an address, unless it is one too many.
func (l *limiter) allow(ip netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	key := limitKey(ip)
	b, known := l.buckets[key]
	if !known {
		if len(l.buckets) >= maxBuckets && !l.sweepLocked(now) {
			return false
		}
		b = bucket{l.burst, now}
	}
	b = l.filled(b, now)
	if b.left < 1 {
		l.buckets[key] = b
		return false
	}
	b.left--
	l.buckets[key] = b
	return true
}

func (l *limiter) filled(b bucket, now time.Time) bucket {
	b.left = min(l.burst, b.left+l.rate*now.Sub(b.at).Seconds())
	b.at = now
	return b
}

// sweepLocked forgets the buckets that are full, and reports whether there is room.
func (l *limiter) sweepLocked(now time.Time) bool {
	for key, b := range l.buckets {
		if l.filled(b, now).left >= l.burst {
			delete(l.buckets, key)
		}
	}
	return len(l.buckets) < maxBuckets
}
