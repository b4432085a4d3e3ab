package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSRT: what is published over SRT is played over everything, the other way round
// where the origin can, and by its domain, as libsrt's callers do it.
func TestSRT(t *testing.T) {
	t.Parallel()
	in := up(t, 3)
	srtPublish(t, in.srtURL("#!::r=live/a,m=publish"))
	srtPublish(t, in.srtURL("#!::h=studio.example.org,r=live/b,m=publish,token=s3cret"))
	in.publish(t, "c")

	for _, url := range []string{
		in.stream("rtmp", "live/a"), in.stream("flv", "live/a"), in.stream("m3u8", "live/a"),
		in.srtURL("#!::r=live/a,m=request"), in.srtURL("live/a"),
		in.stream("rtmp", "live/b") + "?vhost=elsewhere.example.org", in.srtURL("#!::h=live/b,m=request"),
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			checkCodecs(t, url, "aac", "h264")
		})
	}
	t.Run("RTMP to SRT", func(t *testing.T) {
		t.Parallel()
		if suite.srs != "" {
			t.Skip("SRS gives SRT players what came over SRT, and nothing else")
		}
		checkCodecs(t, in.srtURL("#!::r=live/c,m=request"), "aac", "h264")
	})
	t.Run("real client", func(t *testing.T) {
		t.Parallel()
		// Each session is a peer of its own, which leads back to its client.
		peers := make(map[string]bool)
		eventually(t, 10*time.Second, "SRT publishers at the origins", func() (bool, string) {
			clients := in.clientsOf(t)
			for _, c := range clients {
				if c.Publish && strings.HasPrefix(c.IP, "127.") && c.IP != "127.0.0.1" {
					peers[c.IP] = true
				}
			}
			return len(peers) >= 2, fmt.Sprintf("%+v", clients)
		})
	})
	t.Cleanup(func() {
		if log := in.err.String() + in.out.String(); strings.Contains(log, "s3cret") {
			t.Error("a token of a stream id is in the log")
		}
	})
}

// TestSRTPassphrase: keys are agreed on by client and origin; the proxy has none.
func TestSRTPassphrase(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../srs.tmpl.conf")
	if err != nil {
		t.Fatal(err)
	}
	const passphrase = "a-long-passphrase"
	template := filepath.Join(t.TempDir(), "srt.tmpl.conf")
	locked := strings.Replace(string(text), "connect_timeout 4000;", "connect_timeout 4000; passphrase "+passphrase+"; pbkeylen 16;", 1)
	if err := os.WriteFile(template, []byte(locked), 0o600); err != nil {
		t.Fatal(err)
	}
	in := up(t, 2, "--template", template)
	key := "&passphrase=" + passphrase
	srtPublish(t, in.srtURL("#!::r=live/a,m=publish")+key)
	checkCodecs(t, in.srtURL("#!::r=live/a,m=request")+key, "aac", "h264")
	checkCodecs(t, in.stream("flv", "live/a"), "aac", "h264")
	for _, other := range []string{"", "&passphrase=another-passphrase"} {
		if found, err := codecs(t, in.srtURL("#!::r=live/a,m=request")+other); err == nil {
			t.Errorf("with %q it plays: %v", other, found)
		}
	}
}

// TestSRTOriginDies: over UDP nobody hangs up when a process dies. The publisher is told
// all the same, long before libsrt would give up (5 s), and can come back at once.
func TestSRTOriginDies(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	url := in.srtURL("#!::r=live/a,m=publish")
	publisher := srtPublish(t, url)
	pid := 0
	eventually(t, 20*time.Second, "the stream is on an origin", func() (bool, string) {
		for _, o := range in.status().Origins {
			if len(o.publishing(t)) > 0 {
				pid = o.PID
			}
		}
		return pid != 0, ""
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	publisher.waitEnd(t, 4*time.Second)
	t.Logf("the publisher ended %s after its origin", time.Since(killed).Round(time.Millisecond))
	srtPublish(t, url)
	checkCodecs(t, in.stream("rtmp", "live/a"), "aac", "h264")
}

func (in *instance) srtURL(id string) string {
	return "srt://" + in.srt() + "?streamid=" + id
}

// srtPublish streams the clip in a loop over SRT until the test ends.
func srtPublish(t *testing.T, url string) *tool {
	t.Helper()
	return startTool(t, "ffmpeg", "-hide_banner", "-loglevel", "warning", "-nostdin", "-re", "-stream_loop", "-1", "-i", suite.clip.path,
		"-c", "copy", "-f", "mpegts", url)
}
