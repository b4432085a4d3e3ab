package origin

import (
	"strings"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// keyframePause is the least time between two requests for a keyframe to one
// publisher: players that join together are helped by one.
const keyframePause = 300 * time.Millisecond

// rtpMax is the largest packet that is taken; more than any network has.
const rtpMax = 1600

// rtcIngress is the media side of a publisher's session.
type rtcIngress struct {
	x      *rtcSession
	pub    *publication
	frames *rtpFrames // H.264 for the others' players; nil where it is not made

	mu        sync.Mutex // guards the following
	videoSSRC uint32
	askedAt   time.Time
	asking    bool           // another request goes out when the pause is over
	taken     [rtcKinds]bool // a track of that kind is here; others are ignored
}

// begin takes the stream over.
func (x *rtcSession) begin(codecs [rtcKinds]*webrtc.RTPCodecParameters) {
	in := &rtcIngress{x: x, pub: x.stream.begin()}
	x.ingress = in
	var mimes [rtcKinds]string
	var rates [rtcKinds]uint32
	for kind, c := range codecs {
		if c != nil {
			mimes[kind], rates[kind] = c.MimeType, c.ClockRate
		}
	}
	in.pub.packets = true
	x.stream.rtc.publish(mimes, rates, in.askKeyframe)
	if x.s.cfg.ToRTMP && strings.EqualFold(mimes[rtcVideo], webrtc.MimeTypeH264) {
		in.frames = newRTPFrames(in.pub, in.askKeyframe)
	}
	x.pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		kind := rtcAudio
		if t.Kind() == webrtc.RTPCodecTypeVideo {
			kind = rtcVideo
		}
		x.read(func() { x.readRTCP(r.ReadRTCP) })
		x.read(func() { in.read(t, kind) })
	})
}

// read moves packets until the session ends.
func (in *rtcIngress) read(t *webrtc.TrackRemote, kind int) {
	mine := in.take(kind, uint32(t.SSRC()))
	if mine && kind == rtcVideo {
		in.askKeyframe()
	}
	buf := make([]byte, rtpMax)
	var p rtp.Packet
	for {
		n, _, err := t.Read(buf)
		if err != nil {
			return
		}
		in.x.meter.in.Add(int64(n))
		if !mine || p.Unmarshal(buf[:n]) != nil {
			continue
		}
		p.Header.PaddingSize = p.PaddingSize
		in.x.stream.rtc.send(kind, p.Header, p.Payload)
		if kind == rtcVideo && in.frames != nil {
			in.frames.push(p.SequenceNumber, p.Timestamp, p.Marker, p.Payload, time.Now())
		}
	}
}

// take tells whether this is the first track of its kind.
func (in *rtcIngress) take(kind int, ssrc uint32) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.taken[kind] {
		return false
	}
	in.taken[kind] = true
	if kind == rtcVideo {
		in.videoSSRC = ssrc
	}
	return true
}

// askKeyframe sends a picture loss indication (RFC 4585 section 6.3.1), at once or,
// where that would be too soon after the last one, a moment later: who joined in
// between has not seen the keyframe that it brought.
func (in *rtcIngress) askKeyframe() {
	in.mu.Lock()
	ssrc, now := in.videoSSRC, time.Now()
	wait := in.askedAt.Add(keyframePause).Sub(now)
	switch {
	case ssrc == 0 || in.asking:
		in.mu.Unlock()
		return
	case wait > 0:
		in.asking = true
		in.mu.Unlock()
		time.AfterFunc(wait, in.askAgain)
		return
	}
	in.askedAt = now
	in.mu.Unlock()
	_ = in.x.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}}) // another will follow
}

func (in *rtcIngress) askAgain() {
	in.mu.Lock()
	in.asking = false
	in.mu.Unlock()
	in.askKeyframe()
}
