package origin

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtp/codecs"
)

// Bounds of what is kept of a publisher's packets: how many may wait behind a
// lost one, and how long. A retransmission takes one round trip; who is further
// than that away has lost it for good.
const (
	rtpWindow   = 512 // a power of two
	rtpPatience = 300 * time.Millisecond
	frameMax    = 8 << 20 // as of a message of RTMP
)

// rtpFrames makes access units of H.264 packets (RFC 6184) and writes them as FLV
// tags: packets in order ─▶ NAL units ─▶ frame at the marker ─▶ ingest. After a
// loss it waits for the next keyframe, and asks for it.
type rtpFrames struct {
	out  *ingest
	ask  func()
	ring [rtpWindow]*rtpPiece
	held int       // packets in the ring
	gap  time.Time // since when next is missed, where packets are held

	started bool
	next    uint16

	depack  codecs.H264Packet
	frame   []byte // NAL units, each behind its 4-byte length
	pieces  int    // bytes of the packets that belong to frame
	time    uint32 // RTP clock of frame
	damaged bool   // waits for a keyframe
	clock   int64  // time, its wraps undone
	base    int64  // clock of the first frame
	timed   bool
	units   [][]byte
}

type rtpPiece struct {
	seq     uint16
	time    uint32
	marker  bool
	payload []byte
}

func newRTPFrames(p *publication, ask func()) *rtpFrames {
	return &rtpFrames{out: &ingest{p: p}, ask: ask, depack: codecs.H264Packet{IsAVC: true}, damaged: true}
}

// push takes a packet as it came from the network; payload is copied.
func (r *rtpFrames) push(seq uint16, ts uint32, marker bool, payload []byte, now time.Time) {
	if !r.started {
		r.started, r.next = true, seq
	}
	ahead := int16(seq - r.next)
	switch {
	case ahead < 0:
		return // too late, or seen
	case int(ahead) >= rtpWindow:
		r.lose()
		r.drop()
		r.next = seq
	}
	slot := &r.ring[seq%rtpWindow]
	if *slot != nil {
		return
	}
	*slot = &rtpPiece{seq, ts, marker, append([]byte(nil), payload...)}
	if r.held++; r.held == 1 {
		r.gap = now
	}
	before := r.next
	r.drain()
	switch {
	case r.held == 0 || r.next != before:
		r.gap = now
	case now.Sub(r.gap) > rtpPatience:
		r.lose()
		for r.ring[r.next%rtpWindow] == nil {
			r.next++
		}
		r.drain()
		r.gap = now
	}
}

// drain takes what is in order.
func (r *rtpFrames) drain() {
	for {
		slot := &r.ring[r.next%rtpWindow]
		if *slot == nil {
			return
		}
		p := *slot
		*slot = nil
		r.held--
		r.next++
		r.take(p)
	}
}

func (r *rtpFrames) drop() {
	clear(r.ring[:])
	r.held = 0
}

// lose gives up the frame that a packet is missing of, and all up to the next
// keyframe: they are made of it.
func (r *rtpFrames) lose() {
	r.reset()
	r.damaged = true
	r.ask()
}

func (r *rtpFrames) reset() {
	r.frame, r.pieces = r.frame[:0], 0
	if cap(r.frame) > 1<<20 {
		r.frame = nil
	}
	r.depack = codecs.H264Packet{IsAVC: true}
}

// take adds the next packet in order to the frame.
func (r *rtpFrames) take(p *rtpPiece) {
	if len(p.payload) == 0 {
		return // padding, of a bandwidth probe
	}
	if r.pieces > 0 && p.time != r.time {
		r.finish() // without a marker
	}
	r.time = p.time
	if r.pieces += len(p.payload); r.pieces > frameMax {
		r.lose()
		return
	}
	units, err := r.depack.Unmarshal(p.payload)
	if err != nil {
		r.lose()
		return
	}
	r.frame = append(r.frame, units...)
	if p.marker {
		r.finish()
	}
}

// finish writes the frame.
func (r *rtpFrames) finish() {
	if !r.timed {
		r.timed, r.clock, r.base = true, int64(r.time), int64(r.time)
	}
	r.clock += int64(int32(r.time - uint32(r.clock)))
	if len(r.frame) > 0 {
		r.units = r.units[:0]
		for b := r.frame; len(b) >= 4; {
			n := int(binary.BigEndian.Uint32(b))
			if n > len(b)-4 {
				break
			}
			r.units = append(r.units, b[4:4+n])
			b = b[4+n:]
		}
		key := hasIDR(r.units)
		if key {
			r.damaged = false
		}
		if !r.damaged {
			ms := max(r.clock-r.base, 0) / 90
			r.out.h264(r.units, ms, ms)
		}
		clear(r.units)
	}
	r.reset()
}
