package origin

import (
	"slices"
	"testing"
)

func TestEveryProtocolPlays(t *testing.T) {
	t.Parallel()
	file := clip(t)
	o := start(t, testConfig())
	o.publish(file, "/live/a")
	o.awaitStream("/live/a", true, true)

	both := []string{"aac", "h264"}
	for _, tt := range []struct {
		name, url string
		want      []string
	}{
		{"rtmp", o.rtmpURL("/live/a"), both},
		{"rtmp with a token", o.rtmpURL("/live/a?token=x"), both},
		{"http-flv", o.httpURL("/live/a.flv"), both},
		{"http-flv with vhost", o.httpURL("/live/a.flv?vhost=unknown.example"), both},
		{"http-ts", o.httpURL("/live/a.ts"), both},
		{"hls", o.httpURL("/live/a.m3u8"), both},
		{"aac", o.httpURL("/live/a.aac"), []string{"aac"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			codecs, _ := probe(t, tt.url)
			slices.Sort(codecs)
			if !slices.Equal(codecs, tt.want) {
				t.Errorf("ffprobe found %v, want %v", codecs, tt.want)
			}
		})
	}
}
