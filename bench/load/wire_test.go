package load

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"srs-proxy/protocol/rtmp"
)

// Messages come out the same however their bytes are cut.
func TestChunksInAnyCuts(t *testing.T) {
	payload := newFrame(5000)
	setKey(payload, true)
	var wire []byte
	size := rtmp.DefaultChunkSize
	for i, m := range []rtmp.Message{
		{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: 40, Payload: payload},
		rtmp.ControlMessage(rtmp.TypeSetChunkSize, 1000),
		{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: 0x1000000, Payload: payload},
		{ChunkStreamID: 100, Type: rtmp.TypeAudio, StreamID: 1, Timestamp: 5, Payload: []byte{0xaf}},
		{ChunkStreamID: 4000, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: 5},
	} {
		wire = rtmp.AppendMessage(wire, m, size)
		if i == 1 {
			size = 1000
		}
	}
	want := "9/5000/64 1/4/4 9/5000/64 8/1/1 9/0/0 "
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		c, got := newChunks(), ""
		for b := wire; len(b) > 0; {
			n := min(len(b), 1+r.IntN(1+int(seed)*10))
			if err := c.feed(b[:n], func(m message) error {
				got += fmt.Sprintf("%d/%d/%d ", m.kind, m.length, len(m.head))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		if got != want {
			t.Fatalf("cuts %d: %s, want %s", seed, got, want)
		}
	}
}

func FuzzChunks(f *testing.F) {
	f.Add([]byte{0xc3, 0, 0, 0})
	f.Add(rtmp.AppendMessage(nil, rtmp.ControlMessage(rtmp.TypeSetChunkSize, 1000), 128))
	f.Fuzz(func(t *testing.T, b []byte) {
		one, many := newChunks(), newChunks()
		var a, z int
		errOne := one.feed(b, func(m message) error { a += m.length; return nil })
		var errMany error
		for i := 0; i < len(b) && errMany == nil; i++ {
			errMany = many.feed(b[i:i+1], func(m message) error { z += m.length; return nil })
		}
		if a != z || (errOne == nil) != (errMany == nil) {
			t.Errorf("in one piece %d bytes, %v; in many %d, %v", a, errOne, z, errMany)
		}
	})
}

func FuzzFLV(f *testing.F) {
	f.Add([]byte("5\r\nFLV\x01\x01\r\n0\r\n\r\n"), true)
	f.Add(append(make([]byte, flvHeader), 9, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 12), false)
	f.Fuzz(func(t *testing.T, b []byte, chunked bool) {
		count := func(step int) (n int, err error) {
			tags := tags{skip: flvHeader, got: func(_ uint8, _ []byte, length int) { n += 1 + length }}
			var coding chunkedCoding
			for rest := b; len(rest) > 0 && err == nil; {
				now := rest[:min(step, len(rest))]
				rest = rest[len(now):]
				if chunked {
					err = coding.feed(now, tags.feed)
				} else {
					err = tags.feed(now)
				}
			}
			return n, err
		}
		a, errA := count(len(b))
		z, errZ := count(1)
		if a != z || (errA == nil) != (errZ == nil) {
			t.Errorf("in one piece %d, %v; byte by byte %d, %v", a, errA, z, errZ)
		}
	})
}

func TestRecord(t *testing.T) {
	frame := newFrame(MinFrame)
	want := record{run: 1<<64 - 1, seq: 1 << 40, stamp: 1<<62 + 5, stream: 4e9, size: 50}
	want.put(frame[unitPrefix:])
	got, ok := getRecord(frame[unitPrefix:])
	if !ok || got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if bytes.IndexByte(frame[unitPrefix:], 0) >= 0 {
		t.Error("the record has a zero, with which a start code could begin")
	}
	if _, ok := getRecord(make([]byte, recordSize)); ok {
		t.Error("zeros are taken for a record")
	}
}

func TestHistogram(t *testing.T) {
	var h, other Histogram
	if h.Quantile(.5) != 0 {
		t.Error("an empty one has a median")
	}
	for i := range int64(1000) {
		h.Record(i * int64(time.Millisecond))
	}
	other.Record(-1)
	other.Record(1 << 62)
	for _, tt := range []struct {
		q    float64
		want time.Duration
	}{{0, 0}, {.5, 500 * time.Millisecond}, {.99, 990 * time.Millisecond}, {1, 999 * time.Millisecond}} {
		if got := h.Quantile(tt.q); got < tt.want*97/100-time.Millisecond || got > tt.want*103/100+time.Millisecond {
			t.Errorf("quantile %v is %v, want about %v", tt.q, got, tt.want)
		}
	}
	if h.Merge(&other); h.Count() != 1002 || h.Quantile(1) != 1<<62 {
		t.Errorf("merged: %d, most %d", h.Count(), h.Quantile(1))
	}
}

// Neither a player nor a publisher allocates for a frame.
func TestNoAllocationPerFrame(t *testing.T) {
	l := &Load{}
	l.to.Store(1 << 62)
	l.from.Store(0)
	frame := newFrame(10_000)
	setKey(frame, false)
	record{size: 10_000, seq: 1}.put(frame[unitPrefix:])
	wire := rtmp.AppendMessage(nil, rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Payload: frame}, rtmp.DefaultChunkSize)
	p := &Player{load: l}
	c := rtmpClient{chunks: newChunks(), message: p.rtmpMessage, running: true}
	if n := testing.AllocsPerRun(100, func() {
		if err := c.received(wire, 1); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a frame that a player gets", n)
	}
	if p.tally.frames+p.tally.disordered == 0 {
		t.Error("no frame was counted")
	}
}
