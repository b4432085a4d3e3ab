package origin

import (
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg1audio"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
)

// videoInfo is what a video sequence header says: for the API, and for the
// remuxer.
type videoInfo struct {
	codec          string
	profile, level string
	width, height  int

	lengthSize int    // bytes of the length before each NAL unit
	params     []byte // parameter sets in Annex B form, to go before a keyframe
}

// audioInfo is the same of audio.
type audioInfo struct {
	codec    string
	profile  string
	rate     int
	channels int

	// Fields of an ADTS header (ISO/IEC 13818-7 section 6.2); rateIndex is 15
	// where there can be none.
	objectType, rateIndex, channelConfig byte
}

var errConfig = errors.New("malformed sequence header")

// parseVideoConfig reads the decoder configuration record of a sequence header.
// What can't be read leaves params empty: such a stream is relayed and not remuxed.
func parseVideoConfig(codec string, record []byte) videoInfo {
	v := videoInfo{codec: codec, profile: "Other", level: "Other"}
	var err error
	parsed := v
	switch codec {
	case codecH264:
		err = parsed.parseAVC(record)
	case codecHEVC:
		err = parsed.parseHEVC(record)
	}
	if err != nil {
		return v
	}
	return parsed
}

// parseAVC reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 section 5.3.3.1).
func (v *videoInfo) parseAVC(p []byte) error {
	if len(p) < 7 {
		return errConfig
	}
	v.profile, v.level = avcProfile(p[1], p[2]), levelName(int(p[3]), 10)
	v.lengthSize = int(p[4]&3) + 1
	sets, rest, err := readSets(nil, p[6:], int(p[5]&0x1f))
	if err != nil || len(rest) < 1 {
		return errConfig
	}
	if len(sets) > 0 {
		var sps h264.SPS
		if sps.Unmarshal(sets[0]) == nil {
			v.width, v.height = sps.Width(), sps.Height()
		}
	}
	sets, _, err = readSets(sets, rest[1:], int(rest[0]))
	if err != nil {
		return err
	}
	v.params = annexB(sets)
	return nil
}

// parseHEVC reads an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 section 8.3.3.1).
func (v *videoInfo) parseHEVC(p []byte) error {
	if len(p) < 23 {
		return errConfig
	}
	v.profile, v.level = hevcProfile(p[1]&0x1f), levelName(int(p[12]), 30)
	v.lengthSize = int(p[21]&3) + 1
	arrays, p := int(p[22]), p[23:]
	var sets [][]byte
	for range arrays {
		if len(p) < 3 {
			return errConfig
		}
		typ := h265.NALUType(p[0] & 0x3f)
		first := len(sets)
		var err error
		if sets, p, err = readSets(sets, p[3:], int(binary.BigEndian.Uint16(p[1:]))); err != nil {
			return err
		}
		if typ == h265.NALUType_SPS_NUT && len(sets) > first {
			var sps h265.SPS
			if sps.Unmarshal(sets[first]) == nil {
				v.width, v.height = sps.Width(), sps.Height()
			}
		}
	}
	v.params = annexB(sets)
	return nil
}

// readSets takes n parameter sets, each behind a 16-bit length.
func readSets(sets [][]byte, p []byte, n int) ([][]byte, []byte, error) {
	for range n {
		if len(p) < 2 {
			return nil, nil, errConfig
		}
		size := int(binary.BigEndian.Uint16(p))
		if p = p[2:]; size == 0 || size > len(p) {
			return nil, nil, errConfig
		}
		sets, p = append(sets, p[:size]), p[size:]
	}
	return sets, p, nil
}

func annexB(sets [][]byte) []byte {
	var out []byte
	for _, s := range sets {
		out = append(append(out, 0, 0, 0, 1), s...)
	}
	return out
}

func avcProfile(idc, constraints byte) string {
	switch idc {
	case 66:
		if constraints&0x40 != 0 {
			return "Baseline(Constrained)"
		}
		return "Baseline"
	case 77:
		return "Main"
	case 88:
		return "Extended"
	case 100:
		return "High"
	case 110:
		return "High(10)"
	case 122:
		return "High(422)"
	case 144:
		return "High(444)"
	case 244:
		return "High(444+Predictive)"
	}
	return "Other"
}

func hevcProfile(idc byte) string {
	switch idc {
	case 1:
		return "Main"
	case 2:
		return "Main10"
	case 3:
		return "Main Still Picture"
	case 4:
		return "Rext"
	}
	return "Other"
}

// levelName is "3.1" for AVC's 31 (unit 10) and HEVC's 93 (unit 30).
func levelName(idc, unit int) string {
	tenths := idc * 10 / unit
	if tenths%10 == 0 {
		return strconv.Itoa(tenths / 10)
	}
	return strconv.Itoa(tenths/10) + "." + strconv.Itoa(tenths%10)
}

// parseAudioConfig reads what an audio tag says of its format: for AAC, its
// AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1); for MP3, its frame header.
func parseAudioConfig(tag []byte, t tagInfo) audioInfo {
	a := audioInfo{codec: t.codec, profile: "Other", rate: 44100, channels: 2, rateIndex: 15}
	switch t.codec {
	case codecAAC:
		var c mpeg4audio.AudioSpecificConfig
		if !t.config || c.Unmarshal(tag[t.body:]) != nil {
			return a
		}
		a.profile, a.rate, a.channels = aacProfile(c), c.SampleRate, int(c.ChannelConfig)
		if c.ChannelConfig == 7 {
			a.channels = 8
		}
		a.objectType, a.channelConfig = byte(c.Type), c.ChannelConfig
		a.rateIndex = adtsRateIndex(c.SampleRate)
	case codecMP3:
		var h mpeg1audio.FrameHeader
		if h.Unmarshal(tag[t.body:]) != nil {
			return a
		}
		a.rate = h.SampleRate
		if h.ChannelMode == mpeg1audio.ChannelModeMono {
			a.channels = 1
		}
	case codecOpus:
		a.rate = 48000
	}
	return a
}

func aacProfile(c mpeg4audio.AudioSpecificConfig) string {
	switch {
	case c.ExtensionType == mpeg4audio.ObjectTypePS:
		return "HEv2"
	case c.ExtensionType == mpeg4audio.ObjectTypeSBR:
		return "HE"
	case c.Type == mpeg4audio.ObjectTypeAACLC:
		return "LC"
	case c.Type == 1:
		return "Main"
	case c.Type == 3:
		return "SSR"
	}
	return "Other"
}

// adtsRates are the rates in the order of their sampling_frequency_index (ISO/IEC
// 14496-3 table 1.18).
func adtsRates() [13]int {
	return [...]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}
}

// adtsRateIndex is 15 for a rate that has none.
func adtsRateIndex(rate int) byte {
	for i, r := range adtsRates() {
		if r == rate {
			return byte(i)
		}
	}
	return 15
}

// adtsRate is the reverse, 0 for an index that is none.
func adtsRate(index byte) int {
	if rates := adtsRates(); int(index) < len(rates) {
		return rates[index]
	}
	return 0
}

// adtsSize is that of a header without CRC.
const adtsSize = 7

// adts tells whether the audio can be written as ADTS, which knows the object
// types 1 to 4 only.
func (a *audioInfo) adts() bool {
	return a.codec == codecAAC && a.rateIndex < 13 && a.objectType >= 1 && a.objectType <= 4
}

// appendADTS appends the header of one raw AAC frame of n bytes
// (ISO/IEC 13818-7 sections 6.2.1 and 6.2.2).
func (a *audioInfo) appendADTS(dst []byte, n int) []byte {
	n += adtsSize
	return append(dst,
		0xff, 0xf1,
		(a.objectType-1)<<6|a.rateIndex<<2|a.channelConfig>>2,
		a.channelConfig<<6|byte(n>>11)&3,
		byte(n>>3),
		byte(n<<5)|0x1f,
		0xfc,
	)
}
