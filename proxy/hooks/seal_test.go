package hooks

import (
	"net/netip"
	"strings"
	"testing"
)

func sealer(t testing.TB, key byte) *Sealer {
	t.Helper()
	s, err := NewSealer(netip.MustParseAddrPort("127.0.0.1:19999"), [KeySize]byte{key})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealAndOpen(t *testing.T) {
	s := sealer(t, 1)
	tests := []struct {
		hook      string
		variables bool
		// replace is what the origin does with the URL before it calls.
		replace *strings.Replacer
		want    string // as the hook server sees it: scheme, host and request target
		name    string
	}{
		{"http://hook.example:8085/api/v1/streams?token=a%20b&x=[app]", false, nil, "http hook.example:8085 /api/v1/streams?token=a%20b&x=[app]", "http://hook.example:8085/api/v1/streams"},
		{"https://hook.example/a", false, nil, "https hook.example /a", "https://hook.example/a"},
		{"http://hook.example", false, nil, "http hook.example /", "http://hook.example"},
		{"http://hook.example?a=b", false, nil, "http hook.example /?a=b", "http://hook.example"},
		{"http://hook.example/a?", false, nil, "http hook.example /a?", "http://hook.example/a"},
		{"http://[::1]:80/a//b/../c;d#frag", false, nil, "http [::1]:80 /a//b/../c;d", "http://[::1]:80/a//b/../c;d#frag"},
		{"http://hook.example//a", false, nil, "http hook.example http://hook.example//a", "http://hook.example//a"},
		{"http://hook.example/[app]/[stream]?n=1[param]", true, strings.NewReplacer("[app]", "live", "[stream]", "cam", "[param]", "&token=x"), "http hook.example /live/cam?n=1&token=x", "http://hook.example/"},
		{"http://hook.example/notify?key=k&s=[stream]", true, strings.NewReplacer("[stream]", "a/../b?c=d"), "http hook.example /notify?key=k&s=a/../b?c=d", "http://hook.example/notify"},
		{"http://hook.example/notify", true, nil, "http hook.example /notify", "http://hook.example/notify"},
	}
	for _, tt := range tests {
		got := s.URL(tt.hook, tt.variables)
		rest, ok := strings.CutPrefix(got, "http://127.0.0.1:19999/")
		if !ok {
			t.Errorf("%s becomes %s", tt.hook, got)
			continue
		}
		if s.URL(tt.hook, tt.variables) != got {
			t.Errorf("%s is not the same each time", tt.hook)
		}
		if s.URL(got, tt.variables) != got {
			t.Errorf("%s is relayed twice", tt.hook)
		}
		if strings.Contains(got, "token=a") || strings.Contains(got, "key=k") {
			t.Errorf("%s shows what may be secret", got)
		}
		if tt.replace != nil {
			rest = tt.replace.Replace(rest)
		}
		u, name, err := s.Open("/" + rest)
		if err != nil {
			t.Errorf("%s: %v", tt.hook, err)
			continue
		}
		if seen := u.Scheme + " " + u.Host + " " + u.RequestURI(); seen != tt.want || name != tt.name {
			t.Errorf("%s leads to %s (%s)\nwant %s (%s)", tt.hook, seen, name, tt.want, tt.name)
		}
	}
}

func TestURLLeavesWhatItCannotCall(t *testing.T) {
	s := sealer(t, 1)
	for _, hook := range []string{
		"", "hook.example/a", "rtmp://hook.example/a", "http://", "http:///a", "http://user:pass@hook.example/", "unix:/a", "http://h\x00/",
	} {
		if got := s.URL(hook, false); got != hook {
			t.Errorf("%q becomes %q", hook, got)
		}
	}
	for _, hook := range []string{"http://[stream].example/", "http://[app]/"} {
		if got := s.URL(hook, true); got != hook {
			t.Errorf("%q becomes %q", hook, got)
		}
	}
}

// The relay calls what a config had in it and nothing else, whoever asks.
func TestOpenRefuses(t *testing.T) {
	s := sealer(t, 1)
	good := strings.TrimPrefix(s.URL("http://hook.example/a", false), "http://127.0.0.1:19999")
	if _, _, err := s.Open(good); err != nil {
		t.Fatal(err)
	}
	seal, readable, _ := strings.Cut(good[1:], "/")
	variable, _, _ := strings.Cut(strings.TrimPrefix(s.URL("http://hook.example/[app]", true), "http://127.0.0.1:19999/"), "/")
	for name, path := range map[string]string{
		"empty":          "",
		"root":           "/",
		"no seal":        "/http://hook.example/a",
		"open proxy":     "http://hook.example/a",
		"another key's":  strings.TrimPrefix(sealer(t, 2).URL("http://hook.example/a", false), "http://127.0.0.1:19999"),
		"a byte changed": "/" + strings.Replace(seal, seal[20:21], string(seal[20]^1), 1) + "/" + readable,
		"cut":            "/" + seal[:len(seal)-4] + "/" + readable,
		"too short":      "/AAAA/" + readable,
		"two seals":      "/" + seal + variable,
		"not base64":     "/" + seal + "=/" + readable,
	} {
		if u, _, err := s.Open(path); err == nil {
			t.Errorf("%s: leads to %s", name, u)
		}
	}
	// What stands behind an exact seal for people to read changes nothing.
	u, _, err := s.Open("/" + seal + "/other.example/b?c")
	if err != nil || u.Host != "hook.example" || u.RequestURI() != "/a" {
		t.Errorf("%v, %v", u, err)
	}
}

func FuzzOpen(f *testing.F) {
	s := sealer(f, 1)
	f.Add(strings.TrimPrefix(s.URL("http://hook.example/a?b", false), "http://127.0.0.1:19999"))
	f.Add(strings.TrimPrefix(s.URL("http://hook.example/[app]", true), "http://127.0.0.1:19999"))
	f.Fuzz(func(t *testing.T, path string) {
		if u, _, err := s.Open(path); err == nil && u.Host != "hook.example" {
			t.Errorf("%q leads to %s", path, u.Host)
		}
	})
}

func FuzzURL(f *testing.F) {
	f.Add("http://hook.example/[app]?a=b", true, "/x?y")
	f.Add("https://hook.example//", false, "")
	s := sealer(f, 1)
	f.Fuzz(func(t *testing.T, hook string, variables bool, suffix string) {
		got := s.URL(hook, variables)
		rest, ok := strings.CutPrefix(got, "http://127.0.0.1:19999")
		if got == hook || !ok {
			return
		}
		if i := strings.IndexByte(rest, '['); variables && i >= 0 {
			rest = rest[:i] + suffix
		}
		u, _, err := s.Open(rest)
		if err != nil {
			t.Fatalf("%q: %v", hook, err)
		}
		if want := hook[:len(u.Scheme)+len("://")+len(u.Host)]; u.Scheme+"://"+u.Host != want {
			t.Errorf("%q with %q leads to %s://%s", hook, suffix, u.Scheme, u.Host)
		}
	})
}
