package origin

import (
	"encoding/binary"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
)

// remuxer turns the frames of one stream into transport stream packets, once for
// all HTTP-TS players and for HLS. Guarded by its stream's mutex.
type remuxer struct {
	mux tsMuxer
	hls *hlsWindow // nil where HLS is off
	gop gopCache   // of packets, for players that join

	needKey   bool // nothing is written before one
	tablesDue bool
	tablesAt  int64 // ms
	timed     bool
	now       int64 // ms, of the last frame, wrapped no more
	es        []byte
	out       []byte
}

// Tables are repeated at each keyframe, and this often where there is no video;
// there each repetition is a point to join at.
const tablesPeriod = 500

// A clock that moves more than this between two frames is another clock.
const (
	jumpBack    = -2_000
	jumpForward = 10_000
)

func newRemuxer(cfg Config, name string) *remuxer {
	r := &remuxer{}
	if cfg.HLSEnabled {
		r.hls = newHLSWindow(name, cfg.HLSFragment, cfg.HLSWindow)
	}
	return r
}

// restart begins a new sequence: nothing of the last one continues.
func (r *remuxer) restart() {
	r.finish()
	r.needKey, r.tablesDue, r.timed = true, true, false
}

// finish closes the last segment.
func (r *remuxer) finish() {
	r.gop.clear()
	if r.hls != nil {
		r.hls.interrupt(r.now)
	}
}

// write returns the packets of a media frame, or nil where there are none.
func (r *remuxer) write(f *frame, t tagInfo, v *videoInfo, a *audioInfo, hasVideo bool) *frame {
	if !t.coded || len(f.payload) <= t.body {
		return nil
	}
	video, audio := trackTypes(v, a)
	if f.kind == kindVideo && video == 0 || f.kind == kindAudio && audio == 0 {
		return nil
	}
	if video == 0 {
		hasVideo = false
	}
	ms := r.clock(f.time)
	if r.mux.setTracks(video, audio) {
		r.tablesDue = true
	}
	key := f.key && f.kind == kindVideo
	if !hasVideo && f.kind == kindAudio {
		key = r.tablesDue || r.needKey || ms-r.tablesAt >= tablesPeriod
	}
	if r.needKey && !key {
		return nil
	}
	p, ok := r.accessUnit(f, t, v, a, ms)
	if !ok {
		return nil
	}
	p.key = key
	p.pcr = p.video || r.mux.videoType == 0

	r.needKey = false
	r.out = r.out[:0]
	if key || r.tablesDue {
		r.out = r.mux.appendTables(r.out)
		r.tablesDue, r.tablesAt = false, ms
	}
	r.out = r.mux.appendPES(r.out, p)
	ts := &frame{kind: kindTS, time: f.time, key: key, payload: append(make([]byte, 0, len(r.out)), r.out...)}
	if cap(r.out) > 1<<20 {
		r.out = nil // a rare large frame must not stay with every stream
	}
	r.gop.add(ts)
	if r.hls != nil {
		r.hls.add(ts.payload, ms, key)
	}
	return ts
}

// clock undoes the wrap of 32-bit milliseconds and notices a clock that jumped.
func (r *remuxer) clock(t uint32) int64 {
	if !r.timed {
		r.timed, r.now = true, int64(t)
		return r.now
	}
	d := int64(int32(t - uint32(r.now)))
	if d < jumpBack || d > jumpForward {
		r.restart()
		r.timed, r.now = true, int64(t)
		return r.now
	}
	r.now += d
	return r.now
}

func trackTypes(v *videoInfo, a *audioInfo) (video, audio byte) {
	switch {
	case len(v.params) == 0:
	case v.codec == codecH264:
		video = tsH264
	case v.codec == codecHEVC:
		video = tsHEVC
	}
	switch {
	case a.adts():
		audio = tsAAC
	case a.codec == codecMP3:
		audio = tsMP3
	}
	return video, audio
}

// accessUnit makes the elementary stream of one frame in r.es.
func (r *remuxer) accessUnit(f *frame, t tagInfo, v *videoInfo, a *audioInfo, ms int64) (p pes, ok bool) {
	body := f.payload[t.body:]
	// Everything is late by pcrLead, so that a stream that begins at 0 has no
	// negative clock.
	dts := ms*90 + pcrLead
	p = pes{video: f.kind == kindVideo, dts: dts, pts: dts + int64(t.cts)*90}
	if cap(r.es) > 1<<20 {
		r.es = nil
	}
	r.es = r.es[:0]
	switch {
	case p.video:
		r.es, ok = appendAnnexB(r.es, body, v, f.key)
	case a.codec == codecAAC:
		r.es, ok = append(a.appendADTS(r.es, len(body)), body...), len(body) < 8192-adtsSize
	default:
		r.es, ok = append(r.es, body...), true
	}
	p.data = r.es
	return p, ok
}

// appendAnnexB turns length-prefixed NAL units into start codes, behind an access
// unit delimiter (which iOS and others want), with the parameter sets before a
// keyframe that has none of its own.
func appendAnnexB(dst, body []byte, v *videoInfo, key bool) ([]byte, bool) {
	hevc := v.codec == codecHEVC
	if hevc {
		dst = append(dst, 0, 0, 0, 1, byte(h265.NALUType_AUD_NUT)<<1, 1, 0x50)
	} else {
		dst = append(dst, 0, 0, 0, 1, byte(h264.NALUTypeAccessUnitDelimiter), 0xf0)
	}
	head := len(dst)
	if key {
		dst = append(dst, v.params...)
	}
	units := 0
	for len(body) > 0 {
		if len(body) < v.lengthSize {
			return dst, false
		}
		var size [4]byte
		copy(size[4-v.lengthSize:], body)
		n := binary.BigEndian.Uint32(size[:])
		body = body[v.lengthSize:]
		if uint64(n) > uint64(len(body)) {
			return dst, false
		}
		unit := body[:n]
		body = body[n:]
		if n == 0 {
			continue
		}
		var delimiter, sps bool
		if hevc {
			typ := h265.NALUType(unit[0] >> 1 & 0x3f)
			delimiter = typ == h265.NALUType_AUD_NUT
			sps = typ == h265.NALUType_VPS_NUT
		} else {
			typ := h264.NALUType(unit[0] & 0x1f)
			delimiter = typ == h264.NALUTypeAccessUnitDelimiter
			sps = typ == h264.NALUTypeSPS
		}
		if delimiter {
			continue
		}
		if sps && key && units == 0 {
			dst = dst[:head] // brings its own
		}
		dst = append(append(dst, 0, 0, 0, 1), unit...)
		units++
	}
	return dst, units > 0
}
