// Package sdp edits session descriptions of WebRTC line by line.
//
//	origin's answer                        what the client gets
//	m=audio 9 ...                          m=audio 9 ...
//	a=ice-ufrag:k3v9                 ──▶   a=ice-ufrag:k3v9
//	a=candidate:0 1 udp .. 127.0.0.1 ..    a=candidate:0 1 udp .. 203.0.113.5 8000 ..
//
// A proxy has to know little of a description (RFC 8866): which ICE credentials it
// carries, and where it tells the peer to send media. All other lines pass byte for
// byte, so that a codec or an extension of tomorrow needs no release of ours. It does
// not negotiate, and it does not check what it has no use for.
package sdp

import (
	"bytes"
	"errors"
	"fmt"
)

// MaxSize bounds a description, in bytes. Those of browsers have about 10,000.
const MaxSize = 256 << 10

// Errors of this package.
var (
	// ErrTooLong says that a description is longer than MaxSize.
	ErrTooLong = errors.New("session description is longer than 256 KiB")
	// ErrNotSDP says that it does not begin as RFC 8866 section 5.1 demands, or
	// has no media.
	ErrNotSDP = errors.New("not a session description")
	// ErrNoICE says that there is no a=ice-ufrag or a=ice-pwd, or none that RFC 8839
	// section 5.4 allows.
	ErrNoICE = errors.New("session description without ICE credentials")
)

// Credentials are the ICE credentials of one side (RFC 8839 section 5.4).
type Credentials struct{ Ufrag, Pwd string }

// ICE returns the credentials of the first media section, which with BUNDLE are
// those of all (RFC 8843 section 7.2); what the section does not say holds for the
// session.
func ICE(description []byte) (Credentials, error) {
	if err := check(description); err != nil {
		return Credentials{}, err
	}
	var c Credentials
	media := 0
	for line := range bytes.Lines(description) {
		text := content(line)
		if bytes.HasPrefix(text, []byte("m=")) {
			if media++; media > 1 {
				break
			}
		}
		if v, ok := bytes.CutPrefix(text, []byte("a=ice-ufrag:")); ok {
			c.Ufrag = string(v)
		} else if v, ok := bytes.CutPrefix(text, []byte("a=ice-pwd:")); ok {
			c.Pwd = string(v)
		}
	}
	switch {
	case media == 0:
		return Credentials{}, fmt.Errorf("%w: no media", ErrNotSDP)
	// Section 5.4 has 22 as the least length of a password; SRS takes shorter ones of
	// nobody, and the proxy only needs to be able to check a MESSAGE-INTEGRITY.
	case !iceChars(c.Ufrag, 4), !iceChars(c.Pwd, 1):
		return Credentials{}, ErrNoICE
	}
	return c, nil
}

// iceChars says that s is a token of at least least and at most 256 characters out
// of those that RFC 8839 section 5.4 allows.
func iceChars(s string, least int) bool {
	if len(s) < least || len(s) > 256 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '/':
		// Not of the grammar, but seen: users choose SRS's ufrag by a query.
		case c == '-', c == '_', c == '=', c == '.':
		default:
			return false
		}
	}
	return true
}

func check(description []byte) error {
	if len(description) > MaxSize {
		return ErrTooLong
	}
	if !bytes.HasPrefix(description, []byte("v=")) {
		return ErrNotSDP
	}
	return nil
}

// content is a line without its end: CRLF, or LF alone (RFC 8866 section 5 has
// parsers accept both).
func content(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte("\n"))
	return bytes.TrimSuffix(line, []byte("\r"))
}
