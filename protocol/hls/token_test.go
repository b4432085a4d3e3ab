package hls

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func TestTokenRoundTrip(t *testing.T) {
	for _, s := range [][3]string{
		{"__defaultVhost__", "live", "livestream"},
		{"media.example", "live/deep/er", "a-b_c.1"},
		{"fe80::1", "直播", "流 + ?&=#/"},
		{"v", "a", "\xff\xfe not UTF-8"},
	} {
		token := Token(s[0], s[1], s[2])
		if strings.ContainsAny(token, "+/=&?# \"") {
			t.Errorf("%q: token %q needs escaping in a URI", s, token)
		}
		vhost, app, name, err := ParseToken(token)
		if err != nil || [3]string{vhost, app, name} != s {
			t.Errorf("got %q %q %q, %v, want %q", vhost, app, name, err, s)
		}
	}
}

func TestParseTokenRefuses(t *testing.T) {
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, token := range map[string]string{
		"empty":             "",
		"not base64":        "a!b",
		"padded":            base64.URLEncoding.EncodeToString([]byte("v\x00a\x00ab")) + "=",
		"standard alphabet": "+/+/",
		"line end inside":   raw("v\x00app\x00name")[:4] + "\n" + raw("v\x00app\x00name")[4:],
		"one part":          raw("live"),
		"four parts":        raw("v\x00a\x00n\x00x"),
		"empty vhost":       raw("\x00a\x00n"),
		"empty app":         raw("v\x00\x00n"),
		"empty name":        raw("v\x00a\x00"),
		"control character": raw("v\x00a\x00n\r\nX: y"),
		"too long":          raw("v\x00a\x00" + strings.Repeat("n", maxToken)),
	} {
		if v, a, n, err := ParseToken(token); !errors.Is(err, ErrToken) {
			t.Errorf("%s: got %q %q %q, %v", name, v, a, n, err)
		}
	}
}

func TestCutQuery(t *testing.T) {
	for _, tt := range []struct {
		raw, rest, token string
		found            bool
	}{
		{"", "", "", false},
		{"a=1&b=%2f", "a=1&b=%2f", "", false},
		{"spbhid=T", "", "T", true},
		{"a=1&spbhid=T&b=2", "a=1&b=2", "T", true},
		{"hls_ctx=x&spbhid=T&spbhid=U", "hls_ctx=x", "T", true},
		{"spbhid", "", "", true},
		{"xspbhid=1&spbhidx=2", "xspbhid=1&spbhidx=2", "", false},
	} {
		rest, token, found := CutQuery(tt.raw)
		if rest != tt.rest || token != tt.token || found != tt.found {
			t.Errorf("%q: got %q %q %v", tt.raw, rest, token, found)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(Token("__defaultVhost__", "live", "livestream"))
	f.Add("a!b")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte("v\x00a\x00n\x00x")))
	f.Fuzz(func(t *testing.T, token string) {
		vhost, app, name, err := ParseToken(token)
		if err != nil {
			return
		}
		if again := Token(vhost, app, name); again != token {
			t.Fatalf("%q reads as %q %q %q, which is %q", token, vhost, app, name, again)
		}
	})
}
