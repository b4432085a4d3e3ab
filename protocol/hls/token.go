package hls

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Param is the query parameter that carries the token (the "SPBHID" of SRS's
// proxy: SRS Proxy Backend HLS ID).
const Param = "spbhid"

// maxToken bounds a token as it comes from a client: room for about 1,500 bytes of
// vhost, app and name together, where a file name ends at 255.
const maxToken = 2048

// ErrToken says that a token is none that Token made.
var ErrToken = errors.New("not a stream token")

// Token names a stream so that any proxy can route a segment without a table. It
// holds no secret and proves nothing: it says which origin to ask, and what the
// origin then gives is the origin's business.
func Token(vhost, app, name string) string {
	// NUL separates: SRS's strings end at one, so no part of a stream has it.
	return base64.RawURLEncoding.EncodeToString([]byte(vhost + "\x00" + app + "\x00" + name))
}

// ParseToken reads a token back. What it returns is free of control characters
// but otherwise chosen by whoever made the token.
func ParseToken(token string) (vhost, app, name string, err error) {
	if len(token) > maxToken {
		return "", "", "", fmt.Errorf("%w: %d bytes, at most %d", ErrToken, len(token), maxToken)
	}
	// One stream has one token: the decoder skips line ends, and unless strict
	// ignores the unused bits of the last letter.
	if strings.ContainsAny(token, "\r\n") {
		return "", "", "", fmt.Errorf("%w: a line end", ErrToken)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return "", "", "", fmt.Errorf("%w: %w", ErrToken, err)
	}
	parts := strings.Split(string(b), "\x00")
	if len(parts) != 3 {
		return "", "", "", fmt.Errorf("%w: %d parts, want 3", ErrToken, len(parts))
	}
	for _, p := range parts {
		if p == "" {
			return "", "", "", fmt.Errorf("%w: an empty part", ErrToken)
		}
		if strings.ContainsFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return "", "", "", fmt.Errorf("%w: a control character", ErrToken)
		}
	}
	return parts[0], parts[1], parts[2], nil
}
