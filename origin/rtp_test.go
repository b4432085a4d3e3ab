package origin

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"srs-proxy/protocol/streamurl"
)

// rtpRig feeds packets into rtpFrames and lists the video tags that come of them.
type rtpRig struct {
	r     *rtpFrames
	pl    *player
	asked int
	now   time.Time
}

func newRTPRig() *rtpRig {
	s := newStream(newHub(DefaultConfig()), streamurl.Stream{Vhost: streamurl.DefaultVhost, App: "live", Name: "a"}, "")
	rig := &rtpRig{pl: &player{q: newQueue()}, now: time.Unix(1, 0)}
	s.play(rig.pl)
	rig.r = newRTPFrames(s.begin(), func() { rig.asked++ })
	return rig
}

func (rig *rtpRig) push(packets ...rtp.Packet) {
	for _, p := range packets {
		rig.r.push(p.SequenceNumber, p.Timestamp, p.Marker, p.Payload, rig.now)
	}
}

func (rig *rtpRig) tags() (out []string) {
	frames, _ := rig.pl.q.take(nil, 1<<30)
	for _, f := range frames {
		t := parseVideoTag(f.payload)
		kind := "frame"
		switch {
		case t.config:
			kind = "config"
		case t.key:
			kind = "key"
		}
		out = append(out, fmt.Sprintf("%s@%d", kind, f.time))
	}
	return out
}

// rtpStream packetizes a keyframe each third frame, 40 ms apart, from a sequence
// number that wraps soon.
func rtpStream(frames int) (out [][]rtp.Packet) {
	config := avcConfig()
	var v videoInfo
	if v.parseAVC(config[5:]) != nil {
		panic("avcConfig")
	}
	var payloader codecs.H264Payloader
	seq, ts := uint16(65530), uint32(1<<32-5000)
	for i := range frames {
		es := []byte{0, 0, 0, 1, 0x41}
		if i%3 == 0 {
			es = append(bytes.Clone(v.params), 0, 0, 0, 1, 0x65)
		}
		es = append(es, bytes.Repeat([]byte{byte(i + 1)}, 3000)...)
		var frame []rtp.Packet
		payloads := payloader.Payload(rtpPayload, es)
		for k, p := range payloads {
			frame = append(frame, rtp.Packet{Header: rtp.Header{SequenceNumber: seq, Timestamp: ts, Marker: k == len(payloads)-1}, Payload: p})
			seq++
		}
		out = append(out, frame)
		ts += 3600
	}
	return out
}

func TestRTPFrames(t *testing.T) {
	all := []string{"config@0", "key@0", "frame@40", "frame@80", "key@120", "frame@160", "frame@200"}
	tests := []struct {
		name  string
		feed  func(rig *rtpRig, frames [][]rtp.Packet)
		want  []string
		asked bool
	}{
		{"in order", func(rig *rtpRig, f [][]rtp.Packet) { rig.push(slices.Concat(f...)...) }, all, false},
		{"each frame backwards but for its first", func(rig *rtpRig, f [][]rtp.Packet) {
			for _, frame := range f {
				slices.Reverse(frame[1:])
				rig.push(frame...)
			}
		}, all, false},
		{"everything twice", func(rig *rtpRig, f [][]rtp.Packet) {
			for _, p := range slices.Concat(f...) {
				rig.push(p, p)
			}
		}, all, false},
		{"a packet that comes again in time", func(rig *rtpRig, f [][]rtp.Packet) {
			rig.push(f[0]...)
			rig.push(f[1][0], f[1][2])
			rig.push(f[2]...)
			rig.now = rig.now.Add(rtpPatience / 2)
			rig.push(f[1][1])
			rig.push(slices.Concat(f[3:]...)...)
		}, all, false},
		{"a packet that never comes", func(rig *rtpRig, f [][]rtp.Packet) {
			rig.push(f[0]...)
			rig.push(f[1][0], f[1][2])
			rig.now = rig.now.Add(rtpPatience * 2)
			rig.push(slices.Concat(f[2:]...)...)
		}, []string{"config@0", "key@0", "key@120", "frame@160", "frame@200"}, true},
		{"a frame without its marker", func(rig *rtpRig, f [][]rtp.Packet) {
			f[1][len(f[1])-1].Marker = false
			rig.push(slices.Concat(f...)...)
		}, all, false},
		{"no keyframe at first", func(rig *rtpRig, f [][]rtp.Packet) { rig.push(slices.Concat(f[1:]...)...) },
			[]string{"config@80", "key@80", "frame@120", "frame@160"}, false},
		{"probes without payload", func(rig *rtpRig, f [][]rtp.Packet) {
			seq := f[0][0].SequenceNumber
			for i, p := range slices.Concat(f...) {
				p.SequenceNumber = seq + uint16(2*i)
				rig.push(p, rtp.Packet{Header: rtp.Header{SequenceNumber: p.SequenceNumber + 1, Timestamp: p.Timestamp}})
			}
		}, all, false},
		{"a sender that starts over", func(rig *rtpRig, f [][]rtp.Packet) {
			rig.push(slices.Concat(f[:3]...)...)
			for _, p := range slices.Concat(f[3:]...) {
				p.SequenceNumber += 20000
				rig.push(p)
			}
		}, all, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rig := newRTPRig()
			tt.feed(rig, rtpStream(6))
			if got := rig.tags(); !slices.Equal(got, tt.want) {
				t.Errorf("tags %q, want %q", got, tt.want)
			}
			if (rig.asked > 0) != tt.asked {
				t.Errorf("asked for a keyframe %d times, want any: %v", rig.asked, tt.asked)
			}
			if rig.r.held != 0 {
				t.Errorf("%d packets are still held", rig.r.held)
			}
		})
	}
}

// TestRTPFrameWithoutEnd: a publisher can't make us keep more than a frame's bound.
func TestRTPFrameWithoutEnd(t *testing.T) {
	rig := newRTPRig()
	payload := append([]byte{28, 0x05}, make([]byte, 1400)...) // the middle of a fragmented unit, for ever
	for i := range 3 * frameMax / len(payload) {
		rig.r.push(uint16(i), 0, false, payload, rig.now)
	}
	if rig.r.pieces > frameMax {
		t.Errorf("%d bytes are kept", rig.r.pieces)
	}
	if rig.asked == 0 {
		t.Error("the frame was not given up")
	}
}

func FuzzRTPFrames(f *testing.F) {
	for _, frame := range rtpStream(2) {
		for _, p := range frame {
			f.Add(p.Payload, uint16(1), true)
		}
	}
	f.Add([]byte{24, 0xff, 0xff, 1}, uint16(0), false)
	f.Fuzz(func(_ *testing.T, payload []byte, step uint16, marker bool) {
		rig := newRTPRig()
		frames := rtpStream(3)
		rig.push(frames[0]...)
		seq := frames[1][0].SequenceNumber
		for i := range uint16(4) {
			rig.r.push(seq+i*step, uint32(i/2), marker, payload, rig.now)
			rig.now = rig.now.Add(rtpPatience)
		}
		rig.push(frames[2]...)
	})
}

// TestRTCLane: over publishers the sequence has no gap and the clock goes forward.
func TestRTCLane(t *testing.T) {
	l := rtcLane{rate: 90000}
	now := time.Unix(100, 0)
	seq, ts := l.place(65535, 1<<32-1, now)
	if seq != 65535 || ts != 1<<32-1 {
		t.Errorf("the first packet is at %d, %d", seq, ts)
	}
	if seq, _ = l.place(0, 3599, now); seq != 0 {
		t.Errorf("the next one at %d", seq)
	}
	if seq, _ = l.place(65534, 0, now); seq != 65534 {
		t.Errorf("a late one at %d", seq)
	}
	l.based = false // another publisher, two seconds later
	seq, ts = l.place(777, 555, now.Add(2*time.Second))
	if seq != 1 || ts != 3599+180000 {
		t.Errorf("the first packet of the next publisher is at %d, %d; want 1, %d", seq, ts, 3599+180000)
	}
	if seq, ts = l.place(778, 555+3600, now.Add(2*time.Second)); seq != 2 || ts != 3599+183600 {
		t.Errorf("its second is at %d, %d", seq, ts)
	}
}

func TestBSlices(t *testing.T) {
	tests := []struct {
		name  string
		slice []byte // behind the NAL unit's header
		want  bool
	}{
		{"P", []byte{0x80 | 0x40}, false},             // first_mb 0 "1", type 0 "1"
		{"B", []byte{0x80 | 0x20}, true},              // type 1 "010"
		{"I", []byte{0x80 | 0x30}, false},             // type 2 "011"
		{"P everywhere", []byte{0x80 | 0x18}, false},  // type 5 "00110"
		{"B everywhere", []byte{0x80 | 0x1c}, true},   // type 6 "00111"
		{"cut", []byte{0x00}, false},                  // no end of the first number
		{"nothing", nil, false},                       //
		{"long zeros", make([]byte, 100), false},      //
		{"first_mb 1, B", []byte{0x40 | 0x08}, true},  // "010" "010"
		{"first_mb 1, P", []byte{0x40 | 0x10}, false}, // "010" "1"
	}
	for _, tt := range tests {
		if got := isBSlice(tt.slice); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
