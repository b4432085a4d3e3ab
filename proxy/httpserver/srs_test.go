package httpserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/testkit"
)

// These tests run against SRS itself: SRS_BINARY names the executable.

const srsConf = `
listen 127.0.0.1:RTMP;
max_connections 200;
http_server { enabled on; listen 127.0.0.1:HTTP; dir DIR/html; }
vhost __defaultVhost__ {
    http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
    hls { enabled on; hls_path DIR/html; hls_fragment 1; hls_window 10; }
    dash { enabled on; dash_path DIR/html; dash_fragment 1; dash_update_period 1; }
}
vhost ts.example { http_remux { enabled on; mount [vhost]/[app]/[stream].ts; } }
vhost aac.example { http_remux { enabled on; mount [vhost]/[app]/[stream].aac; } }
vhost mp3.example { http_remux { enabled on; mount [vhost]/[app]/[stream].mp3; } }
vhost keys.example {
    hls { enabled on; hls_path DIR/html; hls_m3u8_file keys/[stream].m3u8; hls_ts_file keys/[stream]-[seq].ts; hls_fragment 1; hls_window 10;
        hls_keys on; hls_fragments_per_key 2; hls_key_file keys/[stream]-[seq].key; hls_key_file_path DIR/html; hls_key_url /; }
}
vhost hooks.example {
    http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
    http_hooks { enabled on; on_play HOOK; }
}
`

// srs is one SRS process.
type srs struct{ rtmp, http string }

func startSRS(t *testing.T, hook string) srs {
	t.Helper()
	testkit.NeedTools(t, "ffmpeg", "ffprobe")
	o := srs{rtmp: testkit.FreeAddr(t), http: testkit.FreeAddr(t)}
	testkit.SRS(t, strings.NewReplacer("127.0.0.1:RTMP", o.rtmp, "127.0.0.1:HTTP", o.http, "HOOK", hook).Replace(srsConf))
	eventually(t, "SRS listens", func() bool { return testkit.Listens(o.rtmp) && testkit.Listens(o.http) })
	return o
}

// media makes a file of ten seconds of H.264 and the given audio codec.
func media(t *testing.T, audio string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), audio+".flv")
	out, err := exec.Command("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25", "-f", "lavfi", "-i", "sine=440:sample_rate=44100",
		"-t", "10", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "25", "-c:a", audio, "-y", file).CombinedOutput()
	if err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	return file
}

// publish publishes a file straight to an origin, in a loop, and pins the stream
// there as the proxy's RTMP side would.
func publish(t *testing.T, e *env, o srs, file, vhost, name string) {
	t.Helper()
	l, err := e.bal.Pick(context.Background(), balancer.Request{Stream: balancer.Stream{Vhost: vhost, App: "live", Name: name}, Role: balancer.Publish, Exclude: []string{"o1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.bal.Release(context.Background(), l) })
	testkit.Start(t, t.TempDir(), "ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", file, "-c", "copy", "-f", "flv",
		fmt.Sprintf("rtmp://%s/live?vhost=%s/%s", o.rtmp, vhost, name))
}

// codecs is what ffprobe finds in a URL.
func codecs(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ffprobe", "-v", "error", "-allowed_extensions", "ALL", "-show_entries", "stream=codec_name", "-of", "csv=p=0", url).Output()
	if err != nil {
		out, err = exec.CommandContext(ctx, "ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", url).Output()
	}
	if err != nil {
		t.Errorf("ffprobe %s: %v", url, err)
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

func TestSRS(t *testing.T) {
	hook := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) })
	o, other := startSRS(t, "http://"+hook+"/"), startSRS(t, "http://"+hook+"/")
	e := start(t, nil, o.http, other.http)
	h264aac, h264mp3 := media(t, "aac"), media(t, "libmp3lame")

	publish(t, e, o, h264aac, balancer.DefaultVhost, "a")
	publish(t, e, o, h264aac, "ts.example", "a")
	publish(t, e, o, h264aac, "aac.example", "a")
	publish(t, e, o, h264mp3, "mp3.example", "a")
	publish(t, e, o, h264aac, "keys.example", "k")
	publish(t, e, o, h264aac, "hooks.example", "h")
	// By now SRS has seen audio and video: before that it guesses what an FLV has.
	eventually(t, "a playlist is there", func() bool { resp, _ := e.get("/live/a.m3u8"); return resp.StatusCode == 200 })
	base := "http://" + e.addr
	t.Run("live", func(t *testing.T) {
		for path, want := range map[string]string{
			"/live/a.flv": "h264 aac",
			"/live/a.flv?vhost=" + balancer.DefaultVhost:    "h264 aac",
			"/live/a.ts?vhost=ts.example&token=x":           "h264 aac",
			"/live/a.aac?vhost=aac.example":                 "aac",
			"/live/a.mp3?vhost=mp3.example":                 "mp3",
			"/live/a.flv?vhost=unknown.example&token=a%20b": "h264 aac",
		} {
			if got := codecs(t, base+path); !sameWords(got, want) {
				t.Errorf("%s: %q, want %q", path, got, want)
			}
		}
	})
	t.Run("play before publish", func(t *testing.T) {
		// The player waits on the origin where the publisher will be: with its lease it
		// decides where that is.
		eventually(t, "earlier sessions are over", func() bool { return e.router.Sessions() == 0 })
		early := e.dial("GET /live/early.flv HTTP/1.1\r\nHost: x\r\n\r\n")
		defer early.Close()
		var to srs
		eventually(t, "the player holds a lease", func() bool {
			statuses, _ := e.bal.Origins(t.Context())
			for i, st := range statuses {
				if st.Players == 1 {
					to = []srs{o, other}[i]
				}
			}
			return to != srs{}
		})
		testkit.Start(t, t.TempDir(), "ffmpeg", "-v", "error", "-re", "-i", h264aac, "-c", "copy", "-f", "flv", "rtmp://"+to.rtmp+"/live/early")
		if head := early.head(); !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Errorf("the player got %q", head)
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		c := e.dial("GET /live/a.flv HTTP/1.0\r\n\r\n")
		defer c.Close()
		c.head()
		c.expect("FLV\x01")
	})
	t.Run("answers are the origin's", func(t *testing.T) {
		for _, path := range []string{"/live/missing.m3u8", "/missing.flv", "/live/missing-1.ts", "/live/missing.mp4", "/live/a.mpd", "/live/a/video-init.mp4", "/"} {
			direct, directBody := (&env{t: t, addr: o.http}).get(path)
			got, body := e.get(path)
			if got.StatusCode != direct.StatusCode || got.Header.Get("Content-Type") != direct.Header.Get("Content-Type") ||
				got.Header.Get("Server") != direct.Header.Get("Server") || !strings.HasSuffix(path, ".mpd") && body != directBody {
				t.Errorf("%s: %d %v %q, straight %d %v %q", path, got.StatusCode, got.Header, body, direct.StatusCode, direct.Header, directBody)
			}
		}
		live := "GET /live/a.flv HTTP/1.1\r\nHost: x\r\nOrigin: http://page\r\n\r\n"
		proxied, straight := e.dial(live), (&env{t: t, addr: o.http}).dial(live)
		defer proxied.Close()
		got, direct := proxied.head(), straight.head()
		if drop := regexp.MustCompile("(?i)connection: [a-z-]+\r\n"); drop.ReplaceAllString(got, "") != drop.ReplaceAllString(direct, "") {
			t.Errorf("%q, straight %q", got, direct)
		}
	})
	t.Run("HLS", func(t *testing.T) {
		for _, tt := range []struct{ path, want string }{
			{"/live/a.m3u8?token=secret", "/live/a.m3u8?token=secret"},
			{"/keys/k.m3u8?vhost=keys.example", "/keys/k.m3u8?vhost=keys.example"},
		} {
			eventually(t, "a playlist is there", func() bool { resp, _ := e.get(tt.path); return resp.StatusCode == 200 })
			_, master := e.get(tt.path)
			child := lastLine(master)
			if !strings.Contains(child, "hls_ctx=") || !strings.Contains(child, "spbhid=") {
				t.Fatalf("%s: master %q", tt.path, master)
			}
			eventually(t, "a segment is there", func() bool { _, list := e.get(child); return strings.Contains(list, ".ts") })
			resp, list := e.get(child)
			if ct := resp.Header.Get("Content-Type"); ct != "application/vnd.apple.mpegurl" {
				t.Errorf("Content-Type %q", ct)
			}
			dir := tt.path[:strings.LastIndex(tt.path, "/")+1]
			segment := dir + lastLine(list)
			seg, body := e.get(segment)
			if !strings.Contains(segment, "spbhid=") || seg.StatusCode != 200 || seg.Header.Get("Content-Type") != "video/MP2T" || len(body) == 0 {
				t.Errorf("%s: %d %v, %d bytes", segment, seg.StatusCode, seg.Header, len(body))
			}
			// The token alone routes: the same segment, its stream's name not in the path.
			if m := regexp.MustCompile(`URI="([^"]+)"`).FindStringSubmatch(list); m != nil {
				if key, body := e.get(m[1]); key.StatusCode != 200 || len(body) != 16 || !strings.Contains(m[1], "spbhid=") {
					t.Errorf("%s: %d, %d bytes", m[1], key.StatusCode, len(body))
				}
			} else if strings.Contains(tt.path, "keys") {
				t.Errorf("no key in %q", list)
			}
			if got := codecs(t, base+tt.path); !sameWords(got, "h264 aac") {
				t.Errorf("%s: %q", tt.path, got)
			}
		}
	})
	t.Run("DASH", func(t *testing.T) {
		eventually(t, "a manifest with segments is there", func() bool {
			_, mpd := e.get("/live/a.mpd")
			return strings.Contains(mpd, "<S t=")
		})
		for path, want := range map[string]string{"/live/a/video-init.mp4": "video/mp4", "/live/a/audio-init.mp4": "video/mp4"} {
			if resp, body := e.get(path); resp.StatusCode != 200 || resp.Header.Get("Content-Type") != want || len(body) == 0 {
				t.Errorf("%s: %d %v, %d bytes", path, resp.StatusCode, resp.Header, len(body))
			}
		}
		_, mpd := e.get("/live/a.mpd")
		number := regexp.MustCompile(`startNumber="(\d+)"`).FindStringSubmatch(mpd)
		if number == nil {
			t.Fatalf("manifest %q", mpd)
		}
		if resp, body := e.get("/live/a/video-" + number[1] + ".m4s"); resp.StatusCode != 200 || len(body) == 0 {
			t.Errorf("segment: %d, %d bytes", resp.StatusCode, len(body))
		}
	})
	t.Run("a play that a hook refuses", func(t *testing.T) {
		resp, body := e.get("/live/h.flv?vhost=hooks.example")
		if resp.StatusCode != 502 || !strings.Contains(body, "may have refused") {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		for path, want := range map[string]string{"/live/a.flv": "video/x-flv", "/live/a.m3u8": "application/vnd.apple.mpegurl", "/live/a/video-init.mp4": "video/mp4"} {
			if resp, _ := e.do("HEAD", path); resp.StatusCode != 200 || resp.Header.Get("Content-Type") != want {
				t.Errorf("HEAD %s: %d %v", path, resp.StatusCode, resp.Header)
			}
		}
	})
	t.Run("a client that leaves frees SRS", func(t *testing.T) {
		c := e.dial("GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n")
		c.head()
		if _, err := io.CopyN(io.Discard, c.br, 1000); err != nil {
			t.Fatal(err)
		}
		c.Close()
		eventually(t, "the session is over", func() bool { return e.Stats().Active == 0 })
	})
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// sameWords compares without order and repetition: ffprobe lists streams as they
// come, and those of a program twice.
func sameWords(a, b string) bool {
	words := func(s string) string {
		w := strings.Fields(s)
		slices.Sort(w)
		return strings.Join(slices.Compact(w), " ")
	}
	return words(a) == words(b)
}
