package origin

import (
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
)

const (
	rtpVideoRate = 90000 // Hz
	// rtpPayload leaves room for the headers of RTP, SRTP, TCP framing, UDP and IPv6
	// within 1,280 bytes, what every path carries.
	rtpPayload = 1200
)

// rtpMaker makes RTP packets of H.264 frames, once for all WebRTC players: the
// parameter sets go in one packet before each keyframe, large NAL units in
// fragments (RFC 6184 sections 5.7 and 5.8). Their audio is AAC, which browsers
// don't play; it is left out. So are B-frames: a WebRTC player shows frames in the
// order they come (SRS: keep_bframe off).
type rtpMaker struct {
	payloader codecs.H264Payloader
	seq       uint16
	es        []byte
}

// write sends one frame of the stream to the players.
func (m *rtpMaker) write(fan *rtcFan, f *frame, t tagInfo, v *videoInfo) {
	if f.kind != kindVideo || !t.coded || t.codec != codecH264 || len(v.params) == 0 {
		return
	}
	body := f.payload[t.body:]
	if t.cts != 0 && hasBSlice(body, v.lengthSize) {
		return
	}
	var ok bool
	if m.es, ok = appendAnnexB(m.es[:0], body, v, f.key); !ok {
		return
	}
	payloads := m.payloader.Payload(rtpPayload, m.es)
	ts := (f.time + uint32(t.cts)) * (rtpVideoRate / 1000) // wraps as it should
	for i, p := range payloads {
		m.seq++
		fan.send(rtcVideo, rtp.Header{SequenceNumber: m.seq, Timestamp: ts, Marker: i == len(payloads)-1}, p)
	}
	if cap(m.es) > 1<<20 {
		m.es = nil // a rare large frame must not stay
	}
}

// hasBSlice tells whether a frame of length-prefixed NAL units has a B slice.
func hasBSlice(body []byte, lengthSize int) bool {
	for len(body) > lengthSize {
		n := 0
		for _, b := range body[:lengthSize] {
			n = n<<8 | int(b)
		}
		body = body[lengthSize:]
		if n > len(body) {
			return false
		}
		if n > 1 && body[0]&0x1f == 1 {
			return isBSlice(body[1:n])
		}
		body = body[n:]
	}
	return false
}

// isBSlice reads slice_type, the second field of a slice header (ITU-T H.264
// section 7.3.3). Both fields are short, so emulation prevention can't be among them
// but where first_mb_in_slice is, and that is 0 in the first slice of a frame.
func isBSlice(p []byte) bool {
	bit := 0
	next := func() int {
		if bit>>3 >= len(p) {
			return -1
		}
		b := int(p[bit>>3]>>(7-bit&7)) & 1
		bit++
		return b
	}
	golomb := func() int { // ue(v), section 9.1
		zeros := 0
		for {
			switch next() {
			case 0:
				if zeros++; zeros > 16 {
					return -1
				}
				continue
			case -1:
				return -1
			}
			break
		}
		v := 1
		for range zeros {
			b := next()
			if b < 0 {
				return -1
			}
			v = v<<1 | b
		}
		return v - 1
	}
	golomb()
	kind := golomb()
	return kind == 1 || kind == 6
}
