package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
)

// rtcClient is a peer connection whose signalling went through the proxy.
type rtcClient struct {
	pc       *webrtc.PeerConnection
	location string
	packets  chan *webrtc.TrackRemote // one for each packet, of its track
}

// newRTC makes a peer connection for one network.
func newRTC(t *testing.T, network webrtc.NetworkType) *rtcClient {
	t.Helper()
	var engine webrtc.SettingEngine
	engine.SetNetworkTypes([]webrtc.NetworkType{network})
	engine.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(engine)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	return &rtcClient{pc: pc, packets: make(chan *webrtc.TrackRemote, 1000)}
}

// offer is what the client has to say, with all its candidates.
func (c *rtcClient) offer(t *testing.T) string {
	t.Helper()
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	return c.pc.LocalDescription().SDP
}

func (c *rtcClient) answer(t *testing.T, sdp string) {
	t.Helper()
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		t.Fatalf("%v in\n%s", err, sdp)
	}
}

// signal posts the offer to a path of the proxy's API as OBS does, and checks what WHIP
// (RFC 9725 section 4.2) says of the answer. To the paths of SRS's older API it posts as
// SRS's older players do.
func (c *rtcClient) signal(t *testing.T, base, path string) {
	t.Helper()
	if strings.HasPrefix(path, "/rtc/v1/publish/") || strings.HasPrefix(path, "/rtc/v1/play/") {
		c.signalJSON(t, base, path)
		return
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, strings.NewReader(c.offer(t)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/sdp")
	r.Header.Set("User-Agent", "Mozilla/5.0 (OBS-Studio/30.2.3; Linux x86_64; en-US)")
	resp, body := doRTC(t, r)
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("Content-Type") != "application/sdp" || !strings.HasPrefix(resp.Header.Get("Location"), "/rtc/v1/") {
		t.Fatalf("POST %s: %s %v\n%s", path, resp.Status, resp.Header, body)
	}
	c.location = base + resp.Header.Get("Location")
	c.answer(t, body)
}

// signalJSON is SRS's older API: what WHIP has in the query is in the body's streamurl.
func (c *rtcClient) signalJSON(t *testing.T, base, path string) {
	t.Helper()
	u, err := url.Parse(base + path)
	if err != nil {
		t.Fatal(err)
	}
	stream := "webrtc://" + u.Hostname() + "/" + u.Query().Get("app") + "/" + u.Query().Get("stream")
	u.RawQuery = ""
	body, err := json.Marshal(map[string]any{"api": u.String(), "streamurl": stream, "clientip": nil, "tid": "2b45a06", "sdp": c.offer(t)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, text := doRTC(t, r)
	var reply struct {
		Code      int
		SDP       string
		SessionID string
	}
	if err := json.Unmarshal([]byte(text), &reply); err != nil || resp.StatusCode != http.StatusOK || reply.Code != 0 || reply.SDP == "" || reply.SessionID == "" {
		t.Fatalf("POST %s of %s: %s %v\n%s", u.Path, stream, resp.Status, err, text)
	}
	c.answer(t, reply.SDP)
}

func doRTC(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// delete ends the session by the Location of its answer.
func (c *rtcClient) delete(t *testing.T) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, c.location, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, body := doRTC(t, r); resp.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %s %s", resp.Status, body)
	}
}

// silence is 20 ms of Opus.
const silence = "\xf8\xff\xfe"

// whipOpus publishes Opus until the test ends.
func whipOpus(t *testing.T, base, path string, network webrtc.NetworkType) *rtcClient {
	t.Helper()
	c := newRTC(t, network)
	track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}, "audio", "s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
		t.Fatal(err)
	}
	c.signal(t, base, path)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			_ = track.WriteSample(media.Sample{Data: []byte(silence), Duration: 20 * time.Millisecond})
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(quit); <-done })
	eventually(t, 20*time.Second, "the publisher is connected", func() (bool, string) {
		st := c.pc.ConnectionState()
		return st == webrtc.PeerConnectionStateConnected, st.String()
	})
	return c
}

// whepPlay plays.
func whepPlay(t *testing.T, base, path string, network webrtc.NetworkType, kinds ...webrtc.RTPCodecType) *rtcClient {
	t.Helper()
	c := newRTC(t, network)
	c.pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			select {
			case c.packets <- track:
			default:
			}
		}
	})
	for _, kind := range kinds {
		if _, err := c.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	c.signal(t, base, path)
	return c
}

// receives waits for packets of a codec.
func (c *rtcClient) receives(t *testing.T, mime string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for n := 0; n < 20; {
		select {
		case track := <-c.packets:
			if strings.EqualFold(track.Codec().MimeType, mime) {
				n++
			}
		case <-deadline:
			t.Fatalf("%d packets of %s; the connection is %s", n, mime, c.pc.ConnectionState())
		}
	}
}

// program is the file that the first origin runs: a result is worth nothing without
// knowing of what.
func (in *instance) program(t *testing.T) string {
	t.Helper()
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", in.originPIDs()[0]))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWebRTC: WHIP to WHEP on every transport and by every name of the stream, RTMP to
// WHEP, and DELETE ends a session at the origin.
func TestWebRTC(t *testing.T) {
	t.Parallel()
	in := up(t, 3)
	program := in.program(t)
	t.Logf("origins run %s", program)
	if (program == suite.binary) != (suite.srs == "") {
		t.Fatalf("SRS_BINARY is %q", suite.srs)
	}
	api, web := "http://"+in.api(), "http://"+in.http()
	publisher := whipOpus(t, api, "/rtc/v1/whip/?app=live&stream=a", webrtc.NetworkTypeUDP4)
	audio := webrtc.RTPCodecTypeAudio
	for _, tt := range []struct {
		name, base, path string
		network          webrtc.NetworkType
	}{
		{"WHEP", api, "/rtc/v1/whep/?app=live&stream=a", webrtc.NetworkTypeUDP4},
		{"over TCP", api, "/rtc/v1/whep/?app=live&stream=a", webrtc.NetworkTypeTCP4},
		{"on the HTTP port", web, "/rtc/v1/whip-play/?app=live&stream=a", webrtc.NetworkTypeUDP4},
		{"by a domain that nobody knows", api, "/rtc/v1/whep/?app=live&stream=a&vhost=elsewhere.example.org", webrtc.NetworkTypeUDP4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			whepPlay(t, tt.base, tt.path, tt.network, audio).receives(t, webrtc.MimeTypeOpus)
		})
	}
	t.Run("RTMP to WHEP", func(t *testing.T) {
		in.publish(t, "b")
		whepPlay(t, api, "/rtc/v1/whep/?app=live&stream=b", webrtc.NetworkTypeUDP4, webrtc.RTPCodecTypeVideo, audio).receives(t, webrtc.MimeTypeH264)
	})
	t.Run("publish over TCP", func(t *testing.T) {
		whipOpus(t, api, "/rtc/v1/whip/?app=live&stream=c&token=s3cret", webrtc.NetworkTypeTCP4)
		whepPlay(t, api, "/rtc/v1/whep/?app=live&stream=c", webrtc.NetworkTypeUDP4, audio).receives(t, webrtc.MimeTypeOpus)
	})
	t.Run("DELETE", func(t *testing.T) {
		publishers := func() (n int, all string) {
			clients := in.clientsOf(t)
			for _, c := range clients {
				if c.Publish && strings.Contains(strings.ToLower(c.Type), "rtc") {
					n++
				}
			}
			return n, fmt.Sprintf("%+v", clients)
		}
		before, _ := publishers()
		if before == 0 {
			t.Fatal("the origins show no publisher")
		}
		publisher.delete(t)
		eventually(t, 10*time.Second, "the origin has let go of the publisher", func() (bool, string) {
			n, all := publishers()
			return n < before, all
		})
		// The name is free again.
		whipOpus(t, api, "/rtc/v1/whip/?app=live&stream=a", webrtc.NetworkTypeUDP4)
	})
	if log := in.err.String() + in.out.String(); strings.Contains(log, "s3cret") {
		t.Error("a token of a query is in the log")
	}
}
