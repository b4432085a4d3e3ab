package origin

import "encoding/binary"

// Kinds of frames; the values are FLV's tag types and RTMP's message types.
const (
	kindAudio  = 8
	kindVideo  = 9
	kindScript = 18
	kindTS     = 0x47 // ready made transport stream packets, see remuxer
)

// frame is one FLV tag. It is written once by the publisher and then shared,
// read only, by the caches, the queues of all players and the remuxer.
type frame struct {
	kind    uint8
	time    uint32 // ms, DTS
	payload []byte // the body of the FLV tag, or packets where kind is kindTS
	wire    []byte // the same as RTMP chunks; payload mostly is a part of it

	key    bool // a player can start here: a video keyframe
	config bool // a sequence header: what a decoder must see before all frames

	flvHead [11]byte // FLV tag header (Adobe FLV specification, section E.4.1)
	flvTail [4]byte  // PreviousTagSize
}

// size is what the frame costs a queue or a cache, in bytes.
func (f *frame) size() int { return len(f.payload) }

// media tells whether the frame's time is one of the stream's clock; those of
// metadata and sequence headers are often 0.
func (f *frame) media() bool { return f.kind != kindScript && !f.config }

// seal fills the FLV framing from kind, time and payload.
func (f *frame) seal() {
	n := len(f.payload)
	f.flvHead = [11]byte{
		f.kind,
		byte(n >> 16), byte(n >> 8), byte(n),
		byte(f.time >> 16), byte(f.time >> 8), byte(f.time), byte(f.time >> 24),
	}
	binary.BigEndian.PutUint32(f.flvTail[:], uint32(n+len(f.flvHead)))
}

// Codecs, named as SRS's API names them.
const (
	codecNone  = ""
	codecH264  = "H264"
	codecHEVC  = "HEVC"
	codecAV1   = "AV1"
	codecVP6   = "VP6"
	codecAAC   = "AAC"
	codecMP3   = "MP3"
	codecOpus  = "Opus"
	codecOther = "Other"
)

// tagInfo is what the first bytes of an FLV audio or video tag say.
type tagInfo struct {
	codec  string
	key    bool
	config bool
	coded  bool  // carries media, so it is neither config nor metadata nor the end of a sequence
	body   int   // offset of the codec's own bytes
	cts    int32 // ms, PTS - DTS
}

// parseVideoTag reads the video tag header: legacy (FLV specification, section
// E.4.3.1, with the customary 12 = HEVC and 13 = AV1) or enhanced RTMP.
func parseVideoTag(p []byte) (t tagInfo) {
	if len(p) < 1 {
		return t
	}
	frameType := p[0] >> 4 & 7
	if p[0]&0x80 != 0 {
		return parseEnhancedVideo(p, frameType)
	}
	t.body = 1
	switch p[0] & 0x0f {
	case 7:
		t.codec = codecH264
	case 12:
		t.codec = codecHEVC
	case 13:
		t.codec = codecAV1
	case 4, 5:
		t.codec = codecVP6
	default:
		t.codec = codecOther
	}
	switch t.codec {
	case codecH264, codecHEVC, codecAV1:
		if len(p) < 5 {
			return t
		}
		t.body = 5
		t.config = p[1] == 0
		t.coded = p[1] == 1
		t.cts = int24(p[2:])
	default:
		t.coded = frameType != 5 // 5 is an info or command frame
	}
	t.key = t.coded && frameType == 1
	return t
}

// parseEnhancedVideo reads the ex video tag header of enhanced RTMP v1 (a fourcc
// instead of a codec number), section "Defining Additional Video Codecs".
func parseEnhancedVideo(p []byte, frameType byte) (t tagInfo) {
	if len(p) < 5 {
		return t
	}
	t.body = 5
	switch string(p[1:5]) {
	case "hvc1":
		t.codec = codecHEVC
	case "avc1":
		t.codec = codecH264
	case "av01":
		t.codec = codecAV1
	default:
		t.codec = codecOther
	}
	switch p[0] & 0x0f {
	case 0: // PacketTypeSequenceStart
		t.config = true
	case 1: // PacketTypeCodedFrames: has a composition time for AVC and HEVC alone
		t.coded = true
		if t.codec == codecHEVC || t.codec == codecH264 {
			if len(p) < 8 {
				return tagInfo{codec: t.codec}
			}
			t.cts, t.body = int24(p[5:]), 8
		}
	case 3: // PacketTypeCodedFramesX: composition time is 0
		t.coded = true
	}
	t.key = t.coded && frameType == 1
	return t
}

// parseAudioTag reads the audio tag header: legacy (section E.4.2.1) or the ex
// header of enhanced RTMP v2 (sound format 9).
func parseAudioTag(p []byte) (t tagInfo) {
	if len(p) < 1 {
		return t
	}
	t.body = 1
	switch p[0] >> 4 {
	case 10:
		t.codec = codecAAC
		if len(p) < 2 {
			return t
		}
		t.body = 2
		t.config = p[1] == 0
		t.coded = p[1] == 1
	case 2, 14:
		t.codec, t.coded = codecMP3, true
	case 9:
		if len(p) < 5 {
			return t
		}
		t.body = 5
		switch string(p[1:5]) {
		case "mp4a":
			t.codec = codecAAC
		case ".mp3":
			t.codec = codecMP3
		case "Opus":
			t.codec = codecOpus
		default:
			t.codec = codecOther
		}
		t.config = p[0]&0x0f == 0
		t.coded = p[0]&0x0f == 1
	default:
		t.codec, t.coded = codecOther, true
	}
	return t
}

func int24(p []byte) int32 {
	return int32(uint32(p[0])<<24|uint32(p[1])<<16|uint32(p[2])<<8) >> 8
}
