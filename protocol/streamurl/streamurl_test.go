package streamurl

import (
	"strings"
	"testing"
)

func TestParseRTMP(t *testing.T) {
	for _, c := range []struct {
		name, tcURL, app, stream string
		want                     Stream
	}{
		{"plain", "rtmp://127.0.0.1/live", "live", "a", Stream{"127.0.0.1", "live", "a"}},
		{"port", "rtmp://127.0.0.1:1935/live", "live", "a", Stream{"127.0.0.1", "live", "a"}},
		{"port 80", "rtmp://example.com:80/live", "live", "a", Stream{"example.com", "live", "a"}},
		{"ipv6", "rtmp://[::1]:1935/live", "live", "a", Stream{"::1", "live", "a"}},
		{"ipv6 without port", "rtmp://[2001:db8::1]/live", "live", "a", Stream{"2001:db8::1", "live", "a"}},
		{"rtmps", "rtmps://example.com/live", "live", "a", Stream{"example.com", "live", "a"}},
		{"slash in token (SRS cuts there)", "rtmp://h/live", "live", "a?token=x/y", Stream{"h", "live/a", "y"}},
		{"token in name", "rtmp://h/live", "live", "a?token=xy", Stream{"h", "live", "a"}},
		{"token in tcUrl", "rtmp://h/live?token=x", "live?token=x", "a", Stream{"h", "live", "a"}},
		{"vhost in name", "rtmp://127.0.0.1/live", "live", "a?vhost=v.com", Stream{"v.com", "live", "a"}},
		{"vhost in tcUrl", "rtmp://127.0.0.1/live?vhost=v.com", "live?vhost=v.com", "a", Stream{"v.com", "live", "a"}},
		{"vhost in tcUrl, token in name", "rtmp://127.0.0.1/live?vhost=v.com", "live", "a?token=1", Stream{"v.com", "live", "a"}},
		{"vhost with dots", "rtmp://127.0.0.1/live...vhost...v.com", "live", "a", Stream{"v.com", "live", "a"}},
		{"domain", "rtmp://127.0.0.1/live", "live", "a?domain=v.com", Stream{"v.com", "live", "a"}},
		{"another key that ends in vhost", "rtmp://h/live", "live", "a?xvhost=v.com", Stream{"h", "live", "a"}},
		{"FMLE query before name", "rtmp://h/live?vhost=v.com/a", "live", "", Stream{"v.com", "live", "a"}},
		{"definst", "rtmp://h/live/_definst_", "live/_definst_", "a", Stream{"h", "live", "a"}},
		{"app with instance", "rtmp://h/live/inst", "live/inst", "a", Stream{"h", "live/inst", "a"}},
		{"name with slash", "rtmp://h/live", "live", "dir/a", Stream{"h", "live/dir", "a"}},
		{"name in app", "rtmp://h/live/a", "live/a", "", Stream{"h", "live", "a"}},
		{"extension dropped", "rtmp://h/live", "live", "a.flv", Stream{"h", "live", "a"}},
		{"spaces", "rtmp://h/live ", "live", " a\n", Stream{"h", "live", "a"}},
		{"user info", "rtmp://user:pw@h/live", "live", "a", Stream{"h", "live", "a"}},
		{"no tcUrl", "", "live", "a", Stream{DefaultVhost, "live", "a"}},
		{"default vhost named", "rtmp://h/live", "live", "a?vhost=" + DefaultVhost, Stream{"h", "live", "a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseRTMP(c.tcURL, c.app, c.stream)
			if err != nil || got != c.want {
				t.Fatalf("ParseRTMP(%q, %q) = %+v, %v; want %+v", c.tcURL, c.stream, got, err, c.want)
			}
		})
	}
}

func TestParseHTTP(t *testing.T) {
	for _, c := range []struct {
		host, path, query string
		want              Stream
		ext               string
	}{
		{"127.0.0.1:8080", "/live/a.flv", "", Stream{"127.0.0.1", "live", "a"}, ".flv"},
		{"example.com", "/live/a.flv", "", Stream{"example.com", "live", "a"}, ".flv"},
		{"example.com:80", "/live/a.flv", "", Stream{"example.com", "live", "a"}, ".flv"},
		{"[::1]:8080", "/live/a.flv", "", Stream{"::1", "live", "a"}, ".flv"},
		{"h", "/live/a.flv", "vhost=v.com", Stream{"v.com", "live", "a"}, ".flv"},
		{"h", "/live/a.m3u8", "hls_ctx=1&vhost=v.com", Stream{"v.com", "live", "a"}, ".m3u8"},
		{"h", "/live/a.b.flv", "", Stream{"h", "live", "a"}, ".flv"},
		{"h", "/x/live/a.ts", "token=1", Stream{"h", "x/live", "a"}, ".ts"},
		{"", "/live/a.flv", "", Stream{DefaultVhost, "live", "a"}, ".flv"},
		{"h", "/a.flv", "", Stream{"h", "__defaultApp__", "a"}, ".flv"},
	} {
		got, ext, err := ParseHTTP(c.host, c.path, c.query)
		if err != nil || got != c.want || ext != c.ext {
			t.Errorf("ParseHTTP(%q, %q, %q) = %+v, %q, %v; want %+v, %q", c.host, c.path, c.query, got, ext, err, c.want, c.ext)
		}
	}
}

// The vhost in the key must not differ between protocols, whatever the port
// (ossrs/srs #4608), nor may ?vhost= in tcUrl swallow the stream name.
func TestDefect8_OneKeyOnEveryProtocol(t *testing.T) {
	known := NewVhosts(DefaultVhost, "v.com")
	for _, c := range []struct{ tcURL, name, host, path, query, vhost string }{
		{"rtmp://example.com:80/live", "a", "example.com", "/live/a.flv", "", DefaultVhost},
		{"rtmp://example.com:443/live", "a", "example.com:443", "/live/a.m3u8", "", DefaultVhost},
		{"rtmp://[::1]:1935/live", "a", "[::1]:8080", "/live/a.flv", "", DefaultVhost},
		{"rtmp://127.0.0.1/live", "a?vhost=v.com", "127.0.0.1:8080", "/live/a.flv", "vhost=v.com", "v.com"},
		{"rtmp://127.0.0.1/live?vhost=v.com", "a", "v.com", "/live/a.flv", "", "v.com"},
		{"rtmp://v.com:80/live", "a", "v.com:80", "/live/a.ts", "", "v.com"},
	} {
		r, err := ParseRTMP(c.tcURL, "", c.name)
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := ParseHTTP(c.host, c.path, c.query)
		if err != nil {
			t.Fatal(err)
		}
		r.Vhost, h.Vhost = known.Fold(r.Vhost), known.Fold(h.Vhost)
		if r != h || r.Vhost != c.vhost || r.Name != "a" {
			t.Errorf("%s and %s%s: keys %+v and %+v, want vhost %s", c.tcURL, c.host, c.path, r, h, c.vhost)
		}
	}
}

func TestParseErrors(t *testing.T) {
	if _, err := ParseRTMP("rtmp://h/live", "live", ""); err != ErrNoName {
		t.Errorf("empty name: %v", err)
	}
	if _, err := ParseRTMP("rtmp://h/"+strings.Repeat("a", MaxURL), "", "x"); err != ErrTooLong {
		t.Errorf("long: %v", err)
	}
	if _, _, err := ParseHTTP("h", "/live/", ""); err != ErrNoName {
		t.Errorf("no file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("rtmp://h:1935/live?vhost=v/x", "a?b=c", "h:80", "/live/a.flv", "vhost=v")
	f.Add("rtmp://[::1/live...vhost...v", "/..?#", "[", "///.", "=,&;")
	f.Fuzz(func(t *testing.T, tcURL, name, host, path, query string) {
		// The names that SRS guesses may have a slash.
		if s, err := ParseRTMP(tcURL, "app", name); err == nil && (s.Name == "" || strings.ContainsAny(s.Name, " \n\r\t")) {
			t.Fatalf("name %q of %q %q", s.Name, tcURL, name)
		}
		if s, _, err := ParseHTTP(host, path, query); err == nil && (s.Name == "" || strings.ContainsAny(s.Vhost, " \n\r\t/")) {
			t.Fatalf("%+v of %q %q %q", s, host, path, query)
		}
	})
}
