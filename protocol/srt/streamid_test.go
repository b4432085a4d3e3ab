package srt

import (
	"errors"
	"strings"
	"testing"

	"srs-proxy/protocol/streamurl"
)

// The forms of SRS's documentation and of its unit tests (ProtocolSrtTest), and what
// its code makes of odd ones.
func TestParseStreamID(t *testing.T) {
	for _, c := range []struct {
		id      string
		vhost   string
		app     string
		name    string
		publish bool
		params  string
	}{
		{"#!::r=live/livestream,m=publish", "", "live", "livestream", true, ""},
		{"#!::r=live/livestream,m=request", "", "live", "livestream", false, ""},
		{"#!::r=live/livestream", "", "live", "livestream", false, ""},
		{"#!::r=live/livestream,key1=value1,key2=value2", "", "live", "livestream", false, "key1=value1&key2=value2"},
		{"#!::h=host.com,r=live/livestream,key1=value1", "host.com", "live", "livestream", false, "vhost=host.com&key1=value1"},
		{"#!::m=publish,r=live/livestream,h=host.com", "host.com", "live", "livestream", true, "vhost=host.com"},
		{"#!::h=live/livestream,m=publish", "", "live", "livestream", true, ""},
		{"#!::h=live/livestream?secret=xxx,m=publish", "", "live", "livestream", true, "secret=xxx"},
		{"#!::h=srs.srt.com.cn/live/livestream,m=publish", "srs.srt.com.cn", "live", "livestream", true, "vhost=srs.srt.com.cn"},
		{"#!::h=srs.srt.com.cn/live/livestream?secret=x,m=request", "srs.srt.com.cn", "live", "livestream", false, "vhost=srs.srt.com.cn&secret=x"},
		{"#!::r=livestream,m=publish", "", "live", "livestream", true, ""},
		{"#!::R=no/no,r=live/x,M=publish", "", "live", "x", false, "M=publish&R=no/no"},
		{"#!::r=live/x,m=PuBlish", "", "live", "x", true, ""},
		{"#!::h=a/b,r=live/x", "", "live", "x", false, ""},
		{"#!::r=a/b,r=live/x", "", "live", "x", false, ""},
		{"live/livestream", "", "live", "livestream", false, ""},
		{"live/livestream?secret=xxx", "", "live", "livestream", false, "secret=xxx"},
		{"livestream", "", "live", "livestream", false, ""},
		{"livestream?k=v", "", "live", "livestream", false, "k=v"},
		{"live/livestream.flv", "", "live", "livestream", false, ""},
		// More than two parts: the source's key is the whole path, and over RTMP all
		// but the last part is the app.
		{"#!::r=a/b/c,m=publish", "", "a/b", "c", true, ""},
		{"a/b.x/c", "", "a", "b", false, ""}, // the extension begins at the last dot of what is not the app
		// Keys whose names or values contain others: no key is found inside of another
		// one (an expression that searches for "h=" or "r=" finds "path=" and "user=").
		{"#!::path=a/b,user=c/d,r=live/x,from=publish", "", "live", "x", false, "from=publish&path=a/b&user=c/d"},
		{"#!::r=live/x,auth=h1,him=publish,m=request", "", "live", "x", false, "auth=h1&him=publish"},
		// What separates is odd, and is the same in SRS.
		{"#!::r=live/x&m=publish", "", "live", "x", true, ""},
		{"#!::r=live/x&&m=publish", "", "live", "x", true, ""},
		{"#!::r=live/x;m=publish", "", "live", "x", true, ""},
		{"#!::r=live/x,flag,m=publish", "", "live", "x", false, "flag=m&publish="},
		{"#!::r=live/x,k=a=b,m=publish", "", "live", "x", false, "b=m&k=a&publish="},
		{"#!:r=live/x", "", "#!:r=live", "x", false, ""},
		{"#!::h=,r=live/x", "", "live", "x", false, "vhost="},
		{"#!::h=h.com:10080,r=live/x", "h.com:10080", "live", "x", false, "vhost=h.com:10080"},
	} {
		got, err := ParseStreamID(c.id, DefaultApp)
		if err != nil {
			t.Errorf("%q: %v", c.id, err)
			continue
		}
		if c.vhost == "" {
			c.vhost = streamurl.DefaultVhost
		}
		want := Request{Stream: streamurl.Stream{Vhost: c.vhost, App: c.app, Name: c.name}, Publish: c.publish, Params: c.params}
		if got != want {
			t.Errorf("%q:\n got %+v\nwant %+v", c.id, got, want)
		}
	}
}

func TestParseStreamIDErrors(t *testing.T) {
	for id, want := range map[string]error{
		"":                           ErrStreamIDName,
		"#!::":                       ErrStreamIDName,
		"#!::m=publish":              ErrStreamIDName,
		"#!::h=host.com,m=publish":   ErrStreamIDName,
		"#!::r=,h=live/x":            ErrStreamIDName,
		"#!::r=live/x,m=bidirection": ErrStreamIDMode,
		"#!::r=live/x,m=":            ErrStreamIDMode,
		"live/":                      ErrStreamIDName,
		"/x":                         ErrStreamIDName,
		strings.Repeat("x", 513):     ErrStreamIDLength,
	} {
		if r, err := ParseStreamID(id, DefaultApp); !errors.Is(err, want) {
			t.Errorf("%q: %+v, %v; want %v", id, r, err, want)
		}
	}
}

// The same stream has the same key whatever protocol names it.
func TestStreamIDEqualsRTMP(t *testing.T) {
	for _, c := range []struct{ id, tcURL, name string }{
		{"#!::r=live/x,m=publish", "rtmp://127.0.0.1/live", "x"},
		{"#!::h=h.com,r=live/x", "rtmp://h.com:1935/live", "x?token=1"},
		{"#!::h=h.com/live/x", "rtmp://1.2.3.4/live?vhost=h.com", "x"},
		{"live/x?secret=1", "rtmp://unknown.com/live", "x"},
		{"#!::r=a/b/x", "rtmp://unknown.com/a/b", "x"},
		{"#!::r=live/x.flv", "rtmp://unknown.com/live", "x"},
	} {
		vhosts := streamurl.NewVhosts("h.com")
		srt, err := ParseStreamID(c.id, DefaultApp)
		if err != nil {
			t.Fatal(err)
		}
		rtmp, err := streamurl.ParseRTMP(c.tcURL, "", c.name)
		if err != nil {
			t.Fatal(err)
		}
		srt.Stream.Vhost, rtmp.Vhost = vhosts.Fold(srt.Stream.Vhost), vhosts.Fold(rtmp.Vhost)
		if srt.Stream != rtmp {
			t.Errorf("%q is %+v and %s %s is %+v", c.id, srt.Stream, c.tcURL, c.name, rtmp)
		}
	}
}
