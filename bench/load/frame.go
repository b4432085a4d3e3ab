package load

import "encoding/binary"

// A video message as FLV and RTMP carry H.264: tag header, the NAL unit's length, the
// unit. The unit's payload begins with our record.
//
//	0        1            2     5        9     10       50
//	| 17, 27 | 1: a frame | cts | length | NAL | record | filler
const (
	tagHeader  = 5
	unitPrefix = tagHeader + 4 + 1
	recordSize = 40
	// MinFrame is the least size of a frame, in bytes.
	MinFrame = unitPrefix + recordSize
	// headSize is how much of a message a player keeps.
	headSize = 64

	filler = 0xa5
)

// record is what a frame says about itself. On the wire it has 7 bits a byte and the
// eighth set: no start code of H.264 can appear in it, so a server may put the frame
// into a transport stream as well.
type record struct {
	run    uint64
	seq    uint64 // from 0 on, for each stream
	stamp  int64  // clock of the Load at the attempt to send
	stream uint32
	size   uint32 // bytes of the whole message
}

func (r record) put(b []byte) {
	put7(b[0:10], r.run)
	put7(b[10:20], r.seq)
	put7(b[20:30], uint64(r.stamp))
	put7(b[30:35], uint64(r.stream))
	put7(b[35:40], uint64(r.size))
}

// getRecord reads a record, if there is one.
func getRecord(b []byte) (r record, ok bool) {
	if len(b) < recordSize || b[0]&0x80 == 0 {
		return r, false
	}
	r.run, r.seq, r.stamp = get7(b[0:10]), get7(b[10:20]), int64(get7(b[20:30]))
	r.stream, r.size = uint32(get7(b[30:35])), uint32(get7(b[35:40]))
	return r, true
}

func put7(b []byte, v uint64) {
	for i := range b {
		b[i] = 0x80 | byte(v)
		v >>= 7
	}
}

func get7(b []byte) (v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		v = v<<7 | uint64(b[i]&0x7f)
	}
	return v
}

// newFrame is a video message of a size, at least MinFrame, without its record.
func newFrame(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = filler
	}
	copy(b, []byte{0, 1, 0, 0, 0})
	binary.BigEndian.PutUint32(b[tagHeader:], uint32(size-tagHeader-4))
	return b
}

// setKey makes a frame a key frame, or one that needs others.
func setKey(frame []byte, key bool) {
	frame[0], frame[unitPrefix-1] = 0x27, 0x41
	if key {
		frame[0], frame[unitPrefix-1] = 0x17, 0x65
	}
}

// isFrame tells pictures from configuration records, by a video message's beginning.
func isFrame(head []byte) bool { return len(head) >= 2 && (head[1] == 1 || head[0]&0x80 != 0) }

// sequenceHeader is the configuration of a 640x360 stream of H.264, High profile,
// level 3: the message that comes before the first frame.
func sequenceHeader() []byte {
	sps := []byte{
		0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xa0, 0x2f, 0xf9, 0x61, 0x00, 0x00, 0x03, 0x00, 0x01,
		0x00, 0x00, 0x03, 0x00, 0x32, 0x0f, 0x16, 0x2d, 0x96,
	}
	pps := []byte{0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0}
	b := []byte{0x17, 0, 0, 0, 0, 1, sps[1], sps[2], sps[3], 0xff, 0xe1, 0, byte(len(sps))}
	b = append(append(b, sps...), 1, 0, byte(len(pps)))
	return append(b, pps...)
}
