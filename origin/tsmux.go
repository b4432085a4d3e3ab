package origin

// tsMuxer writes MPEG transport stream packets (ISO/IEC 13818-1) for at most one
// video and one audio track. It is our own because each frame of each stream goes
// through it: it allocates nothing and can be joined at any keyframe.
type tsMuxer struct {
	videoType, audioType byte // stream_type of the PMT, 0 for none
	version              byte // of the PMT
	ccPAT, ccPMT         byte
	ccVideo, ccAudio     byte
}

const (
	tsPacketSize = 188

	// PIDs are SRS's.
	pidPMT   = 0x1001
	pidVideo = 0x100
	pidAudio = 0x101

	// Stream types (ISO/IEC 13818-1 table 2-34).
	tsH264 = 0x1b
	tsHEVC = 0x24
	tsAAC  = 0x0f
	tsMP3  = 0x03
	// tsMP3LowRate is read and not written.
	tsMP3LowRate = 0x04
)

// setTracks tells whether the tracks changed, so that tables are due.
func (m *tsMuxer) setTracks(video, audio byte) bool {
	if m.videoType == video && m.audioType == audio {
		return false
	}
	m.videoType, m.audioType = video, audio
	m.version = (m.version + 1) & 0x1f
	return true
}

// appendTables appends a PAT and a PMT, a packet each (sections 2.4.4.3 and
// 2.4.4.8): table_id, length, id, version, section numbers, then the program, or
// the PCR's PID and the tracks.
func (m *tsMuxer) appendTables(dst []byte) []byte {
	var section [64]byte
	pat := append(section[:0], 0x00, 0xb0, 0, 0, 0x01, 0xc1, 0, 0, 0x00, 0x01, 0xe0|pidPMT>>8, pidPMT&0xff)
	dst = appendSection(dst, 0, &m.ccPAT, pat)

	pcr := pidVideo
	if m.videoType == 0 {
		pcr = pidAudio
	}
	pmt := append(section[:0], 0x02, 0xb0, 0, 0x00, 0x01, 0xc1|m.version<<1, 0, 0, 0xe0|byte(pcr>>8), byte(pcr), 0xf0, 0)
	if m.videoType != 0 {
		pmt = append(pmt, m.videoType, 0xe0|pidVideo>>8, pidVideo&0xff, 0xf0, 0)
	}
	if m.audioType != 0 {
		pmt = append(pmt, m.audioType, 0xe0|pidAudio>>8, pidAudio&0xff, 0xf0, 0)
	}
	return appendSection(dst, pidPMT, &m.ccPMT, pmt)
}

// appendSection fills in the section's length and CRC and puts it in one packet.
func appendSection(dst []byte, pid uint16, cc *byte, section []byte) []byte {
	length := len(section) - 3 + 4
	section[1] = 0xb0 | byte(length>>8)
	section[2] = byte(length)
	crc := crc32MPEG(section)
	start := len(dst)
	dst = append(dst, 0x47, 0x40|byte(pid>>8), byte(pid), 0x10|*cc, 0) // pointer_field 0
	*cc = (*cc + 1) & 0x0f
	dst = append(dst, section...)
	dst = append(dst, byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc))
	for len(dst)-start < tsPacketSize {
		dst = append(dst, 0xff)
	}
	return dst
}

// crc32MPEG is the CRC of annex A: polynomial 0x04c11db7, not reflected. Tables
// are 30 bytes twice a second, so bit by bit will do.
func crc32MPEG(p []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range p {
		crc ^= uint32(b) << 24
		for range 8 {
			if crc&0x80000000 != 0 {
				crc = crc<<1 ^ 0x04c11db7
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// pes is one access unit. Times are in 90 kHz and wrap at 33 bits.
type pes struct {
	video    bool
	pts, dts int64
	pcr      bool // carries the program clock, which then is pcrLead before dts
	key      bool // random access point
	data     []byte
}

// pcrLead is how long before its decoding time a frame arrives, 100 ms.
const pcrLead = 9000

// appendPES appends the packets of p.
func (m *tsMuxer) appendPES(dst []byte, p pes) []byte {
	var head [19]byte
	h := pesHeader(head[:0], p)
	pid, cc := uint16(pidAudio), &m.ccAudio
	if p.video {
		pid, cc = pidVideo, &m.ccVideo
	}
	data := p.data
	for first := true; first || len(h)+len(data) > 0; first = false {
		var field [8]byte // adaptation field, without its length byte
		af := field[:0]
		if first && (p.pcr || p.key) {
			af = adaptation(af, p)
		}
		room := tsPacketSize - 4
		if len(af) > 0 {
			room -= 1 + len(af)
		}
		n := min(room, len(h)+len(data))
		stuffing := room - n

		flags := byte(0x10)
		if len(af) > 0 || stuffing > 0 {
			flags = 0x30
		}
		unit := byte(0)
		if first {
			unit = 0x40
		}
		dst = append(dst, 0x47, unit|byte(pid>>8), byte(pid), flags|*cc)
		*cc = (*cc + 1) & 0x0f
		if flags == 0x30 {
			if len(af) == 0 {
				stuffing-- // the length byte itself
				if stuffing > 0 {
					af = append(af, 0)
					stuffing--
				}
			}
			dst = append(dst, byte(len(af)+stuffing))
			dst = append(dst, af...)
			for range stuffing {
				dst = append(dst, 0xff)
			}
		}
		k := min(n, len(h))
		dst = append(dst, h[:k]...)
		h = h[k:]
		dst = append(dst, data[:n-k]...)
		data = data[n-k:]
	}
	return dst
}

// adaptation is section 2.4.3.4: flags, and the PCR.
func adaptation(af []byte, p pes) []byte {
	var flags byte
	if p.key {
		flags |= 0x40
	}
	if !p.pcr {
		return append(af, flags)
	}
	base := (p.dts - pcrLead) & (1<<33 - 1)
	return append(af, flags|0x10,
		byte(base>>25), byte(base>>17), byte(base>>9), byte(base>>1), byte(base<<7)|0x7e, 0)
}

// pesHeader is section 2.4.3.6.
func pesHeader(h []byte, p pes) []byte {
	id, size := byte(0xc0), 3+5+len(p.data)
	both := p.pts != p.dts
	if both {
		size += 5
	}
	if p.video {
		id = 0xe0
	}
	if p.video || size > 0xffff {
		size = 0 // unbounded, allowed for video
	}
	h = append(h, 0, 0, 1, id, byte(size>>8), byte(size), 0x80)
	if !both {
		return appendTime(append(h, 0x80, 5), 0x20, p.pts)
	}
	h = appendTime(append(h, 0xc0, 10), 0x30, p.pts)
	return appendTime(h, 0x10, p.dts)
}

func appendTime(h []byte, marker byte, t int64) []byte {
	return append(h,
		marker|byte(t>>29)&0x0e|1,
		byte(t>>22), byte(t>>14)|1,
		byte(t>>7), byte(t<<1)|1)
}
