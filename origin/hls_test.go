package origin

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// playlistOf describes a window: "7=1000 D8=2000", D for a discontinuity.
func (h *hlsWindow) describe() (out []string) {
	for _, s := range h.segments {
		d := ""
		if s.discontinuity {
			d = "D"
		}
		out = append(out, d+strconv.FormatUint(s.seq, 10)+"="+strconv.FormatInt(s.duration, 10))
	}
	return out
}

func TestHLSWindow(t *testing.T) {
	t.Parallel()
	h := newHLSWindow("a", 2*time.Second, 6*time.Second)
	if now := uint64(time.Now().Unix()); h.next > now || h.next < now-5 {
		t.Errorf("the sequence begins with %d", h.next)
	}
	h.next = 7
	packet := make([]byte, tsPacketSize)

	h.add(packet, 500, false) // can't begin with
	for ms := int64(1000); ms <= 6500; ms += 500 {
		h.add(packet, ms, ms%1500 == 1000) // keys at 1000, 2500, 4000, 5500
	}
	if got, want := h.describe(), []string{"7=3000"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v: cut at the first keyframe past the fragment", got, want)
	}
	h.interrupt(6600)
	h.add(packet, 0, true) // another clock
	h.add(packet, 2000, true)
	if got, want := h.describe(), []string{"7=3000", "8=2600", "D9=2000"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	want := "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-TARGETDURATION:3\n" +
		"#EXTINF:3.000, no desc\na-7.ts?x=1\n#EXTINF:2.600, no desc\na-8.ts?x=1\n" +
		"#EXT-X-DISCONTINUITY\n#EXTINF:2.000, no desc\na-9.ts?x=1\n"
	if got := h.playlist("?x=1"); got != want {
		t.Errorf("playlist\n%s\nwant\n%s", got, want)
	}

	for ms := int64(4000); ms <= 14_000; ms += 2000 {
		h.add(packet, ms, true)
	}
	if got, want := h.describe(), []string{"13=2000", "14=2000", "15=2000"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := h.playlist(""); !strings.Contains(got, "#EXT-X-DISCONTINUITY-SEQUENCE:1\n") {
		t.Errorf("a discontinuity left the playlist without a trace:\n%s", got)
	}
	if h.find(15) == nil || h.find(10) == nil || h.find(9) != nil || h.find(16) != nil {
		t.Error("served are the segments of the playlist, and the three before them")
	}

	h.add(make([]byte, segmentMaxBytes+1), 14_500, false)
	h.add(packet, 14_600, false)
	h.add(packet, 14_700, false)
	if h.current != nil {
		t.Error("a segment without a keyframe grows without bound")
	}
}

func TestHLSViewersAreCounted(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.HLSWindow = 3 * time.Second
	cfg.MaxConnections = 50
	o := start(t, cfg)
	pub := o.publisher("a")
	pub.video(0, avcConfig())
	for i := range uint32(6) {
		pub.video(i*1000, avcFrame(true, 500))
	}
	o.awaitStream("/live/a", false, true)

	o.get(o.httpURL("/live/b.m3u8"), http.StatusNotFound)
	master := o.get(o.httpURL("/live/a.m3u8?token=t&vhost=x.example"), http.StatusOK)
	child := strings.TrimSpace(master[strings.LastIndex(strings.TrimSpace(master), "\n"):])
	u, err := url.Parse(child)
	if err != nil || u.Path != "/live/a.m3u8" || len(u.Query().Get("hls_ctx")) != 8 || u.Query().Get("token") != "t" {
		t.Fatalf("child playlist %q, %v", child, err)
	}
	media := o.get(o.httpURL(child), http.StatusOK)
	segments := regexp.MustCompile(`(?m)^a-\d+\.ts\?.*$`).FindAllString(media, -1)
	if len(segments) < 3 || !strings.Contains(segments[0], "hls_ctx="+u.Query().Get("hls_ctx")) || !strings.Contains(segments[0], "vhost=x.example") {
		t.Fatalf("segments %q", segments)
	}
	if ts := o.get(o.httpURL("/live/"+segments[0]), http.StatusOK); len(ts)%tsPacketSize != 0 || ts[0] != 0x47 {
		t.Errorf("segment of %d bytes", len(ts))
	}
	o.get(o.httpURL("/live/a-12345.ts"), http.StatusNotFound)

	viewer := func() (found *apiClient) {
		var r clientsReply
		o.api("/api/v1/clients/", &r)
		for _, c := range r.Clients {
			if c.Type == typeHLSPlay {
				found = &c
			}
		}
		return found
	}
	v := viewer()
	if v == nil || v.ID != u.Query().Get("hls_ctx") || v.Name != "a.m3u8" || v.SendBytes == 0 {
		t.Fatalf("viewer %+v", v)
	}
	req, err := http.NewRequest(http.MethodDelete, o.apiURL("/api/v1/clients/"+v.ID), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	o.get(o.httpURL(child), http.StatusNotFound) // kicked
	if v := viewer(); v != nil {
		t.Errorf("still there: %+v", v)
	}

	// A flood of first requests is bounded, and still plays.
	for range 60 {
		o.get(o.httpURL("/live/a.m3u8"), http.StatusOK)
	}
	o.hls.mu.Lock()
	n := len(o.hls.all)
	o.hls.mu.Unlock()
	if n != cfg.MaxConnections {
		t.Errorf("%d viewers, want at most %d", n, cfg.MaxConnections)
	}
	o.hls.expire(time.Now().Add(time.Minute))
	if v := viewer(); v != nil {
		t.Errorf("did not expire: %+v", v)
	}
}

// TestHLSOutlivesThePublication: players find the tail and the sequence goes on; in
// the end nothing stays.
func TestHLSOutlivesThePublication(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.HLSWindow, cfg.HLSDispose = 3*time.Second, 10*time.Second
	o := start(t, cfg)
	run := func() {
		pub := o.publisher("a")
		pub.video(0, avcConfig())
		for i := range uint32(3) {
			pub.video(i*1000, avcFrame(true, 500))
		}
		pub.call("FCUnpublish", nil, "a")
		pub.expectStatus("NetStream.Unpublish.Success")
		_ = pub.conn.Close()
	}
	run()
	key, _ := (&rtmpSession{o: o.Origin, tcURL: "rtmp://h/live"}).stream("a")
	first, ok := o.hub.find(key).awaitPlaylist(t.Context(), nil)
	if !ok || strings.Count(first, "#EXTINF") != 3 {
		t.Fatalf("after the publication the playlist is %q", first)
	}
	o.await("stream is free", func() bool { return !o.hub.publishing(o.hub.find(key)) })
	run()
	o.await("stream is free", func() bool { return !o.hub.publishing(o.hub.find(key)) })
	second, _ := o.hub.find(key).awaitPlaylist(t.Context(), nil)
	if strings.Count(second, "#EXT-X-DISCONTINUITY\n") != 1 {
		t.Errorf("a republish leaves no discontinuity:\n%s", second)
	}
	o.get(o.httpURL("/live/a.m3u8"), http.StatusOK) // a viewer, who keeps the stream
	o.hub.tick(time.Now().Add(cfg.HLSDispose - time.Second))
	if s := o.hub.find(key); s == nil || !s.hasHLS() {
		t.Fatal("the segments are gone too early")
	}
	o.hub.tick(time.Now().Add(cfg.HLSDispose + time.Second))
	if o.hub.find(key).hasHLS() {
		t.Error("the segments stay for as long as somebody polls")
	}
	o.get(o.httpURL("/live/a.m3u8"), http.StatusNotFound)
	o.hls.expire(time.Now().Add(time.Minute))
	if o.hub.find(key) != nil {
		t.Error("the stream stays for ever")
	}
}
