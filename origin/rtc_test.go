package origin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
)

func TestWHIPToEveryPlayer(t *testing.T) {
	t.Parallel()
	file := clip(t)
	o := start(t, rtcConfig())
	p := o.whip(file, "a", webrtc.NetworkTypeUDP4)
	o.awaitStream("/live/a", false, true)

	for _, network := range []webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeTCP4} {
		t.Run("whep over "+network.String(), func(t *testing.T) {
			asked := p.asked.Load()
			v := o.whep("a", network)
			v.awaitKeyframe()
			await(t, "audio", func() bool { return v.audio.Load() > 10 })
			await(t, "request for a keyframe", func() bool { return p.asked.Load() > asked })
			if n := v.wrong.Load(); n > 0 {
				t.Errorf("%d gaps in the sequence", n)
			}
		})
	}
	for _, url := range []string{o.rtmpURL("/live/a"), o.httpURL("/live/a.flv"), o.httpURL("/live/a.ts"), o.httpURL("/live/a.m3u8")} {
		t.Run(url[strings.LastIndexAny(url, ":")+6:], func(t *testing.T) {
			if codecs, _ := probe(t, url); !slices.Equal(codecs, []string{"h264"}) {
				t.Errorf("ffprobe found %v, want h264", codecs)
			}
		})
	}
}

// TestKeyframesForOthers: players of other protocols can't ask for one.
func TestKeyframesForOthers(t *testing.T) {
	t.Parallel()
	file := clip(t)
	cfg := rtcConfig()
	cfg.RTC.KeyframeEvery = 400 * time.Millisecond
	o := start(t, cfg)
	p := o.whip(file, "a", webrtc.NetworkTypeUDP4)
	await(t, "requests for keyframes", func() bool { return p.asked.Load() > 3 })
}

func TestRTMPToWHEP(t *testing.T) {
	t.Parallel()
	file := clip(t)
	o := start(t, rtcConfig())
	early := o.whep("a", webrtc.NetworkTypeUDP4) // before there is a publisher
	pub := o.publish(file, "/live/a")
	o.awaitStream("/live/a", true, true)
	late := o.whep("a", webrtc.NetworkTypeUDP4)
	early.awaitKeyframe()
	late.awaitKeyframe()

	// The next publisher goes on where the last one ended, here by WebRTC.
	pub.stop()
	o.await("the end of the publication", func() bool {
		var r streamsReply
		o.api("/api/v1/streams/", &r)
		return len(r.Streams) == 1 && !r.Streams[0].Publish.Active
	})
	o.whip(file, "a", webrtc.NetworkTypeUDP4)
	early.awaitKeyframe()
	late.awaitKeyframe()
	for _, v := range []*rtcViewer{early, late} {
		if n := v.wrong.Load(); n > 0 {
			t.Errorf("%d gaps in the sequence", n)
		}
	}
}

func TestRTCClientsInTheAPI(t *testing.T) {
	t.Parallel()
	file := clip(t)
	o := start(t, rtcConfig())
	p := o.whip(file, "a", webrtc.NetworkTypeUDP4)
	v := o.whep("a", webrtc.NetworkTypeUDP4)
	v.awaitKeyframe()

	clients := func() map[string]apiClient {
		var r clientsReply
		o.api("/api/v1/clients/", &r)
		all := make(map[string]apiClient)
		for _, c := range r.Clients {
			all[c.Type] = c
		}
		return all
	}
	all := clients()
	pub, play := all["rtc-publish"], all["rtc-play"]
	if !pub.Publish || pub.RecvBytes == 0 || pub.IP != "127.0.0.1" {
		t.Errorf("publisher %+v", pub)
	}
	if play.Publish || play.SendBytes == 0 {
		t.Errorf("player %+v", play)
	}

	// One more publisher is refused, the first is not harmed.
	second := o.whipTracks(webrtc.NetworkTypeUDP4)
	if status := second.offer(o.apiURL("/rtc/v1/whip/?app=live&stream=a")); status != http.StatusConflict {
		t.Errorf("second publisher: status %d, want 409", status)
	}
	v.awaitKeyframe()

	// Kicked by the API, deleted by the client.
	if resp, body := request(t, http.MethodDelete, o.apiURL("/api/v1/clients/"+play.ID), ""); resp.StatusCode != http.StatusOK {
		t.Errorf("kick: %s %s", resp.Status, body)
	}
	v.await(webrtc.PeerConnectionStateClosed)
	if resp, _ := request(t, http.MethodDelete, o.apiURL(strings.Replace(p.location, "token=", "token=x", 1)), ""); resp.StatusCode != http.StatusForbidden {
		t.Errorf("DELETE with another token: status %d, want 403", resp.StatusCode)
	}
	if len(clients()) != 1 {
		t.Errorf("clients %+v, want the publisher", clients())
	}
	if resp, body := request(t, http.MethodDelete, o.apiURL(p.location), ""); resp.StatusCode != http.StatusOK || body != "" {
		t.Errorf("DELETE: %s %q", resp.Status, body)
	}
	p.await(webrtc.PeerConnectionStateClosed)
	o.await("no clients", func() bool { return len(clients()) == 0 })
	third := o.whipTracks(webrtc.NetworkTypeUDP4)
	third.connect(o.apiURL("/rtc/v1/whip/?app=live&stream=a"))
}

// TestRTCClientThatVanishes: no bye, no DELETE.
func TestRTCClientThatVanishes(t *testing.T) {
	t.Parallel()
	cfg := rtcConfig()
	cfg.RTC.Timeout = 2 * time.Second
	o := start(t, cfg)
	v := o.whepTracks(webrtc.NetworkTypeUDP4)
	offer, err := v.pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, _ := request(t, http.MethodPost, o.apiURL("/rtc/v1/whep/"), offer.SDP) // and no more is heard of it
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("status %d", resp.StatusCode)
	}
	o.await("the session's end", func() bool {
		o.rtc.mu.Lock()
		defer o.rtc.mu.Unlock()
		return len(o.rtc.sessions) == 0 && len(o.rtc.ufrags) == 0
	})
	if n, _, _ := o.hub.counts(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}

func TestRTCAnswers(t *testing.T) {
	t.Parallel()
	o := start(t, rtcConfig())
	v := o.whepTracks(webrtc.NetworkTypeUDP4)
	offer, err := v.pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	sendOnly := strings.ReplaceAll(offer.SDP, "recvonly", "sendonly")
	tests := []struct {
		name, method, url, body string
		status                  int
	}{
		{"options", http.MethodOptions, "/rtc/v1/whip/", "", http.StatusOK},
		{"patch", http.MethodPatch, "/rtc/v1/whip/?session=a:b", "a=candidate:x", http.StatusMethodNotAllowed},
		{"get", http.MethodGet, "/rtc/v1/whep/", "", http.StatusMethodNotAllowed},
		{"no SDP", http.MethodPost, "/rtc/v1/whip/", "bad", http.StatusBadRequest},
		{"recvonly to publish", http.MethodPost, "/rtc/v1/whip/", offer.SDP, http.StatusBadRequest},
		{"sendonly to play", http.MethodPost, "/rtc/v1/whep/", sendOnly, http.StatusBadRequest},
		{"short ufrag", http.MethodPost, "/rtc/v1/whep/?ice-ufrag=abc", offer.SDP, http.StatusBadRequest},
		{"short pwd", http.MethodPost, "/rtc/v1/whep/?ice-pwd=abc", offer.SDP, http.StatusBadRequest},
		{"codecs that nobody has", http.MethodPost, "/rtc/v1/whep/", strings.ReplaceAll(offer.SDP, "H264/", "H111/"), http.StatusBadRequest},
		{"larger than any SDP", http.MethodPost, "/rtc/v1/whip/", strings.Repeat("a", maxSDP+1), http.StatusBadRequest},
		{"delete without a token", http.MethodDelete, "/rtc/v1/whip/?session=a:b", "", http.StatusBadRequest},
		{"delete of one that is gone", http.MethodDelete, "/rtc/v1/whip/?session=a:b&token=x", "", http.StatusOK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if resp, body := request(t, tt.method, o.apiURL(tt.url), tt.body); resp.StatusCode != tt.status {
				t.Errorf("%s %s: status %d, want %d: %s", tt.method, tt.url, resp.StatusCode, tt.status, body)
			}
		})
	}
	if n, _, _ := o.hub.counts(); n != 0 {
		t.Errorf("%d clients are left of refused requests", n)
	}

	const ufrag, pwd = "abcd1234+/", "0123456789012345678901+/"
	url := o.apiURL("/rtc/v1/whip-play/?app=live&stream=b&eip=192.0.2.7:9000&ice-ufrag=abcd1234%2B/&ice-pwd=0123456789012345678901%2B/")
	resp, answer := request(t, http.MethodPost, url, offer.SDP)
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("Content-Type") != "application/sdp" {
		t.Errorf("status %s, Content-Type %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	if loc := resp.Header.Get("Location"); !strings.HasPrefix(loc, "/rtc/v1/whip/?action=delete&token=") || !strings.Contains(loc, "&app=live&stream=b&session=abcd1234%2B%2F:") {
		t.Errorf("Location %s", loc)
	}
	for _, want := range []string{
		"a=ice-lite", "a=ice-ufrag:" + ufrag, "a=ice-pwd:" + pwd, "a=setup:passive",
		" udp 2130706431 192.0.2.7 9000 typ host", " tcp 2130706431 192.0.2.7 9000 typ host tcptype passive",
		" udp 2130706431 127.0.0.1 ",
	} {
		if !strings.Contains(answer, want) {
			t.Errorf("answer without %q:\n%s", want, answer)
		}
	}
	if n := strings.Count(answer, "a=candidate:"); n != 8 {
		t.Errorf("%d candidates, want 4 in each of 2 sections:\n%s", n, answer)
	}
}

func TestRTCJSON(t *testing.T) {
	t.Parallel()
	o := start(t, rtcConfig())
	v := o.whepTracks(webrtc.NetworkTypeUDP4)
	offer, err := v.pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	post := func(path string, body any) (reply struct {
		apiHead
		SDP       string
		SessionID string
	}) {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		resp, text := request(t, http.MethodPost, o.apiURL(path), string(b))
		if err := json.Unmarshal([]byte(text), &reply); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s", path, resp.Status, text)
		}
		return reply
	}
	type body = map[string]string
	for _, bad := range []any{"text", body{}, body{"sdp": offer.SDP}, body{"streamurl": "webrtc://h/live/j", "sdp": "x"}} {
		if r := post("/rtc/v1/play/", bad); r.Code != 400 || r.SDP != "" {
			t.Errorf("%v: %+v", bad, r)
		}
	}
	r := post("/rtc/v1/play/", body{"sdp": offer.SDP, "streamurl": "webrtc://h/live/j?vhost=x", "clientip": "192.0.2.9"})
	if r.Code != 0 || r.Server == "" || !strings.Contains(r.SessionID, ":") {
		t.Errorf("reply %+v", r)
	}
	if err := v.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: r.SDP}); err != nil {
		t.Fatal(err)
	}
	v.await(webrtc.PeerConnectionStateConnected)
	var all clientsReply
	o.api("/api/v1/clients/", &all)
	if len(all.Clients) != 1 || all.Clients[0].URL != "/live/j" || all.Clients[0].IP != "192.0.2.9" {
		t.Errorf("clients %+v", all.Clients)
	}
}
