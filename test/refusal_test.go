package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestMissingFiles: the origin's 404 is the client's 404.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	for _, path := range []string{
		"/live/nobody.m3u8", "/live/nobody-3.ts", "/live/nobody.mp4", "/live/nobody-3.m4s", "/live/nobody/init.mp4",
		"/live/nobody.mpd", "/live/nobody-3.key", "/live/nobody.vtt", "/nobody.html", "/a/b/c/d.js",
	} {
		t.Run(path, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if r := get(t, ctx, "http://"+in.http()+path, nil); r.code != http.StatusNotFound {
				t.Errorf("HTTP %d %s, want 404", r.code, r.body)
			}
		})
	}
}

// TestRefusedPublish: what the origin's hook forbids, the client sees forbidden.
func TestRefusedPublish(t *testing.T) {
	t.Parallel()
	needSRS(t, "http_hooks are SRS's")
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no", http.StatusForbidden)
	}))
	t.Cleanup(hook.Close)
	in := up(t, 2, "--vhosts", writeFile(t, "vhosts.conf", fmt.Sprintf(
		"vhost hooked.example.org { http_hooks { enabled on; on_publish %s/publish; } }\n", hook.URL)))

	url := "rtmp://" + in.rtmp() + "/live?vhost=hooked.example.org"
	pub, err := startPublisher(in.rtmp(), url, "a")
	if err == nil {
		pub.stop()
		t.Fatal("a publish that the hook refuses is let in")
	}
	var refused *statusError
	if !errors.As(err, &refused) {
		t.Errorf("the client sees %v, want the origin's onStatus", err)
	}
	t.Logf("the client sees: %v", err)

	ffmpeg := ffmpegPublish(t, url+"/a")
	if code := ffmpeg.waitEnd(t, 15*time.Second); code == 0 || !strings.Contains(ffmpeg.out.String(), "Server error") {
		t.Errorf("ffmpeg: exit code %d, %q; want the server's error", code, ffmpeg.out.String())
	}
	// Others may still publish.
	in.publish(t, "b")
}
