package stun

import (
	"crypto/sha1" //nolint:gosec // what RFC 8489 prescribes; as a HMAC it is not known to be weak
	"crypto/subtle"
	"encoding/binary"
	"hash"
)

// Key is a password, ready to verify messages (RFC 8489, section 9.1.1, and RFC 2104).
// It may be used by many goroutines.
type Key struct {
	inner, outer [sha1.BlockSize]byte
}

// NewKey returns the key of an ICE password, such as a=ice-pwd of the answer for the
// checks that a client sends.
func NewKey(password string) *Key {
	k := new(Key)
	k.Set([]byte(password))
	return k
}

// Set makes k the key of another password, without allocating. Nobody may use k meanwhile.
func (k *Key) Set(password []byte) {
	var block [sha1.BlockSize]byte
	if len(password) > len(block) {
		sum := sha1.Sum(password) //nolint:gosec // see above
		copy(block[:], sum[:])
	} else {
		copy(block[:], password)
	}
	for i, b := range block {
		k.inner[i], k.outer[i] = b^0x36, b^0x5c
	}
}

// Verifier checks MESSAGE-INTEGRITY without allocating. It is for one goroutine.
type Verifier struct {
	hash   hash.Hash
	header [4]byte
	sum    [sha1.Size]byte
}

// NewVerifier returns a Verifier.
func NewVerifier() *Verifier {
	return &Verifier{hash: sha1.New()} //nolint:gosec // see above
}

// Verify says that the message has a MESSAGE-INTEGRITY made with the key. It covers
// what is before the attribute, with the length in the header as if the message ended
// with it (RFC 8489, section 14.5).
func (v *Verifier) Verify(m *Message, k *Key) bool {
	if m.integrity == 0 {
		return false
	}
	copy(v.header[:], m.raw[:2])
	binary.BigEndian.PutUint16(v.header[2:], uint16(m.integrity+attrSize+integritySize-headerSize))
	v.hash.Reset()
	_, _ = v.hash.Write(k.inner[:]) // a hash never fails
	_, _ = v.hash.Write(v.header[:])
	_, _ = v.hash.Write(m.raw[len(v.header):m.integrity])
	inner := v.hash.Sum(v.sum[:0])
	v.hash.Reset()
	_, _ = v.hash.Write(k.outer[:])
	_, _ = v.hash.Write(inner)
	got := m.raw[m.integrity+attrSize : m.integrity+attrSize+integritySize]
	return subtle.ConstantTimeCompare(v.hash.Sum(v.sum[:0]), got) == 1
}
