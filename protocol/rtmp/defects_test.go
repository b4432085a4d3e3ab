package rtmp

import (
	"bytes"
	"io"
	goruntime "runtime"
	"testing"
)

// allocated is what f allocates in bytes.
func allocated(f func()) int {
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	f()
	goruntime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// The existing proxy allocated 16 MiB for the 28 bytes of a header.
func TestDefect5_LengthWithoutDataAllocatesLittle(t *testing.T) {
	header := cat(h0(6, 0, 0xffffff, TypeVideo, 1), data(16))
	n := allocated(func() {
		r := NewReader(bytes.NewReader(header), Limits{Message: 1 << 24})
		if _, err := r.ReadMessage(); err != io.ErrUnexpectedEOF {
			t.Errorf("got %v", err)
		}
	})
	if n > 64<<10 {
		t.Errorf("%d bytes allocated for %d", n, len(header))
	}
}

func TestDefect5_LengthsOnEveryChunkStreamAllocateLittle(t *testing.T) {
	var wire []byte
	for csid := range 64 {
		wire = append(wire, cat(h0(3+csid, 0, 8<<20, TypeVideo, 1), data(DefaultChunkSize))...)
	}
	n := allocated(func() {
		if ms, err := readAll(NewReader(bytes.NewReader(wire), Limits{})); err != nil || len(ms) != 0 {
			t.Errorf("%d messages, %v", len(ms), err)
		}
	})
	if n > 64*5<<10 {
		t.Errorf("%d bytes allocated for %d", n, len(wire))
	}
}

// A long message costs about what arrived of it.
func TestDefect5_MemoryGrowsWithTheData(t *testing.T) {
	const arrived = 1 << 20
	var wire []byte
	wire = AppendMessage(wire, ControlMessage(TypeSetChunkSize, MaxChunkSize), DefaultChunkSize)
	wire = append(wire, cat(h0(6, 0, 8<<20, TypeVideo, 1), data(arrived))...)
	n := allocated(func() {
		if _, err := readAll(NewReader(bytes.NewReader(wire), Limits{})); err != io.ErrUnexpectedEOF {
			t.Errorf("got %v", err)
		}
	})
	if n > 5*arrived {
		t.Errorf("%d bytes allocated for %d", n, arrived)
	}
}

func TestDefect5_ThreeByteChunkStreamID(t *testing.T) {
	for _, csid := range []int{320, 321, 576, 65599} {
		ms := mustReadAll(t, cat([]byte{1, byte(csid - 64), byte((csid - 64) >> 8)}, u24(5), u24(2), []byte{TypeAudio, 1, 0, 0, 0}, data(2)))
		wantMessages(t, ms, Message{ChunkStreamID: uint32(csid), Type: TypeAudio, StreamID: 1, Timestamp: 5, Payload: data(2)})
	}
}

// A SetChunkSize holds from the very next chunk on.
func TestDefect5_SetChunkSizeKeepsInStep(t *testing.T) {
	var wire bytes.Buffer
	w := NewWriter(&wire)
	var want []Message
	for i, size := range []int{60000, 1, 128, 4096, 65536} {
		set := ControlMessage(TypeSetChunkSize, uint32(size))
		m := Message{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Timestamp: uint32(i), Payload: data(5000)}
		want = append(want, set, m)
		if err := w.WriteMessages(set, m); err != nil {
			t.Fatal(err)
		}
	}
	wantMessages(t, mustReadAll(t, wire.Bytes()), want...)
}
