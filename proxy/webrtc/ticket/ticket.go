// Package ticket makes ICE credentials by which each proxy of a cluster knows where a
// session is, and whose checks are genuine, without having heard of the session before.
//
//	USERNAME of a check   5f0c1e77 0b9d44e1c2 8a60f2b1d97c3e : 4ZcD
//	                      origin   nonce      MAC of all       the client's own ufrag
//	                      └────── ice-ufrag: 32 letters ──┘
//	ice-pwd               HMAC of the username, under another key: 32 letters
//
// All keys come from one secret that the proxies share. The MAC is a filter: it
// keeps what strangers make up from costing more than itself. What proves a client is
// the password, which only its session's answer told. Nothing here expires: a session
// that its origin does not have any more leads nowhere.
package ticket

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
)

// MinSecret is the shortest secret that Keys are made of, in bytes.
const MinSecret = 16

// Errors of this package.
var (
	// ErrSecret says that a secret is too short to keep anything secret.
	ErrSecret = fmt.Errorf("has fewer than %d characters", MinSecret)
	// ErrSealed says that something was not sealed under our secret, or not for that username.
	ErrSealed = errors.New("sealed under another key, or for another session")
)

// Lengths of a ufrag's parts, in letters of two to a byte. SRS takes 4 to 32 letters of
// each, and does not undo escapes, so that they are letters and digits.
const (
	tagLen   = 2 * len(Tag{})
	nonceLen = 10
	macLen   = 14
	ufragLen = tagLen + nonceLen + macLen
	pwdLen   = 32
)

// Tag names an origin, or rather a process of it: sessions end with their process. It
// means nothing to who has not the secret.
type Tag [4]byte

// Keys are what a cluster's proxies share. Any number of goroutines may use them.
type Keys struct {
	tag, mac, pwd []byte
	aead          cipher.AEAD
}

// New returns the keys of a secret.
func New(secret []byte) (*Keys, error) {
	if len(secret) < MinSecret {
		return nil, ErrSecret
	}
	var derived [4][]byte
	for i, use := range [...]string{"origin", "ufrag", "password", "route"} {
		var err error
		if derived[i], err = hkdf.Key(sha256.New, secret, nil, "srs-proxy webrtc "+use, sha256.Size); err != nil {
			return nil, fmt.Errorf("derive a key: %w", err)
		}
	}
	block, err := aes.NewCipher(derived[3])
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return &Keys{tag: derived[0], mac: derived[1], pwd: derived[2], aead: aead}, nil
}

// Random returns keys that nobody shares.
func Random() *Keys {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails
	k, err := New(secret)
	if err != nil {
		return nil // never: only the secret's length can be wrong
	}
	return k
}

// Tag is that of an origin by its ID and its process' Service.
func (k *Keys) Tag(id, service string) Tag {
	h := hmac.New(sha256.New, k.tag)
	h.Write([]byte(id + "\x00" + service)) // neither has control characters
	return Tag(h.Sum(nil)[:len(Tag{})])
}

// Issue makes credentials for a session on an origin whose client has a ufrag.
func (k *Keys) Issue(origin Tag, remote string) (ufrag, pwd string) {
	var nonce [nonceLen / 2]byte
	_, _ = rand.Read(nonce[:]) // never fails
	username := []byte(hex.EncodeToString(origin[:]) + hex.EncodeToString(nonce[:]) + emptyMAC + ":" + remote)
	r := k.Reader()
	copy(username[ufragLen-macLen:], r.seal(username))
	return string(username[:ufragLen]), string(r.Password(username))
}

const emptyMAC = "--------------" // macLen letters, to be written over

// Reader reads tickets without allocating. It is for one goroutine.
type Reader struct {
	mac, pwd hash.Hash
	sum      [sha256.Size]byte
	text     [pwdLen]byte
}

// Reader returns a reader of tickets that were issued under k.
func (k *Keys) Reader() *Reader {
	return &Reader{mac: hmac.New(sha256.New, k.mac), pwd: hmac.New(sha256.New, k.pwd)}
}

// seal is the MAC of a username, whose own place in it does not count. It is valid until the next call.
func (r *Reader) seal(username []byte) []byte {
	r.mac.Reset()
	_, _ = r.mac.Write(username[:ufragLen-macLen]) // a hash never fails
	_, _ = r.mac.Write(username[ufragLen:])
	sum := r.mac.Sum(r.sum[:0])
	hex.Encode(r.text[:macLen], sum[:macLen/2])
	return r.text[:macLen]
}

// Read takes a username "ufrag:remote ufrag" apart. It says false if its ufrag was not
// issued under our secret to that remote ufrag. The time that it takes does not tell
// how much of a MAC is right.
func (r *Reader) Read(username []byte) (origin Tag, ok bool) {
	if len(username) < ufragLen+2 || username[ufragLen] != ':' {
		return Tag{}, false
	}
	if subtle.ConstantTimeCompare(r.seal(username), username[ufragLen-macLen:ufragLen]) != 1 {
		return Tag{}, false
	}
	_, err := hex.Decode(origin[:], username[:tagLen])
	return origin, err == nil
}

// Password is the ice-pwd of a username that Read took, valid until the next call.
func (r *Reader) Password(username []byte) []byte {
	r.pwd.Reset()
	_, _ = r.pwd.Write(username)
	sum := r.pwd.Sum(r.sum[:0])
	hex.Encode(r.text[:], sum[:pwdLen/2])
	return r.text[:]
}

// Seal encrypts what is to be known of a session to who has the secret only.
func (k *Keys) Seal(username string, plain []byte) []byte {
	return k.aead.Seal(nil, nil, plain, []byte(username))
}

// Unseal undoes Seal, or returns ErrSealed.
func (k *Keys) Unseal(username string, sealed []byte) ([]byte, error) {
	plain, err := k.aead.Open(nil, nil, sealed, []byte(username))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}
