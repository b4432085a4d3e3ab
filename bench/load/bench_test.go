package load

import (
	"testing"

	"srs-proxy/protocol/rtmp"
)

// What a player spends on a frame besides reading it.
func BenchmarkPlayerRTMP(b *testing.B) {
	l := &Load{}
	l.to.Store(1 << 62)
	frame := newFrame(10_000)
	setKey(frame, false)
	record{size: 10_000}.put(frame[unitPrefix:])
	wire := rtmp.AppendMessage(nil, rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Payload: frame}, publishChunk)
	p := &Player{load: l}
	c := rtmpClient{chunks: newChunks(), message: p.rtmpMessage}
	c.chunks.size = publishChunk
	b.SetBytes(int64(len(wire)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.received(wire, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlayerFLV(b *testing.B) {
	l := &Load{}
	l.to.Store(1 << 62)
	frame := newFrame(10_000)
	setKey(frame, false)
	record{size: 10_000}.put(frame[unitPrefix:])
	size := len(frame)
	tag := append([]byte{9, byte(size >> 16), byte(size >> 8), byte(size), 0, 0, 0, 0, 0, 0, 0}, frame...)
	tag = append(tag, 0, 0, 0, 0)
	p := &Player{load: l}
	t := tags{got: func(kind uint8, head []byte, length int) { p.media(kind, head, length, 1) }}
	b.SetBytes(int64(len(tag)))
	b.ReportAllocs()
	for b.Loop() {
		if err := t.feed(tag); err != nil {
			b.Fatal(err)
		}
	}
}
