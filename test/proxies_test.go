package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

const clusterKey = "open-sesame-4711-of-all-proxies"

// mediaSessions is how many WebRTC sessions a proxy's log has seen open or closed.
func (in *instance) mediaSessions(what string) (n int) {
	for line := range strings.Lines(in.err.String()) {
		if strings.Contains(line, "session "+what) && strings.Contains(line, "proto=webrtc") {
			n++
		}
	}
	return n
}

// Offers go to one proxy, media to another, DELETE to a third, whoever chose the
// session's credentials and whatever carries the media.
func TestWebRTCAcrossProxies(t *testing.T) {
	t.Parallel()
	_, _, proxy := sharing(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(clusterKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	media, third := proxy(1, "--cluster-key", clusterKey), proxy(1, "--cluster-key-file", key)
	offers := proxy(2, "--cluster-key-file", key, "--candidate", media.webrtc())
	for i := range 2 {
		rtc := offers.ports.base + i*perOrigin + 3
		newOutside(offers, i, "listen RTC;", fmt.Sprintf("listen %d; protocol all; tcp { enabled on; listen %d; }", rtc, rtc)).run()
	}
	for _, in := range []*instance{offers, media, third} {
		in.waitOrigins(2, 2, readyWithin)
	}
	const own = "&ice-ufrag=%s&ice-pwd=0123456789012345678901"
	opened := 0
	for i, tt := range []struct {
		name               string
		publisher, player  webrtc.NetworkType
		publishes, watches string
	}{
		{"UDP", webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP4, "", ""},
		{"TCP", webrtc.NetworkTypeTCP4, webrtc.NetworkTypeTCP4, "", ""},
		{"the clients' credentials", webrtc.NetworkTypeUDP4, webrtc.NetworkTypeTCP4, fmt.Sprintf(own, "publisher1"), fmt.Sprintf(own, "player12")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, q := "http://"+offers.api(), fmt.Sprintf("?app=live&stream=s%d", i)
			publisher := whipOpus(t, base, "/rtc/v1/whip/"+q+tt.publishes, tt.publisher)
			player := whepPlay(t, base, "/rtc/v1/whep/"+q+tt.watches, tt.player, webrtc.RTPCodecTypeAudio)
			player.receives(t, webrtc.MimeTypeOpus)
			opened += 2
			eventually(t, 10*time.Second, "both sessions are at the other proxy", func() (bool, string) {
				n := media.mediaSessions("open")
				return n == opened, fmt.Sprint(n)
			})
			if log := media.err.String(); strings.Count(log, fmt.Sprintf("stream=__defaultVhost__/live/s%d", i)) == 0 {
				t.Error("the other proxy does not know what it serves")
			}
			// The lease is the other proxy's by now; a second publisher meets the first.
			publisher.location = strings.Replace(publisher.location, offers.api(), third.api(), 1)
			player.location = strings.Replace(player.location, offers.api(), third.api(), 1)
			player.delete(t)
			publisher.delete(t)
			eventually(t, 5*time.Second, "both sessions ended", func() (bool, string) {
				n := media.mediaSessions("closed")
				return n == opened, fmt.Sprint(n)
			})
		})
	}
	// SRS's older API has no DELETE: a session ends with its media.
	t.Run("JSON", func(t *testing.T) {
		base, q := "http://"+offers.api(), "?app=live&stream=json"
		whipOpus(t, base, "/rtc/v1/publish/"+q, webrtc.NetworkTypeUDP4)
		whepPlay(t, base, "/rtc/v1/play/"+q, webrtc.NetworkTypeUDP4, webrtc.RTPCodecTypeAudio).receives(t, webrtc.MimeTypeOpus)
		opened += 2
		eventually(t, 10*time.Second, "both sessions are at the other proxy", func() (bool, string) {
			n := media.mediaSessions("open")
			return n == opened, fmt.Sprint(n)
		})
	})
	for _, in := range []*instance{offers, third} {
		if n := in.mediaSessions("open"); n != 0 {
			t.Errorf("%d sessions had media where they should not", n)
		}
	}
	for _, in := range []*instance{offers, media, third} {
		if strings.Contains(in.err.String(), clusterKey[:11]) || strings.Contains(in.out.String(), clusterKey[:11]) {
			t.Error("the key is in the log")
		}
	}
}

// The media of a proxy that is killed go on at the one that comes in its place: the
// session's name says where it is, also to a process that did not hear of it.
func TestWebRTCSurvivesItsProxy(t *testing.T) {
	t.Parallel()
	if suite.srs == "" {
		t.Skip("SRS_BINARY is not set, and the built-in origin follows no client to another address that does not nominate it")
	}
	_, _, proxy := sharing(t)
	media := proxy(1, "--cluster-key", clusterKey, "--drain-timeout", "0s") // its clients outlive it
	offers := proxy(1, "--cluster-key", clusterKey, "--candidate", media.webrtc())
	newOutside(offers, 0).run()
	for _, in := range []*instance{offers, media} {
		in.waitOrigins(1, 1, readyWithin)
	}
	base := "http://" + offers.api()
	whipOpus(t, base, "/rtc/v1/whip/?app=live&stream=a", webrtc.NetworkTypeUDP4)
	player := whepPlay(t, base, "/rtc/v1/whep/?app=live&stream=a", webrtc.NetworkTypeUDP4, webrtc.RTPCodecTypeAudio)
	player.receives(t, webrtc.MimeTypeOpus)
	media.signal(syscall.SIGKILL)
	<-media.ended
	killed := time.Now()
	for len(player.packets) > 0 {
		<-player.packets
	}
	media.again().start()
	player.receives(t, webrtc.MimeTypeOpus)
	t.Logf("media again %s after the kill", time.Since(killed).Round(time.Millisecond))
}

// hlsAcross walks from a stream's playlist to the newest segment, each step through the
// next proxy, and returns the addresses that it asked.
func hlsAcross(ctx context.Context, path string, proxies ...*instance) (asked []string, last reply, err error) {
	at := proxies[0].stream("m3u8", path)
	for i := 0; ; i++ {
		asked = append(asked, at)
		if last, err = fetch(ctx, http.MethodGet, at, nil); err != nil || last.code != http.StatusOK {
			return asked, last, fmt.Errorf("%s: HTTP %d %s, %w", at, last.code, last.body, err)
		}
		if !strings.Contains(at, ".m3u8") {
			return asked, last, nil
		}
		uri := ""
		for line := range strings.Lines(string(last.body)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				uri = line
			}
		}
		if at, err = through(proxies[(i+1)%len(proxies)], at, uri); err != nil || uri == "" {
			return asked, last, fmt.Errorf("%s names %q: %w\n%s", at, uri, err, last.body)
		}
	}
}

// through is a playlist's URI, asked of a proxy.
func through(in *instance, playlist, uri string) (string, error) {
	base, err := url.Parse(playlist)
	if err != nil {
		return "", err
	}
	u, err := base.Parse(uri)
	if err != nil {
		return "", err
	}
	u.Host = in.http()
	return u.String(), nil
}

// A master playlist of one proxy, the viewer's own of another, a segment of a third that
// saw neither; also when the stream's origin has become another one.
func TestHLSAcrossProxies(t *testing.T) {
	t.Parallel()
	_, _, proxy := sharing(t)
	a, b, c := proxy(3), proxy(1), proxy(1)
	origins := []*outside{newOutside(a, 0).run(), newOutside(a, 1).run(), newOutside(a, 2).run()}
	for _, in := range []*instance{a, b, c} {
		in.waitOrigins(3, 3, readyWithin)
	}
	pub := a.publish(t, "show")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var before []string
	walk := func(what string, proxies ...*instance) {
		t.Helper()
		eventually(t, 30*time.Second, what, func() (bool, string) {
			asked, segment, err := hlsAcross(ctx, "live/show", proxies...)
			if err != nil {
				return false, err.Error()
			}
			if len(segment.body)%188 != 0 || len(segment.body) == 0 || segment.body[0] != 'G' || !strings.EqualFold(segment.header.Get("Content-Type"), "video/MP2T") {
				t.Fatalf("%s: %d bytes of %s", asked[len(asked)-1], len(segment.body), segment.header.Get("Content-Type"))
			}
			before = asked
			return true, ""
		})
		if last := before[len(before)-1]; !strings.Contains(last, "spbhid=") {
			t.Errorf("a segment without a token: %s", last)
		}
	}
	walk("a segment through three proxies", a, b, c)
	if suite.srs != "" && !strings.Contains(before[1], "hls_ctx=") {
		t.Errorf("the viewer's playlist is %s", before[1])
	}
	viewer := before[1] // through b: with SRS the viewer's own playlist, else a segment

	home, _ := homeOf(t, "show", origins...)
	home.signal(syscall.SIGKILL)
	pub.stop()
	b.republish(t, "show", 15*time.Second)
	walk("a segment of the new origin", c, a, b)
	if strings.Contains(viewer, ".m3u8") {
		// A player goes on with what it was told by an origin that is gone: the new one
		// answers the first time with a master that names the same, as SRS does.
		eventually(t, 10*time.Second, "the viewer's playlist after the move", func() (bool, string) {
			r, err := fetch(ctx, http.MethodGet, viewer, nil)
			if err != nil || r.code != http.StatusOK {
				t.Fatalf("%s: %d %s, %v", viewer, r.code, r.body, err)
			}
			return strings.Contains(string(r.body), "#EXTINF"), string(r.body)
		})
	}
}
