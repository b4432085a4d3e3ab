package httpserver

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"srs-proxy/balancer"
	"srs-proxy/protocol/hls"
)

func parseRequest(t *testing.T, target, host string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseTarget(t *testing.T) {
	tok := hls.Token("v", "live", "tok")
	tests := []struct {
		target string
		kind   kind
		stream string // vhost/app/name
		seg    string // app/name of segmentOf
		uri    string // "" means as it came
	}{
		{"/live/a.flv", live, "h/live/a", "", ""},
		{"/live/a.flv?vhost=w&token=%2F", live, "w/live/a", "", ""},
		{"/live/a.flv?", live, "h/live/a", "", "/live/a.flv"},
		{"/deep/app/a.flv", live, "h/deep/app/a", "", ""},
		{"/live/a.mp3", live, "h/live/a", "", ""},
		{"/live/a-1.flv", live, "h/live/a-1", "", ""},
		{"/live/a.ts", live, "h/live/a", "", ""},
		{"/live/a-12.ts", live, "h/live/a-12", "live/a", ""},
		{"/live/a-b-12.aac?x", live, "h/live/a-b-12", "live/a-b", ""},
		{"/live/a-.ts", live, "h/live/a-", "", ""},
		{"/live/-1.ts", live, "h/live/-1", "", ""},
		{"/live/a-1x.ts", live, "h/live/a-1x", "", ""},
		{"/live/x-12.ts?spbhid=" + tok, file, "v/live/tok", "", "/live/x-12.ts"},
		{"/live/x-12.ts?hls_ctx=1&spbhid=" + tok + "&b=2", file, "v/live/tok", "", "/live/x-12.ts?hls_ctx=1&b=2"},
		{"/live/a.flv?spbhid=" + tok, live, "h/live/a", "", "/live/a.flv"},
		{"/live/a.m3u8", playlist, "h/live/a", "", ""},
		{"/live/a.m3u8?hls_ctx=1&spbhid=" + tok, playlist, "v/live/a", "", "/live/a.m3u8?hls_ctx=1"},
		{"/live/a.mpd", file, "h/live/a", "", ""},
		{"/live/a/video-12.m4s", file, "h/live/a", "", ""},
		{"/live/a/audio-12.m4s", file, "h/live/a", "", ""},
		{"/live/a/video-init.mp4", file, "h/live/a", "", ""},
		{"/live/a/audio-init.mp4", file, "h/live/a", "", ""},
		{"/live/a/init.mp4", file, "h/live/a", "", ""},
		{"/deep/app/a/init.mp4", file, "h/deep/app/a", "", ""},
		{"/live/video-12.m4s", file, "h/live/video", "", ""},
		{"/live/init.mp4", file, "h/live/init", "", ""},
		{"/live/a-12.m4s", file, "h/live/a", "", ""},
		{"/live/a-b-12.key", file, "h/live/a-b", "", ""},
		{"/live/a.key", file, "h/live/a", "", ""},
		{"/live/a-12.vtt", file, "h/live/a", "", ""},
		{"/live/a-12.mp4", file, "h/live/a-12", "", ""},
		{"/live/a.1699.mp4", file, "h/live/a", "", ""},
		{"/", other, "__defaultVhost__/-//", "", ""},
		{"/players/", other, "__defaultVhost__/-//players/", "", ""},
		{"http://elsewhere/live/a.flv?x=1", live, "elsewhere/live/a", "", "/live/a.flv?x=1"},
		{"http://elsewhere", other, "__defaultVhost__/-/", "", "/"},
		{"//live/a.flv", live, "h/live/a", "", ""},
		{"/live/a%20b.m3u8?%zz", playlist, "h/live/ab", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.target, func(t *testing.T) {
			got, err := parseTarget(parseRequest(t, tt.target, "h:8080"))
			if err != nil {
				t.Fatal(err)
			}
			stream := got.stream.Vhost + "/" + got.stream.App + "/" + got.stream.Name
			seg := ""
			if got.segmentOf != nil {
				seg = got.segmentOf.App + "/" + got.segmentOf.Name
			}
			uri := tt.uri
			if uri == "" {
				uri = tt.target
			}
			if got.kind != tt.kind || stream != tt.stream || seg != tt.seg || got.uri() != uri {
				t.Errorf("got kind %d, stream %s, segment of %q, uri %s\nwant kind %d, stream %s, segment of %q, uri %s",
					got.kind, stream, seg, got.uri(), tt.kind, tt.stream, tt.seg, uri)
			}
		})
	}
}

func TestParseTargetRefuses(t *testing.T) {
	for name, target := range map[string]string{
		"control character": "/live/a%0d%0ab.flv",
		"NUL":               "/live/a%00.m3u8",
		"garbage token":     "/live/a-1.ts?spbhid=!!",
		"empty token":       "/live/a-1.ts?spbhid=",
		"too long":          "/live/" + strings.Repeat("a", 9000) + ".flv",
	} {
		if got, err := parseTarget(parseRequest(t, target, "h")); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// The key must be the same from every protocol, for any port and form of host.
func TestDefect8_VhostOfAnyHost(t *testing.T) {
	e := start(t, nil)
	for host, want := range map[string]string{
		"known.example": "known.example", "known.example:80": "known.example", "known.example:443": "known.example",
		"known.example:8080": "known.example", "other.example": balancer.DefaultVhost, "10.0.0.1": balancer.DefaultVhost,
		"[::1]:80": balancer.DefaultVhost, "[fe80::1]": balancer.DefaultVhost, "": balancer.DefaultVhost,
	} {
		tg, err := parseTarget(parseRequest(t, "/live/a.flv", host))
		if err != nil {
			t.Fatal(err)
		}
		if got := e.router.Stream(tg.stream); got != (balancer.Stream{Vhost: want, App: "live", Name: "a"}) {
			t.Errorf("host %q: %v", host, got)
		}
	}
}
