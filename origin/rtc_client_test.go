package origin

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/pion/webrtc/v4/pkg/media/h264reader"
)

// rtcConfig is testConfig with WebRTC.
func rtcConfig() Config {
	cfg := testConfig()
	cfg.RTC = RTC{
		Listen: "127.0.0.1:0", TCPListen: "127.0.0.1:0", Protocol: "all", Candidate: "127.0.0.1",
		FromRTMP: true, ToRTMP: true, KeyframeEvery: time.Hour, Timeout: 9 * time.Second,
	}
	return cfg
}

// rtcClient is a WHIP or WHEP client.
type rtcClient struct {
	t        *testing.T
	pc       *webrtc.PeerConnection
	location string
	answer   string
	state    chan webrtc.PeerConnectionState
}

// newRTC makes a client that uses UDP or TCP alone.
func newRTC(t *testing.T, network webrtc.NetworkType) *rtcClient {
	t.Helper()
	var set webrtc.SettingEngine
	set.SetNetworkTypes([]webrtc.NetworkType{network})
	set.SetIncludeLoopbackCandidate(true)
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(set)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	c := &rtcClient{t: t, pc: pc, state: make(chan webrtc.PeerConnectionState, 16)}
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		select {
		case c.state <- s:
		default:
		}
	})
	t.Cleanup(func() { _ = pc.Close() })
	return c
}

// offer posts an offer and returns the status; 201 is taken as an answer.
func (c *rtcClient) offer(url string) int {
	c.t.Helper()
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.pc.SetLocalDescription(offer); err != nil {
		c.t.Fatal(err)
	}
	resp, body := request(c.t, http.MethodPost, url, offer.SDP)
	if resp.StatusCode != http.StatusCreated {
		return resp.StatusCode
	}
	c.location, c.answer = resp.Header.Get("Location"), body
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: body}); err != nil {
		c.t.Fatalf("answer: %v\n%s", err, body)
	}
	return resp.StatusCode
}

func (c *rtcClient) connect(url string) {
	c.t.Helper()
	if status := c.offer(url); status != http.StatusCreated {
		c.t.Fatalf("%s: status %d", url, status)
	}
	c.await(webrtc.PeerConnectionStateConnected)
}

func (c *rtcClient) await(want webrtc.PeerConnectionState) {
	c.t.Helper()
	end := time.After(20 * time.Second)
	for {
		select {
		case s := <-c.state:
			if s == want {
				return
			}
		case <-end:
			c.t.Fatalf("connection is not %s in 20 s\n%s", want, c.answer)
		}
	}
}

func request(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/sdp")
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// rtcPublisher sends a clip in a loop, as a browser does: a keyframe when it is
// asked for one, here the start of the clip.
type rtcPublisher struct {
	*rtcClient
	video, audio *webrtc.TrackLocalStaticSample
	asked        atomic.Int64
	stop         chan struct{}
	done         chan struct{}
}

func (o *testOrigin) whip(clip, name string, network webrtc.NetworkType) *rtcPublisher {
	o.t.Helper()
	p := o.whipTracks(network)
	p.connect(o.apiURL("/rtc/v1/whip/?app=live&stream=" + name))
	p.send(clip)
	return p
}

func (o *testOrigin) whipTracks(network webrtc.NetworkType) *rtcPublisher {
	o.t.Helper()
	p := &rtcPublisher{rtcClient: newRTC(o.t, network), stop: make(chan struct{}), done: make(chan struct{})}
	var err error
	if p.video, err = webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264}, "v", "s"); err != nil {
		o.t.Fatal(err)
	}
	if p.audio, err = webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "a", "s"); err != nil {
		o.t.Fatal(err)
	}
	for _, t := range []webrtc.TrackLocal{p.video, p.audio} {
		sender, err := p.pc.AddTrack(t)
		if err != nil {
			o.t.Fatal(err)
		}
		go func() {
			for {
				packets, _, err := sender.ReadRTCP()
				if err != nil {
					return
				}
				for _, r := range packets {
					if _, ok := r.(*rtcp.PictureLossIndication); ok {
						p.asked.Add(1)
					}
				}
			}
		}()
	}
	return p
}

// send sends the H.264 of a clip, and silence, until the client is closed.
func (p *rtcPublisher) send(clip string) {
	units := annexBUnits(p.t, clip)
	p.t.Cleanup(func() { p.quit(); <-p.done })
	go func() {
		defer close(p.done)
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		asked := p.asked.Load()
		for i := 0; ; i++ {
			if n := p.asked.Load(); n != asked {
				asked, i = n, 0
			}
			if i == len(units) {
				i = 0
			}
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
			_ = p.audio.WriteSample(media.Sample{Data: []byte{0xf8, 0xff, 0xfe}, Duration: 40 * time.Millisecond})
			if err := p.video.WriteSample(media.Sample{Data: units[i], Duration: 40 * time.Millisecond}); err != nil {
				return
			}
		}
	}()
}

func (p *rtcPublisher) quit() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
}

// annexBUnits are the access units of a clip, with start codes.
func annexBUnits(t *testing.T, clip string) (out [][]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clip.h264")
	f := startFFmpeg(t, "-i", clip, "-an", "-c", "copy", "-bsf:v", "h264_mp4toannexb,h264_metadata=aud=remove", "-f", "h264", path)
	<-f.done
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: %s", err, f.out)
	}
	r, err := h264reader.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var unit []byte
	for {
		nal, err := r.NextNAL()
		if err != nil {
			return out
		}
		unit = append(append(unit, 0, 0, 0, 1), nal.Data...)
		if nal.UnitType == h264reader.NalUnitTypeCodedSliceIdr || nal.UnitType == h264reader.NalUnitTypeCodedSliceNonIdr {
			out, unit = append(out, unit), nil
		}
	}
}

// rtcViewer is a WHEP client that counts what it gets.
type rtcViewer struct {
	*rtcClient
	video, audio, keys, wrong atomic.Int64
}

func (o *testOrigin) whepTracks(network webrtc.NetworkType) *rtcViewer {
	o.t.Helper()
	v := &rtcViewer{rtcClient: newRTC(o.t, network)}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := v.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			o.t.Fatal(err)
		}
	}
	v.pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		var seq uint16
		for first := true; ; first = false {
			p, _, err := t.ReadRTP()
			if err != nil {
				return
			}
			if !first && p.SequenceNumber != seq+1 {
				v.wrong.Add(1)
			}
			seq = p.SequenceNumber
			if t.Kind() == webrtc.RTPCodecTypeAudio {
				v.audio.Add(1)
				continue
			}
			v.video.Add(1)
			if len(p.Payload) > 0 && p.Payload[0]&0x1f == 24 { // STAP-A: parameter sets of a keyframe
				v.keys.Add(1)
			}
		}
	})
	return v
}

func (o *testOrigin) whep(name string, network webrtc.NetworkType) *rtcViewer {
	o.t.Helper()
	v := o.whepTracks(network)
	v.connect(o.apiURL("/rtc/v1/whep/?app=live&stream=" + name))
	return v
}

// awaitKeyframe waits for a picture and some more.
func (v *rtcViewer) awaitKeyframe() {
	v.t.Helper()
	keys, video := v.keys.Load(), v.video.Load()
	await(v.t, "keyframe by WHEP", func() bool { return v.keys.Load() > keys && v.video.Load() > video+25 })
}
