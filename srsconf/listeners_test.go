package srsconf

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestListeners(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"old form", "listen 1935 127.0.0.1:1936;", []string{"listen tcp 0.0.0.0:1935", "listen tcp 127.0.0.1:1936"}},
		{"new form", "rtmp { listen [::1]:1935; }", []string{"rtmp tcp [::1]:1935"}},
		{"rtmp without listen", "rtmp { chunk_size 60000; }", nil},
		{"defaults", "http_api { enabled on; } http_server { enabled on; } rtc_server { enabled on; tcp { enabled on; } } srt_server { enabled on; } exporter { enabled on; }",
			[]string{"http_api tcp 0.0.0.0:1985", "http_server tcp 0.0.0.0:8080", "rtc_server udp 0.0.0.0:8000", "rtc_server.tcp tcp 0.0.0.0:8000", "srt_server udp 0.0.0.0:10080", "exporter tcp 0.0.0.0:9972"}},
		{"off", "http_api { listen 1; } http_server { enabled off; listen 2; https { enabled on; listen 3; } } rtc_server { enabled on; listen 4; tcp { listen 5; } }",
			[]string{"rtc_server udp 0.0.0.0:4"}},
		{"https", "http_server { enabled on; listen 2; https { enabled on; listen 3; } }", []string{"http_server tcp 0.0.0.0:2", "http_server.https tcp 0.0.0.0:3"}},
		{"casters", `stream_caster { enabled on; caster mpegts_over_udp; listen 1; }
			stream_caster { enabled on; caster flv; listen 2; }
			stream_caster { caster flv; listen 3; }
			stream_caster { enabled on; caster gb28181; listen 4; sip { listen 5; } }
			stream_caster { enabled on; caster gb28181; listen 6; sip { enabled off; listen 7; } }`,
			[]string{"stream_caster udp 0.0.0.0:1", "stream_caster tcp 0.0.0.0:2", "stream_caster tcp 0.0.0.0:4", "stream_caster.sip tcp 0.0.0.0:5", "stream_caster tcp 0.0.0.0:6"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := Parse("x", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			listeners, err := Listeners(d)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range listeners {
				got = append(got, fmt.Sprintf("%s %s %s", l.Directive, l.Network, l.Addr))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
		})
	}
	d, err := Parse("x", []byte("a;\nlisten 1935;\nhttp_api {\n enabled on;\n listen :80x;\n}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listeners(d); err == nil || !strings.Contains(err.Error(), "line 5: http_api") {
		t.Error(err)
	}
}

func TestParseEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"1935": "0.0.0.0:1935", ":1935": "0.0.0.0:1935", "127.0.0.1:1": "127.0.0.1:1", "[::1]:65535": "[::1]:65535", "::1:80": "[::1]:80",
		"": "", "0": "", "65536": "", "-1": "", "a": "", "1.2.3.4": "", "host:80": "", "127.0.0.1:": "", "[::1]": "", "127.0.0.1:1935x": "",
	} {
		got, err := ParseEndpoint(in)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%q: %s, %v", in, got, err)
		}
	}
}

func TestDirs(t *testing.T) {
	d, err := Parse("x", []byte("work_dir /w/1; pid run/srs.pid; srs_log_file /log/a/srs.log; ff_log_dir ./objs; http_server { dir ./objs/html; }"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := Dirs(d), []string{"/log/a", "/w/1", "/w/1/objs", "/w/1/objs/html", "/w/1/run"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	d, err = Parse("x", []byte("ff_log_dir /dev/null;"))
	if err != nil {
		t.Fatal(err)
	}
	if got := Dirs(d); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
