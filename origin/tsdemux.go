package origin

import (
	"bytes"
	"encoding/binary"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg1audio"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
)

// tsDemuxer takes an MPEG transport stream (ISO/IEC 13818-1) apart into the access
// units of its first program's first video and first audio track, as far as FLV has
// them: H.264, HEVC, AAC (ADTS), MP3. It is our own because the stream is a stranger's:
// everything it keeps is bounded, and a lost packet costs its access unit and no more.
//
//	bytes ─▶ packets ─▶ PAT, PMT ─▶ tracks
//	             └────▶ PES of a track ─▶ access units ─▶ ingest
type tsDemuxer struct {
	out *ingest

	rest   []byte // less than a packet
	pat    tsSection
	pmt    tsSection
	pmtPID int // 0: not known yet
	video  tsTrack
	audio  tsTrack

	clock   int64 // 90 kHz, its wraps undone; of the last time seen
	clocked bool
	units   [][]byte
}

// Bounds: a section is at most 1,024 bytes (section 2.4.4.10), an access unit as
// large as a message of RTMP; an ADTS frame has 13 bits for its length.
const (
	sectionMax = 1024 + 3
	adtsMax    = 1 << 13
)

// tsSection gathers a PSI section.
type tsSection struct{ buf []byte }

// tsTrack gathers the PES packets of one elementary stream.
type tsTrack struct {
	pid     int // 0: there is none
	typ     byte
	cc      byte
	begun   bool // a PES packet is being gathered
	pes     []byte
	partial []byte // of an audio frame that goes on in the next PES packet
	pts     int64  // of partial
}

// push takes the next bytes; packets may be cut anywhere.
func (d *tsDemuxer) push(b []byte) {
	if len(d.rest) > 0 {
		n := min(len(b), tsPacketSize-len(d.rest))
		d.rest = append(d.rest, b[:n]...)
		b = b[n:]
		if len(d.rest) < tsPacketSize {
			return
		}
		d.packet(d.rest)
		d.rest = d.rest[:0]
	}
	for len(b) >= tsPacketSize {
		if b[0] != 0x47 { // out of step
			i := bytes.IndexByte(b, 0x47)
			if i < 0 {
				return
			}
			b = b[i:]
			continue
		}
		d.packet(b[:tsPacketSize])
		b = b[tsPacketSize:]
	}
	if i := bytes.IndexByte(b, 0x47); i >= 0 {
		d.rest = append(d.rest, b[i:]...)
	}
}

// packet is section 2.4.3.2.
func (d *tsDemuxer) packet(p []byte) {
	if p[0] != 0x47 || p[1]&0x80 != 0 || p[3]&0x10 == 0 { // damaged, or no payload
		return
	}
	pid, start, cc := int(p[1]&0x1f)<<8|int(p[2]), p[1]&0x40 != 0, p[3]&0x0f
	at := 4
	if p[3]&0x20 != 0 {
		at += 1 + int(p[4])
	}
	if at >= tsPacketSize {
		return
	}
	switch payload := p[at:]; {
	case pid == 0:
		if s := d.pat.add(payload, start); s != nil {
			d.readPAT(s)
		}
	case pid == d.pmtPID && pid != 0:
		if s := d.pmt.add(payload, start); s != nil {
			d.readPMT(s)
		}
	case pid == d.video.pid:
		d.gather(&d.video, payload, start, cc)
	case pid == d.audio.pid:
		d.gather(&d.audio, payload, start, cc)
	}
}

// add returns a section when it is complete and intact.
func (s *tsSection) add(payload []byte, start bool) []byte {
	if start {
		if skip := 1 + int(payload[0]); skip <= len(payload) { // pointer_field
			s.buf = append(s.buf[:0], payload[skip:]...)
		}
	} else if len(s.buf) > 0 {
		s.buf = append(s.buf, payload...)
	}
	if len(s.buf) < 3 {
		return nil
	}
	size := 3 + int(s.buf[1]&0x0f)<<8 + int(s.buf[2])
	switch {
	case size > sectionMax:
		s.buf = s.buf[:0]
		return nil
	case len(s.buf) < size:
		return nil
	}
	section := s.buf[:size]
	s.buf = s.buf[:0]
	if size < 12 || crc32MPEG(section) != 0 {
		return nil
	}
	return section[:size-4]
}

// readPAT is section 2.4.4.3: the first program's PMT.
func (d *tsDemuxer) readPAT(s []byte) {
	if s[0] != 0 {
		return
	}
	for e := s[8:]; len(e) >= 4; e = e[4:] {
		if binary.BigEndian.Uint16(e) != 0 {
			d.pmtPID = int(binary.BigEndian.Uint16(e[2:]) & 0x1fff)
			return
		}
	}
}

// readPMT is section 2.4.4.8.
func (d *tsDemuxer) readPMT(s []byte) {
	if s[0] != 2 || len(s) < 12 {
		return
	}
	skip := 12 + int(s[10]&0x0f)<<8 + int(s[11])
	if skip > len(s) {
		return
	}
	var video, audio tsTrack
	for e := s[skip:]; len(e) >= 5; {
		t := tsTrack{typ: e[0], pid: int(binary.BigEndian.Uint16(e[1:]) & 0x1fff)}
		switch t.typ {
		case tsH264, tsHEVC:
			if video.pid == 0 {
				video = t
			}
		case tsAAC, tsMP3, tsMP3LowRate:
			if audio.pid == 0 {
				audio = t
			}
		}
		next := 5 + int(e[3]&0x0f)<<8 + int(e[4])
		if next > len(e) {
			break
		}
		e = e[next:]
	}
	for old, now := range map[*tsTrack]tsTrack{&d.video: video, &d.audio: audio} {
		if old.pid != now.pid || old.typ != now.typ {
			*old = now
		}
	}
}

// gather adds a packet to the track's PES packet, and takes that when it is whole.
func (d *tsDemuxer) gather(t *tsTrack, payload []byte, start bool, cc byte) {
	switch {
	case !start && t.begun && cc == t.cc:
		return // sent twice, which section 2.4.3.3 allows
	case t.begun && cc != (t.cc+1)&0x0f:
		t.begun, t.partial = false, nil // a packet is missing
	}
	t.cc = cc
	if start {
		d.finish(t)
		t.begun, t.pes = true, t.pes[:0]
	}
	if !t.begun {
		return
	}
	t.pes = append(t.pes, payload...)
	if len(t.pes) > frameMax {
		t.begun, t.pes = false, nil
		return
	}
	// Video says 0 mostly, and is whole when the next begins.
	if len(t.pes) >= 6 {
		if n := int(binary.BigEndian.Uint16(t.pes[4:])); n > 0 && len(t.pes) >= 6+n {
			t.pes = t.pes[:6+n]
			d.finish(t)
		}
	}
}

// finish is section 2.4.3.6.
func (d *tsDemuxer) finish(t *tsTrack) {
	if !t.begun {
		return
	}
	t.begun = false
	p := t.pes
	if len(p) < 9 || p[0] != 0 || p[1] != 0 || p[2] != 1 || len(p) < 9+int(p[8]) {
		return
	}
	head, body := p[9:9+int(p[8])], p[9+int(p[8]):]
	if p[7]&0x80 == 0 || len(head) < 5 {
		return // no time: nowhere to put it
	}
	pts := readTime(head)
	dts := pts
	if p[7]&0x40 != 0 && len(head) >= 10 {
		dts = readTime(head[5:])
	}
	dts = d.unwrap(dts)
	pts = dts + (pts-dts)<<31>>31 // both have 33 bits
	switch t.typ {
	case tsH264:
		d.units = splitAnnexB(d.units[:0], body)
		d.out.h264(d.units, dts/90, pts/90)
	case tsHEVC:
		d.units = splitAnnexB(d.units[:0], body)
		d.out.hevc(d.units, dts/90, pts/90)
	case tsAAC:
		d.aac(t, body, pts)
	case tsMP3, tsMP3LowRate:
		d.mp3(body, pts)
	}
	clear(d.units)
	if cap(t.pes) > 1<<20 {
		t.pes = nil // a rare large frame must not stay
	}
}

func readTime(p []byte) int64 {
	return int64(p[0]>>1&7)<<30 | int64(p[1])<<22 | int64(p[2]>>1)<<15 | int64(p[3])<<7 | int64(p[4]>>1)
}

// unwrap undoes the wraps of a 33-bit clock.
func (d *tsDemuxer) unwrap(t int64) int64 {
	if !d.clocked {
		d.clocked, d.clock = true, t
	}
	d.clock += (t - d.clock) << 31 >> 31
	if d.clock < 0 {
		d.clock += 1 << 33
	}
	return d.clock
}

// aac takes ADTS frames (ISO/IEC 13818-7 section 6.2), which need not end with the
// PES packet.
func (d *tsDemuxer) aac(t *tsTrack, b []byte, pts int64) {
	if len(t.partial) > 0 {
		// The PES packet's time is that of the first frame that begins in it.
		b = append(t.partial, b...)
		pts = t.pts
		t.partial = nil
	}
	for len(b) >= adtsSize {
		if b[0] != 0xff || b[1]&0xf6 != 0xf0 {
			i := bytes.IndexByte(b[1:], 0xff)
			if i < 0 {
				return
			}
			b = b[1+i:]
			continue
		}
		size := int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5]>>5)
		head := adtsSize
		if b[1]&1 == 0 {
			head += 2 // CRC
		}
		if size <= head {
			b = b[1:]
			continue
		}
		if size > len(b) {
			break
		}
		rate := adtsRate(b[2] >> 2 & 0x0f)
		if rate == 0 {
			return
		}
		c := mpeg4audio.AudioSpecificConfig{Type: mpeg4audio.ObjectType(b[2]>>6) + 1, SampleRate: rate, ChannelConfig: b[2]&1<<2 | b[3]>>6}
		d.out.aac(b[head:size], c, pts/90)
		b = b[size:]
		pts += mpeg4audio.SamplesPerAccessUnit * 90000 / int64(rate)
	}
	if len(b) > 0 && len(b) < adtsMax {
		t.partial, t.pts = bytes.Clone(b), pts
	}
}

// mp3 takes whole frames.
func (d *tsDemuxer) mp3(b []byte, pts int64) {
	for len(b) > 4 {
		var h mpeg1audio.FrameHeader
		if h.Unmarshal(b) != nil || h.SampleRate <= 0 {
			return
		}
		size := h.FrameLen()
		if size <= 4 || size > len(b) {
			return
		}
		d.out.mp3(b[:size], pts/90)
		b = b[size:]
		pts += int64(h.SampleCount()) * 90000 / int64(h.SampleRate)
	}
}

// splitAnnexB returns the NAL units between start codes (ITU-T H.264 annex B).
func splitAnnexB(units [][]byte, b []byte) [][]byte {
	code := []byte{0, 0, 1}
	i := bytes.Index(b, code)
	for i >= 0 {
		b = b[i+3:]
		i = bytes.Index(b, code)
		unit := b
		if i >= 0 {
			unit = b[:i]
		}
		if unit = bytes.TrimRight(unit, "\x00"); len(unit) > 0 {
			units = append(units, unit)
		}
	}
	return units
}
