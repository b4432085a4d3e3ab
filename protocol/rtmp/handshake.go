package rtmp

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
)

const (
	version       = 3
	handshakeSize = 1536 // C1, C2, S1 and S2 (section 5.2.3)
	// proxyPrefix begins SRS's proxy prefix: 0xF3, a 16-bit length, the client's
	// IPv4 address (SRS: SrsHandshakeBytes::read_c0c1).
	proxyPrefix    = 0xf3
	proxyPrefixMax = 1024
)

// AcceptHandshake is the server's side of the simple handshake (section 5.2). It
// reads no byte more than it needs and writes S0, S1 and S2 at once. clientIP is
// what a proxy in front put before C0, the zero Addr if nothing: believe it only
// of a peer that is trusted.
func AcceptHandshake(rw io.ReadWriter) (clientIP netip.Addr, err error) {
	var c [1 + handshakeSize]byte
	if _, err := io.ReadFull(rw, c[:1]); err != nil {
		return clientIP, fmt.Errorf("read C0: %w", err)
	}
	if c[0] == proxyPrefix {
		if clientIP, err = readProxyPrefix(rw); err != nil {
			return clientIP, err
		}
		if _, err := io.ReadFull(rw, c[:1]); err != nil {
			return clientIP, fmt.Errorf("read C0: %w", unexpected(err))
		}
	}
	if c[0] != version {
		return clientIP, fmt.Errorf("%w %d", ErrVersion, c[0])
	}
	if _, err := io.ReadFull(rw, c[1:]); err != nil {
		return clientIP, fmt.Errorf("read C1: %w", unexpected(err))
	}
	s := make([]byte, 1+2*handshakeSize)
	s[0] = version
	// S1's time and version stay zero: version zero tells clients that this is
	// the simple handshake.
	_, _ = rand.Read(s[9 : 1+handshakeSize]) // never fails (crypto/rand)
	copy(s[1+handshakeSize:], c[1:])         // S2 echoes C1
	if _, err := rw.Write(s); err != nil {
		return clientIP, fmt.Errorf("write S0S1S2: %w", err)
	}
	if _, err := io.ReadFull(rw, c[:handshakeSize]); err != nil {
		return clientIP, fmt.Errorf("read C2: %w", unexpected(err))
	}
	return clientIP, nil
}

func readProxyPrefix(r io.Reader) (netip.Addr, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return netip.Addr{}, fmt.Errorf("read proxy prefix: %w", unexpected(err))
	}
	size := binary.BigEndian.Uint16(n[:])
	if size > proxyPrefixMax {
		return netip.Addr{}, fmt.Errorf("%w: proxy prefix of %d bytes", ErrVersion, size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return netip.Addr{}, fmt.Errorf("read proxy prefix: %w", unexpected(err))
	}
	if size < 4 {
		return netip.Addr{}, nil
	}
	return netip.AddrFrom4([4]byte(b[:4])), nil
}

// DialHandshake is the client's side of the simple handshake. A realIP that is
// IPv4 goes before C0 as SRS's proxy prefix, so that SRS logs the real client;
// any other value, the zero Addr too, sends none.
func DialHandshake(rw io.ReadWriter, realIP netip.Addr) error {
	c := make([]byte, 0, 7+1+handshakeSize)
	if realIP = realIP.Unmap(); realIP.Is4() {
		ip := realIP.As4()
		c = append(append(c, proxyPrefix, 0, 4), ip[:]...)
	}
	c = append(c, version)
	at := len(c)
	c = c[:at+handshakeSize]
	_, _ = rand.Read(c[at+8:]) // never fails (crypto/rand)
	if _, err := rw.Write(c); err != nil {
		return fmt.Errorf("write C0C1: %w", err)
	}
	s := make([]byte, 1+2*handshakeSize)
	if _, err := io.ReadFull(rw, s); err != nil {
		return fmt.Errorf("read S0S1S2: %w", unexpected(err))
	}
	if s[0] != version {
		return fmt.Errorf("%w %d", ErrVersion, s[0])
	}
	if _, err := rw.Write(s[1 : 1+handshakeSize]); err != nil { // C2 echoes S1
		return fmt.Errorf("write C2: %w", err)
	}
	return nil
}
