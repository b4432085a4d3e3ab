package streamurl

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

func TestParseQuery(t *testing.T) {
	for raw, want := range map[string]Query{
		"":                                 {},
		"app=live&stream=a":                {"app": "live", "stream": "a"},
		"app=live&&stream=a":               {"app": "live", "stream": "a"},
		"app=live;stream=a,vhost=v":        {"app": "live", "stream": "a", "vhost": "v"},
		"stream=a%20b":                     {"stream": "a%20b"},
		"a=1&a=2":                          {"a": "2"},
		"flag&app=live":                    {"flag": "app", "live": ""},
		"token=YWI=&app=live":              {"token": "YWI", "": "app", "live": ""},
		"session=8yx93k11:aB+/&token=xyz1": {"session": "8yx93k11:aB+/", "token": "xyz1"},
		"a":                                {"a": ""},
		"a=":                               {"a": ""},
	} {
		if got, err := ParseQuery(raw); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: got %q, %v", raw, got, err)
		}
	}
	if _, err := ParseQuery(strings.Repeat("a", MaxURL+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("long: %v", err)
	}
}

func TestParseWHIP(t *testing.T) {
	for _, c := range []struct {
		host, query string
		want        Stream
	}{
		{"h:1985", "app=live&stream=a", Stream{"h", "live", "a"}},
		{"h", "", Stream{"h", "live", "livestream"}},
		{"[::1]:1985", "stream=a.flv", Stream{"::1", "live", "a"}},
		{"h", "app=x/y&stream=a&vhost=v", Stream{"v", "x/y", "a"}},
		{"h", "stream=a&domain=v", Stream{"v", "live", "a"}},
		{"", "stream=a", Stream{DefaultVhost, "live", "a"}},
	} {
		q, err := ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseWHIP(c.host, q); err != nil || got != c.want {
			t.Errorf("%q, %q: got %+v, %v", c.host, c.query, got, err)
		}
	}
}

func TestParseRTC(t *testing.T) {
	for url, want := range map[string]Stream{
		"webrtc://h/live/a":                 {"h", "live", "a"},
		"webrtc://h:1985/live/a":            {"h", "live", "a"},
		"webrtc://h/live/a?vhost=v&token=t": {"v", "live", "a"},
		"webrtc://h/live/a?domain=v":        {"v", "live", "a"},
		"webrtc://[::1]:80/live/a":          {"::1", "live", "a"},
		"webrtc://h/live?vhost=v/a":         {"v", "live", "a"},
		"webrtc://h/x/y/a":                  {"h", "x/y", "a"},
		"https://h/live/a.flv":              {"h", "live", "a"},
		"webrtc://h/a":                      {"h", "__defaultApp__", "a"},
	} {
		if got, err := ParseRTC(url); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", url, got, err)
		}
	}
	for url, want := range map[string]error{
		"livestream":                       ErrNoHost,
		"":                                 ErrNoHost,
		"live/a":                           ErrNoHost,
		"webrtc://h/live/":                 ErrNoName,
		strings.Repeat("webrtc://h/", 800): ErrTooLong,
	} {
		if _, err := ParseRTC(url); !errors.Is(err, want) {
			t.Errorf("%.20q: %v", url, err)
		}
	}
}

// WebRTC's requests have the key that RTMP has for the same stream.
func TestDefect8_OneKeyForWebRTC(t *testing.T) {
	known := NewVhosts(DefaultVhost, "v.com")
	for _, c := range []struct{ tcURL, name, host, query, streamURL, vhost string }{
		{"rtmp://example.com:80/live", "a", "example.com", "app=live&stream=a", "webrtc://example.com/live/a", DefaultVhost},
		{"rtmp://[::1]:1935/live", "a", "[::1]:1985", "app=live&stream=a", "webrtc://[::1]:1985/live/a", DefaultVhost},
		{"rtmp://127.0.0.1/live", "a?vhost=v.com", "127.0.0.1:1985", "app=live&stream=a&vhost=v.com", "webrtc://127.0.0.1/live/a?vhost=v.com", "v.com"},
		{"rtmp://v.com:80/live", "a", "v.com:443", "app=live&stream=a", "webrtc://v.com:443/live/a", "v.com"},
	} {
		q, err := ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		rtmp, errRTMP := ParseRTMP(c.tcURL, "", c.name)
		whip, errWHIP := ParseWHIP(c.host, q)
		rtc, errRTC := ParseRTC(c.streamURL)
		if err := errors.Join(errRTMP, errWHIP, errRTC); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Stream{&rtmp, &whip, &rtc} {
			s.Vhost = known.Fold(s.Vhost)
		}
		if rtmp.Vhost != c.vhost || whip != rtmp || rtc != rtmp {
			t.Errorf("keys %+v, %+v and %+v, want vhost %s", rtmp, whip, rtc, c.vhost)
		}
	}
}

func FuzzParseRTC(f *testing.F) {
	f.Add("webrtc://h/live/a?vhost=v", "h:80", "app=live&stream=a&vhost=v")
	f.Add("webrtc://[::1/live...vhost...v/a?#", "[", "=,&;")
	f.Fuzz(func(t *testing.T, url, host, query string) {
		if s, err := ParseRTC(url); err == nil && (s.Name == "" || s.Vhost == "" || strings.ContainsAny(s.Name, " \n\r\t/")) {
			t.Fatalf("%+v of %q", s, url)
		}
		q, err := ParseQuery(query)
		if err != nil {
			return
		}
		if s, err := ParseWHIP(host, q); err == nil && (s.Name == "" || s.Vhost == "" || strings.ContainsAny(s.Vhost, " \n\r\t/")) {
			t.Fatalf("%+v of %q %q", s, host, query)
		}
	})
}
