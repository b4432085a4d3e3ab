package hls

import (
	"os"
	"testing"
	"time"
)

func TestParseWindow(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want Window
		ok   bool
	}{
		"one":              {"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2.000, no desc\na-0.ts\n", Window{0, 0, 2 * time.Second}, true},
		"window":           {"#EXTM3U\r\n#EXT-X-MEDIA-SEQUENCE:7\r\n#EXTINF:2,\r\na-7.ts\r\n#EXT-X-DISCONTINUITY\r\n#EXTINF:2,\r\na-8.ts\r\n", Window{7, 8, 0}, true},
		"sequence at end":  {"#EXTM3U\n#EXTINF:1,\na\n#EXT-X-MEDIA-SEQUENCE: 9\n", Window{}, false},
		"blanks":           {"\ufeff#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:9 \t\n#EXTINF:1,\na", Window{9, 9, 0}, true},
		"long target":      {"#EXTM3U\n#EXT-X-TARGETDURATION:9223372036854775807\n#EXTINF:1,\na", Window{0, 0, time.Hour}, true},
		"negative target":  {"#EXTM3U\n#EXT-X-TARGETDURATION:-1\n#EXTINF:1,\na", Window{}, false},
		"negative":         {"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-1\n#EXTINF:1,\na", Window{}, false},
		"overflow":         {"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:9223372036854775807\n#EXTINF:1,\na\n#EXTINF:1,\nb\n", Window{}, false},
		"not a number":     {"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:x\n#EXTINF:1,\na", Window{}, false},
		"nothing listed":   {"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:3\n", Window{}, false},
		"master":           {"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n/live/a.m3u8?hls_ctx=1\n", Window{}, false},
		"no playlist":      {"#EXTINF:1,\na", Window{}, false},
		"empty":            {"", Window{}, false},
		"discontinuity no": {"#EXTM3U\n#EXT-X-DISCONTINUITY-SEQUENCE:5\n#EXTINF:1,\na", Window{}, true},
	} {
		if got, ok := ParseWindow([]byte(tt.in)); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: got %+v, %v, want %+v, %v", name, got, ok, tt.want, tt.ok)
		}
	}
}

func TestFind(t *testing.T) {
	const list = "#EXTM3U\n#EXTINF:2,\na-0.ts?hls_ctx=1\r\n#EXTINF:2,\n/live/b/xa-1.ts\r\n#EXT-X-DISCONTINUITY\n#EXTINF:2,\nhttp://cdn/x/a-12.ts\n#EXTINF:2,\na-3.ts#t\n#EXTINF:2,\na-4.ts"
	for name, want := range map[string]int{
		"a-0.ts": 0, "xa-1.ts": 1, "a-12.ts": 2, "a-3.ts": 3, "a-4.ts": 4, "a-0.ts?hls_ctx=1": 0,
		"a-1.ts": -1, "a-2.ts": -1, "a-0": -1, "-0.ts": -1, "x": -1, "": -1, "#EXTM3U": -1,
	} {
		if got, ok := Find([]byte(list), name); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %d, %v", name, got, ok)
		}
	}
}

func TestCutContext(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "hls_ctx=a": "", "hls_ctx": "", "x=1": "x=1", "hls_ctx=a&x=1": "x=1", "x=1&hls_ctx=a&y=%20&&hls_ctx=b": "x=1&y=%20&", "my_hls_ctx=1": "my_hls_ctx=1",
	} {
		if got := CutContext(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzParseWindow(f *testing.F) {
	for _, name := range []string{"srs-media", "srs-fmp4", "low-latency", "master"} {
		b, err := os.ReadFile("testdata/" + name + ".m3u8")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		Find(b, "a-1.ts")
		w, ok := ParseWindow(b)
		if ok && (w.First < 0 || w.Last < w.First || w.Target < 0 || w.Target > time.Hour) {
			t.Errorf("%q: %+v", b, w)
		}
	})
}

// The playlist of each poll is read once more for its window.
func BenchmarkParseWindow(b *testing.B) {
	in, err := os.ReadFile("testdata/srs-media.m3u8")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := ParseWindow(in); !ok {
			b.Fatal("no window")
		}
	}
}
