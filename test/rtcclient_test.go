package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"

	"srs-proxy/protocol/rtmp"
)

// newPeerConnection makes a WebRTC client that uses loopback, over one network.
func newPeerConnection(network webrtc.NetworkType) (*webrtc.PeerConnection, error) {
	var set webrtc.SettingEngine
	set.SetNetworkTypes([]webrtc.NetworkType{network})
	set.SetIncludeLoopbackCandidate(true)
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	return webrtc.NewAPI(webrtc.WithSettingEngine(set)).NewPeerConnection(webrtc.Configuration{})
}

// negotiate posts an offer to WHIP or WHEP, takes the answer and waits until media
// can flow. It returns the session's Location.
func negotiate(ctx context.Context, pc *webrtc.PeerConnection, url, host string) (location string, err error) {
	connected := make(chan webrtc.PeerConnectionState, 8)
	pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		select {
		case connected <- s:
		default:
		}
	})
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(offer.SDP))
	if err != nil {
		return "", err
	}
	req.Host = host
	req.Header.Set("Content-Type", "application/sdp")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("%s: HTTP %s %s", url, resp.Status, answer)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer)}); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", url, err, answer)
	}
	for {
		select {
		case s := <-connected:
			if s == webrtc.PeerConnectionStateConnected {
				return resp.Header.Get("Location"), nil
			}
		case <-ctx.Done():
			return "", fmt.Errorf("%s: not connected: %w\n%s", url, ctx.Err(), answer)
		}
	}
}

// whip publishes the clip's video, and silence, in a loop until the test ends.
func whip(t *testing.T, url, host string) {
	t.Helper()
	pc, err := newPeerConnection(webrtc.NetworkTypeUDP4)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	var tracks []*webrtc.TrackLocalStaticSample
	for _, mime := range []string{webrtc.MimeTypeH264, webrtc.MimeTypeOpus} {
		track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: mime}, mime[:5], "clip")
		if err != nil {
			t.Fatal(err)
		}
		sender, err := pc.AddTrack(track)
		if err != nil {
			t.Fatal(err)
		}
		go func() { // the library answers NACKs while somebody reads
			for {
				if _, _, err := sender.ReadRTCP(); err != nil {
					return
				}
			}
		}()
		tracks = append(tracks, track)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := negotiate(ctx, pc, url, host); err != nil {
		_ = pc.Close()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(stop)
		<-done
		_ = pc.Close()
	})
	go func() {
		defer close(done)
		sendClip(tracks[0], tracks[1], stop)
	}()
}

func sendClip(video, audio *webrtc.TrackLocalStaticSample, stop chan struct{}) {
	units := suite.clip.annexB()
	const frame, packet = time.Second / 15, 20 * time.Millisecond
	tick := time.NewTicker(packet)
	defer tick.Stop()
	var sent time.Duration
	for begun, i := time.Now(), 0; ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		_ = audio.WriteSample(media.Sample{Data: []byte{0xf8, 0xff, 0xfe}, Duration: packet})
		for ; sent < time.Since(begun); sent += frame {
			if video.WriteSample(media.Sample{Data: units[i%len(units)], Duration: frame}) != nil {
				return
			}
			i++
		}
	}
}

// annexB are the clip's video frames with start codes, parameter sets before each
// keyframe.
func (c *clip) annexB() (out [][]byte) {
	code := []byte{0, 0, 0, 1}
	var sets []byte
	for _, m := range c.headers {
		if m.Type != rtmp.TypeVideo {
			continue
		}
		for p := m.Payload[5+5:]; len(p) > 3; { // one SPS, then one PPS, behind a count and a length each
			n := int(binary.BigEndian.Uint16(p[1:]))
			sets = append(append(sets, code...), p[3:3+n]...)
			p = p[3+n:]
		}
	}
	for _, m := range c.frames {
		if m.Type != rtmp.TypeVideo {
			continue
		}
		var unit []byte
		if m.Payload[0]>>4 == 1 {
			unit = append(unit, sets...)
		}
		for p := m.Payload[5:]; len(p) > 4; {
			n := int(binary.BigEndian.Uint32(p))
			unit = append(append(unit, code...), p[4:4+n]...)
			p = p[4+n:]
		}
		out = append(out, unit)
	}
	return out
}

// whep plays until so many video packets came, with a keyframe among them.
func whep(ctx context.Context, url, host string, network webrtc.NetworkType, packets int64) error {
	pc, err := newPeerConnection(network)
	if err != nil {
		return err
	}
	defer func() { _ = pc.Close() }()
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return err
		}
	}
	var video, keys atomic.Int64
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			if track.Kind() == webrtc.RTPCodecTypeVideo && len(p.Payload) > 1 {
				video.Add(1)
				if beginsKeyframe(p.Payload) {
					keys.Add(1)
				}
			}
		}
	})
	if _, err := negotiate(ctx, pc, url, host); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for video.Load() < packets || keys.Load() == 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %d video packets, %d keyframes: %w", url, video.Load(), keys.Load(), ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// beginsKeyframe looks for parameter sets or the start of an IDR picture in a packet
// of H.264 (RFC 6184 section 5.2).
func beginsKeyframe(p []byte) bool {
	switch p[0] & 0x1f {
	case 5, 7, 24:
		return true
	case 28:
		return p[1]&0x80 != 0 && p[1]&0x1f == 5
	}
	return false
}
