package hooks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// KeySize is the size of a Sealer's key, in bytes.
const KeySize = 32

// errSeal says that a request's path was not made by this Sealer.
var errSeal = errors.New("not a URL of this relay")

// Sealer makes URLs of the relay, and tells what is in them.
type Sealer struct {
	base    string // of all URLs: scheme and host
	aead    cipher.AEAD
	nonceBy []byte // key of the nonces
}

// NewSealer returns a Sealer for a relay that listens at addr. The key is a secret
// that stays the same for as long as origins live that have its URLs.
func NewSealer(addr netip.AddrPort, key [KeySize]byte) (*Sealer, error) {
	derive := func(use string) []byte {
		m := hmac.New(sha256.New, key[:])
		m.Write([]byte(use))
		return m.Sum(nil)
	}
	block, err := aes.NewCipher(derive("srs-proxy hook url"))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{base: "http://" + addr.String(), aead: aead, nonceBy: derive("srs-proxy hook nonce")}, nil
}

// The first byte of what is sealed says what may follow the seal in a path.
const (
	exact  = 'x' // words for people, which mean nothing
	prefix = 'p' // the rest of the URL, whose variables the origin has replaced
)

// URL is the relay's URL for one of the operator's. With variables, the origin
// replaces [app] and the like in it before it calls: what comes before the first of
// them is sealed, the rest stays as it is. What the relay could not call is returned
// unchanged: other schemes, and what is a URL of the relay already.
//
// The same URL gives the same URL each time: an origin's config must not change by
// itself.
func (s *Sealer) URL(hook string, variables bool) string {
	u, err := url.Parse(hook)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.HasPrefix(hook, s.base+"/") {
		return hook
	}
	if first := strings.IndexByte(hook, '['); variables && first >= 0 {
		if first < len(u.Scheme)+len("://")+len(u.Host)+len("/") {
			return hook // a variable in the host
		}
		return s.base + "/" + s.seal(prefix, hook[:first]) + "/" + hook[first:]
	}
	return s.base + "/" + s.seal(exact, hook) + "/" + u.Host + u.EscapedPath()
}

// seal encrypts. The nonce depends on all that is encrypted, so that no two texts
// share one (RFC 5297 has the idea, as SIV).
func (s *Sealer) seal(kind byte, text string) string {
	plain := append([]byte{kind}, text...)
	m := hmac.New(sha256.New, s.nonceBy)
	m.Write(plain)
	nonce := m.Sum(nil)[:s.aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, nil))
}

// Open is the operator's URL that the target of a request line is for, and a name of it
// for the log, without what might be secret: no query, nor what a client has chosen.
func (s *Sealer) Open(requestTarget string) (u *url.URL, name string, err error) {
	rest, ok := strings.CutPrefix(requestTarget, "/")
	if !ok {
		return nil, "", errSeal
	}
	sealed, rest, _ := strings.Cut(rest, "/")
	b, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(b) < s.aead.NonceSize() {
		return nil, "", errSeal
	}
	plain, err := s.aead.Open(nil, b[:s.aead.NonceSize()], b[s.aead.NonceSize():], nil)
	if err != nil || len(plain) == 0 {
		return nil, "", errSeal
	}
	text := string(plain[1:])
	name, _, _ = strings.Cut(text, "?")
	if plain[0] == prefix {
		text += rest
	}
	if u, err = target(text); err != nil {
		return nil, "", err
	}
	return u, name, nil
}

// target takes a hook's URL apart at its path, and leaves that and the query as they
// are: an origin sends them so, whatever characters they hold.
func target(hook string) (*url.URL, error) {
	scheme, rest, _ := strings.Cut(hook, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, path := rest[:end], rest[end:]
	path, _, _ = strings.Cut(path, "#")
	path, query, hasQuery := strings.Cut(path, "?")
	if path == "" {
		path = "/"
	}
	if host == "" {
		return nil, fmt.Errorf("%w: no host", errSeal)
	}
	// Opaque is written as it is; of one that begins with // net/http would make a host.
	u := &url.URL{Scheme: scheme, Host: host, Opaque: path, RawQuery: query, ForceQuery: hasQuery && query == ""}
	if strings.HasPrefix(path, "//") {
		u.Opaque = "//" + host + path
	}
	return u, nil
}
