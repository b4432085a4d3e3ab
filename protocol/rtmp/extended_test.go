package rtmp

import (
	"bytes"
	"io"
	"math"
	"net"
	"testing"
	"time"
)

func TestReaderExtendedTimestamp(t *testing.T) {
	const at = 5 * 3600 * 1000 // 18,000,000 ms: over 2^24
	p := data(300)
	audio := func(ts uint32, n int) Message {
		return Message{ChunkStreamID: 4, Type: TypeAudio, StreamID: 1, Timestamp: ts, Payload: p[:n]}
	}
	tests := []struct {
		name string
		wire []byte
		want []Message
	}{
		{
			"16777214 is the last without",
			cat(h0(4, 0xfffffe, 1, TypeAudio, 1), p[:1]),
			[]Message{audio(0xfffffe, 1)},
		},
		{
			"16777215 is the first with",
			cat(h0(4, 0xffffff, 1, TypeAudio, 1), u32(0xffffff), p[:1], h0(4, 0xffffff, 1, TypeAudio, 1), u32(0x1000000), p[:1]),
			[]Message{audio(0xffffff, 1), audio(0x1000000, 1)},
		},
		{
			"at five hours, repeated in continuations (section 5.3.1.3)",
			cat(h0(4, 0xffffff, 300, TypeAudio, 1), u32(at), p[:128], h3(4), u32(at), p[128:256], h3(4), u32(at), p[256:]),
			[]Message{audio(at, 300)},
		},
		{
			"at five hours, left out in continuations",
			cat(h0(4, 0xffffff, 300, TypeAudio, 1), u32(at), p[:128], h3(4), p[128:256], h3(4), p[256:], h2(4, 10), p[:128], h3(4), p[128:256], h3(4), p[256:]),
			[]Message{audio(at, 300), audio(at+10, 300)},
		},
		{
			"left out, and the last chunk is shorter than a timestamp",
			cat(h0(4, 0xffffff, 129, TypeAudio, 1), u32(at), p[:128], h3(4), p[128:129]),
			[]Message{audio(at, 129)},
		},
		{
			"left out, and the payload begins like the timestamp",
			cat(h0(4, 0xffffff, 131, TypeAudio, 1), u32(0x01010000|int(p[2])), p[:128], h3(4), []byte{1, 1, 7}),
			[]Message{{ChunkStreamID: 4, Type: TypeAudio, StreamID: 1, Timestamp: 0x01010000 | uint32(p[2]), Payload: cat(p[:128], []byte{1, 1, 7})}},
		},
		{
			"across 2^24 by a short delta",
			cat(h0(4, 0xfffff0, 200, TypeAudio, 1), p[:128], h3(4), p[128:200], h2(4, 32), p[:128], h3(4), p[128:200]),
			[]Message{audio(0xfffff0, 200), audio(0x1000010, 200)},
		},
		{
			"a first message at zero, then a delta of five hours (ffmpeg)",
			cat(h0(4, 0, 7, TypeAudio, 1), p[:7], h1(4, 0xffffff, 200, TypeAudio), u32(at), p[:128], h3(4), u32(at), p[128:200], h1(4, 46, 3, TypeAudio), p[:3]),
			[]Message{audio(0, 7), audio(at, 200), audio(at+46, 3)},
		},
		{
			"fmt 3 begins a message: the extended timestamp is its delta (ffmpeg)",
			cat(h0(4, 0, 3, TypeAudio, 1), p[:3], h2(4, 0xffffff), u32(0x1000001), p[:3], h3(4), u32(0x1000005), p[:3]),
			[]Message{audio(0, 3), audio(0x1000001, 3), audio(0x2000006, 3)},
		},
		{
			"fmt 3 after an extended fmt 0: the delta is the timestamp, even so",
			cat(h0(4, 0xffffff, 3, TypeAudio, 1), u32(at), p[:3], h3(4), u32(at), p[:3]),
			[]Message{audio(at, 3), audio(2*at, 3)},
		},
		{
			"no more after a short delta",
			cat(h0(4, 0xffffff, 200, TypeAudio, 1), u32(at), p[:128], h3(4), u32(at), p[128:200], h2(4, 5), p[:128], h3(4), p[128:200], h3(4), p[:128], h3(4), p[128:200]),
			[]Message{audio(at, 200), audio(at+5, 200), audio(at+10, 200)},
		},
		{
			"wrap at 2^32",
			cat(h0(4, 0xffffff, 1, TypeAudio, 1), u32(math.MaxUint32), p[:1], h2(4, 41), p[:1], h3(4), p[:1]),
			[]Message{audio(math.MaxUint32, 1), audio(40, 1), audio(81, 1)},
		},
		{
			"per chunk stream",
			cat(h0(4, 0xffffff, 200, TypeAudio, 1), u32(at), p[:128], h0(6, 9, 200, TypeVideo, 1), p[:128], h3(6), p[128:200], h3(4), u32(at), p[128:200]),
			[]Message{{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Timestamp: 9, Payload: p[:200]}, audio(at, 200)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantMessages(t, mustReadAll(t, tt.wire), tt.want...)
		})
	}
}

func TestWriterRepeatsTheExtendedTimestamp(t *testing.T) {
	p := data(300)
	got := AppendMessage(nil, Message{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Timestamp: 0x1000000, Payload: p}, 128)
	want := cat(h0(6, 0xffffff, 300, TypeVideo, 1), u32(0x1000000), p[:128], h3(6), u32(0x1000000), p[128:256], h3(6), u32(0x1000000), p[256:])
	if !bytes.Equal(got, want) {
		t.Errorf("% x\nwant % x", got, want)
	}
}

// An encoder that leaves the timestamp out may have sent all it has to say: the
// message is complete without another byte.
func TestReaderDoesNotWaitBehindAShortRest(t *testing.T) {
	p := data(129)
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	_ = server.SetReadDeadline(time.Now().Add(10 * time.Second))
	go client.Write(cat(h0(4, 0xffffff, 129, TypeAudio, 1), u32(18_000_000), p[:128], h3(4), p[128:])) // and stays open
	m, err := NewReader(io.Reader(server), Limits{}).ReadMessage()
	if err != nil || !bytes.Equal(m.Payload, p) {
		t.Errorf("%d bytes, %v", len(m.Payload), err)
	}
}
