package webrtc_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	pionrtc "github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"srs-proxy/balancer"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/testkit"
)

// srs is a real SRS with WebRTC over UDP and TCP.
type srs struct{ api, rtc netip.AddrPort }

const srsConfig = `
listen %d; max_connections 100;
http_api { enabled on; listen 127.0.0.1:%d; }
rtc_server { enabled on; listen %d; candidate 127.0.0.1; protocol all; tcp { enabled on; listen %d; } }
vhost __defaultVhost__ { rtc { enabled on; } }
`

func startSRS(t *testing.T) *srs {
	t.Helper()
	rtmp, api, rtc := testkit.FreePort(t), testkit.FreePort(t), testkit.FreePort(t)
	testkit.SRS(t, fmt.Sprintf(srsConfig, rtmp, api, rtc, rtc))
	loopback := netip.MustParseAddr("127.0.0.1")
	o := &srs{api: netip.AddrPortFrom(loopback, uint16(api)), rtc: netip.AddrPortFrom(loopback, uint16(rtc))}
	eventually(t, "SRS serves", func() bool {
		r, err := http.Get("http://" + o.api.String() + "/api/v1/versions")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return o
}

// connect does the signalling of a peer connection with SRS, as the proxy's own does:
// the session is known before the client learns the answer.
func (o *srs) connect(t *testing.T, s *server, pc *pionrtc.PeerConnection, kind, name string, role balancer.Role) webrtc.Session {
	t.Helper()
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := pionrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	url := fmt.Sprintf("http://%s/rtc/v1/%s/?app=live&stream=%s", o.api, kind, name)
	r, err := http.Post(url, "application/sdp", strings.NewReader(pc.LocalDescription().SDP))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s, %v: %s", kind, r.Status, err, body)
	}
	answer := string(body)
	se := webrtc.Session{
		LocalUfrag: attribute(t, answer, "ice-ufrag"), LocalPwd: attribute(t, answer, "ice-pwd"),
		RemoteUfrag: attribute(t, pc.LocalDescription().SDP, "ice-ufrag"),
		Stream:      balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: name}, Role: role,
		OriginID: "srs", UDP: o.rtc, TCP: o.rtc,
	}
	if !strings.Contains(r.Header.Get("Location"), "session="+se.Username()) {
		t.Errorf("Location = %q, username %q", r.Header.Get("Location"), se.Username())
	}
	add(t, s, se)
	port := fmt.Sprint(" ", s.at("127.0.0.1").Port, " typ host")
	answer = regexp.MustCompile(` \d+ typ host`).ReplaceAllString(answer, port)
	if err := pc.SetRemoteDescription(pionrtc.SessionDescription{Type: pionrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	return se
}

func attribute(t *testing.T, sdp, name string) string {
	t.Helper()
	m := regexp.MustCompile(`a=` + name + `:(\S+)`).FindStringSubmatch(sdp)
	if m == nil {
		t.Fatalf("no %s in %s", name, sdp)
	}
	return m[1]
}

func peerConnection(t *testing.T, network pionrtc.NetworkType) *pionrtc.PeerConnection {
	t.Helper()
	var engine pionrtc.SettingEngine
	engine.SetNetworkTypes([]pionrtc.NetworkType{network})
	engine.SetIncludeLoopbackCandidate(true)
	pc, err := pionrtc.NewAPI(pionrtc.WithSettingEngine(engine)).NewPeerConnection(pionrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	return pc
}

// A real client publishes to a real SRS and another plays it, by every transport.
func TestSRS(t *testing.T) {
	o := startSRS(t)
	for _, tt := range []struct{ publisher, player pionrtc.NetworkType }{
		{pionrtc.NetworkTypeUDP4, pionrtc.NetworkTypeUDP4},
		{pionrtc.NetworkTypeTCP4, pionrtc.NetworkTypeUDP4},
		{pionrtc.NetworkTypeUDP4, pionrtc.NetworkTypeTCP4},
	} {
		t.Run(fmt.Sprintf("%s to %s", tt.publisher, tt.player), func(t *testing.T) {
			name := fmt.Sprintf("%s-%s", tt.publisher, tt.player)
			s := start(t, webrtc.Config{TCP: true, Shards: 2})
			publisher, stop := publish(t, o, s, tt.publisher, name)
			defer stop()
			player := peerConnection(t, tt.player)
			packets := make(chan []byte, 1000)
			player.OnTrack(func(track *pionrtc.TrackRemote, _ *pionrtc.RTPReceiver) {
				for {
					p, _, err := track.ReadRTP()
					if err != nil {
						return
					}
					select {
					case packets <- p.Payload:
					default:
					}
				}
			})
			if _, err := player.AddTransceiverFromKind(pionrtc.RTPCodecTypeAudio, pionrtc.RTPTransceiverInit{Direction: pionrtc.RTPTransceiverDirectionRecvonly}); err != nil {
				t.Fatal(err)
			}
			watching := o.connect(t, s, player, "whep", name, balancer.Play)
			for range 50 {
				select {
				case p := <-packets:
					if string(p) != opusFrame {
						t.Fatalf("payload %q", p)
					}
				case <-time.After(10 * time.Second):
					t.Fatalf("no media; %+v", s.Stats())
				}
			}
			for _, se := range []webrtc.Session{publisher, watching} {
				in, ok := s.Lookup(se.Username())
				if !ok || !in.Media.IsValid() || in.BytesIn == 0 || in.BytesOut == 0 {
					t.Errorf("%+v, %v", in, ok)
				}
				if !s.Remove(se.Username()) {
					t.Errorf("%s had ended", se.Username())
				}
			}
		})
	}
}

// opusFrame is 20 ms of silence.
const opusFrame = "\xf8\xff\xfe"

func publish(t *testing.T, o *srs, s *server, network pionrtc.NetworkType, name string) (webrtc.Session, func()) {
	t.Helper()
	pc := peerConnection(t, network)
	track, err := pionrtc.NewTrackLocalStaticSample(pionrtc.RTPCodecCapability{MimeType: pionrtc.MimeTypeOpus}, "audio", "s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.AddTransceiverFromTrack(track, pionrtc.RTPTransceiverInit{Direction: pionrtc.RTPTransceiverDirectionSendonly}); err != nil {
		t.Fatal(err)
	}
	connected := make(chan struct{})
	pc.OnConnectionStateChange(func(st pionrtc.PeerConnectionState) {
		if st == pionrtc.PeerConnectionStateConnected {
			close(connected)
		}
	})
	se := o.connect(t, s, pc, "whip", name, balancer.Publish)
	select {
	case <-connected:
	case <-time.After(10 * time.Second):
		t.Fatalf("the publisher does not connect; %+v", s.Stats())
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			_ = track.WriteSample(media.Sample{Data: []byte(opusFrame), Duration: 20 * time.Millisecond})
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return se, func() { close(quit); <-done }
}
