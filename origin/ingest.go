package origin

import (
	"bytes"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
)

// ingest writes elementary streams, as WebRTC and SRT bring them, as the FLV tags
// that a publication is made of. Parameter sets become sequence headers, written
// when they change; frames before the first are dropped, nobody could decode them.
// Times are in ms.
type ingest struct {
	p                  *publication
	vps, sps, pps      []byte
	videoSet, audioSet bool // a sequence header has been written
	audio              mpeg4audio.AudioSpecificConfig
}

// hasIDR tells whether an H.264 access unit is a keyframe.
func hasIDR(units [][]byte) bool {
	for _, u := range units {
		if len(u) > 0 && h264.NALUType(u[0]&0x1f) == h264.NALUTypeIDR {
			return true
		}
	}
	return false
}

// h264 takes an access unit.
func (g *ingest) h264(units [][]byte, dts, pts int64) {
	changed, key, size := false, false, 0
	for _, u := range units {
		if len(u) == 0 {
			continue
		}
		switch h264.NALUType(u[0] & 0x1f) {
		case h264.NALUTypeSPS:
			changed = keep(&g.sps, u) || changed
		case h264.NALUTypePPS:
			changed = keep(&g.pps, u) || changed
		case h264.NALUTypeIDR:
			key = true
		}
		size += 4 + len(u)
	}
	if changed && len(g.sps) >= 4 && len(g.pps) > 0 {
		g.videoSet = true
		g.p.write(kindVideo, uint32(dts), avcHeader(g.sps, g.pps))
	}
	if !g.videoSet {
		return
	}
	tag := make([]byte, 5, 5+size)
	tag[0], tag[1] = 0x27, 1
	if key {
		tag[0] = 0x17
	}
	putInt24(tag[2:], pts-dts)
	body := len(tag)
	for _, u := range units {
		if len(u) == 0 {
			continue
		}
		switch h264.NALUType(u[0] & 0x1f) {
		case h264.NALUTypeSPS, h264.NALUTypePPS, h264.NALUTypeAccessUnitDelimiter, h264.NALUTypeFillerData:
			continue
		}
		tag = appendUnit(tag, u)
	}
	if len(tag) > body {
		g.p.write(kindVideo, uint32(dts), tag)
	}
}

// hevc takes an access unit. Its tags are those of enhanced RTMP.
func (g *ingest) hevc(units [][]byte, dts, pts int64) {
	changed, key, size := false, false, 0
	for _, u := range units {
		if len(u) < 2 {
			continue
		}
		switch typ := h265.NALUType(u[0] >> 1 & 0x3f); {
		case typ == h265.NALUType_VPS_NUT:
			changed = keep(&g.vps, u) || changed
		case typ == h265.NALUType_SPS_NUT:
			changed = keep(&g.sps, u) || changed
		case typ == h265.NALUType_PPS_NUT:
			changed = keep(&g.pps, u) || changed
		case typ >= h265.NALUType_BLA_W_LP && typ <= h265.NALUType_CRA_NUT:
			key = true
		}
		size += 4 + len(u)
	}
	if changed && len(g.vps) > 0 && len(g.sps) > 0 && len(g.pps) > 0 {
		if header := hevcHeader(g.vps, g.sps, g.pps); header != nil {
			g.videoSet = true
			g.p.write(kindVideo, uint32(dts), header)
		}
	}
	if !g.videoSet {
		return
	}
	tag := append(make([]byte, 0, 8+size), 0xa1, 'h', 'v', 'c', '1', 0, 0, 0) // inter frame, PacketTypeCodedFrames
	if key {
		tag[0] = 0x91
	}
	putInt24(tag[5:], pts-dts)
	body := len(tag)
	for _, u := range units {
		if len(u) < 2 {
			continue
		}
		switch h265.NALUType(u[0] >> 1 & 0x3f) {
		case h265.NALUType_VPS_NUT, h265.NALUType_SPS_NUT, h265.NALUType_PPS_NUT, h265.NALUType_AUD_NUT, h265.NALUType_FD_NUT:
			continue
		}
		tag = appendUnit(tag, u)
	}
	if len(tag) > body {
		g.p.write(kindVideo, uint32(dts), tag)
	}
}

// aac takes one raw frame and what its ADTS header says of it.
func (g *ingest) aac(frame []byte, c mpeg4audio.AudioSpecificConfig, pts int64) {
	if !g.audioSet || c != g.audio {
		record, err := c.Marshal()
		if err != nil {
			return
		}
		g.audioSet, g.audio = true, c
		g.p.write(kindAudio, uint32(pts), append([]byte{0xaf, 0}, record...))
	}
	g.p.write(kindAudio, uint32(pts), append([]byte{0xaf, 1}, frame...))
}

// mp3 takes one frame.
func (g *ingest) mp3(frame []byte, pts int64) {
	g.p.write(kindAudio, uint32(pts), append([]byte{0x2f}, frame...))
}

// keep copies a parameter set, and tells whether it is another one.
func keep(set *[]byte, unit []byte) (changed bool) {
	if bytes.Equal(*set, unit) {
		return false
	}
	*set = bytes.Clone(unit)
	return true
}

func appendUnit(dst, u []byte) []byte {
	n := len(u)
	return append(append(dst, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)), u...)
}

func putInt24(p []byte, v int64) { p[0], p[1], p[2] = byte(v>>16), byte(v>>8), byte(v) }

// avcHeader is the sequence header (ISO/IEC 14496-15 section 5.3.3.1).
func avcHeader(sps, pps []byte) []byte {
	p := []byte{0x17, 0, 0, 0, 0, 1, sps[1], sps[2], sps[3], 0xff, 0xe1, byte(len(sps) >> 8), byte(len(sps))}
	p = append(append(p, sps...), 1, byte(len(pps)>>8), byte(len(pps)))
	return append(p, pps...)
}

// hevcHeader is the sequence header (ISO/IEC 14496-15 section 8.3.3.1), nil where
// the parameter sets can't be read.
func hevcHeader(vps, sps, pps []byte) []byte {
	var s h265.SPS
	rbsp := h264.EmulationPreventionRemove(sps)
	if len(rbsp) < 15 || s.Unmarshal(sps) != nil {
		return nil
	}
	p := append(make([]byte, 0, 64+len(vps)+len(sps)+len(pps)), 0x90, 'h', 'v', 'c', '1', 1)
	p = append(p, rbsp[3:15]...) // general profile, compatibility, constraints, level: as in the SPS
	p = append(p, 0xf0, 0, 0xfc, 0xfc|byte(s.ChromaFormatIdc), 0xf8|byte(s.BitDepthLumaMinus8), 0xf8|byte(s.BitDepthChromaMinus8),
		0, 0, 0x0f, 3) // frame rate not known; one layer, 4-byte lengths; three arrays
	for _, set := range [][]byte{vps, sps, pps} {
		p = append(p, 0x80|set[0]>>1&0x3f, 0, 1, byte(len(set)>>8), byte(len(set)))
		p = append(p, set...)
	}
	return p
}
