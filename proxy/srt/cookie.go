package srt

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"time"
)

// cookieKey is the secret of a Server's cookies.
type cookieKey [32]byte

func newCookieKey() (k cookieKey) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// cookies bakes and verifies cookies: a caller that returns one has received it, so it
// is where its datagrams say. Not for several goroutines at once.
type cookies struct {
	mac hash.Hash
	in  [26]byte // address, port, minute
	sum [sha256.Size]byte
}

func newCookies(k cookieKey) *cookies {
	return &cookies{mac: hmac.New(sha256.New, k[:])}
}

// cookieLife is how long a cookie is baked; one of the span before is good too, so
// that it lives for one to two minutes (section 4.3.1.1 of the draft: 1 minute).
const cookieLife = time.Minute

func (c *cookies) bake(a netip.AddrPort, now time.Time) uint32 {
	return c.of(a, now.UnixNano()/int64(cookieLife))
}

func (c *cookies) verify(cookie uint32, a netip.AddrPort, now time.Time) bool {
	span := now.UnixNano() / int64(cookieLife)
	return cookie == c.of(a, span) || cookie == c.of(a, span-1)
}

func (c *cookies) of(a netip.AddrPort, span int64) uint32 {
	ip := a.Addr().As16()
	copy(c.in[:], ip[:])
	binary.BigEndian.PutUint16(c.in[16:], a.Port())
	binary.BigEndian.PutUint64(c.in[18:], uint64(span))
	c.mac.Reset()
	c.mac.Write(c.in[:])
	return binary.BigEndian.Uint32(c.mac.Sum(c.sum[:0]))
}
