package register

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// Tokens are the passwords of origins, any of which will do: while one is being
// replaced there are two. They are kept as digests, so that they have one length and
// are not to be found in a dump.
type Tokens [][sha256.Size]byte

// maxToken is far above what anybody types, and below what a header may have.
const maxToken = 256

// ParseTokens reads tokens that are parted by commas, spaces or lines. An error
// completes a sentence and says nothing of them.
func ParseTokens(text string) (Tokens, error) {
	var all Tokens
	for token := range strings.FieldsFuncSeq(text, func(c rune) bool { return strings.ContainsRune(", \t\r\n", c) }) {
		if len(token) > maxToken {
			return nil, fmt.Errorf("has a token of %d characters; at most %d can be sent", len(token), maxToken)
		}
		// A token may ride in a URL's path, where these have a meaning of their own.
		if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("/?#%\\\"", c) }) {
			return nil, fmt.Errorf("has a token with letters that a URL's path cannot have as they are; give letters and digits")
		}
		all = append(all, sha256.Sum256([]byte(token)))
	}
	return all, nil
}

// HeaderToken is one token that is only sent as Bearer: there it may have what a path or a
// list of tokens can't have. An error completes a sentence and says nothing of it.
func HeaderToken(token string) (Tokens, error) {
	switch {
	case token == "":
		return nil, errors.New("is empty; give a token")
	case len(token) > maxToken:
		return nil, fmt.Errorf("has %d characters; at most %d can be sent", len(token), maxToken)
	case strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }):
		return nil, errors.New("has letters that a header cannot have; give letters and digits")
	}
	return Tokens{sha256.Sum256([]byte(token))}, nil
}

// match compares in constant time: of the digest, and with all that there are.
func (t Tokens) match(token string) bool {
	got := sha256.Sum256([]byte(token))
	found := 0
	for _, want := range t {
		found |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	return found == 1
}
