package rtmp

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"testing"
	"testing/iotest"
)

func TestRoundTrip(t *testing.T) {
	csids := []uint32{2, 3, 63, 64, 319, 320, 65599}
	timestamps := []uint32{0, 1, 0xfffffe, 0xffffff, 0x1000000, 5 * 3600 * 1000, math.MaxUint32}
	sizes := map[int][]int{ // chunk size: payload lengths
		1:            {0, 1, 2, 300},
		128:          {0, 1, 127, 128, 129, 256, 1000},
		4096:         {0, 4095, 4096, 4097, 10000},
		65536:        {1, 65536, 65537, 200000},
		MaxChunkSize: {1, 200000},
	}
	for chunkSize, lengths := range sizes {
		for _, csid := range csids {
			t.Run(fmt.Sprintf("chunk %d csid %d", chunkSize, csid), func(t *testing.T) {
				var wire bytes.Buffer
				w := NewWriter(&wire)
				if err := w.SetChunkSize(chunkSize); err != nil {
					t.Fatal(err)
				}
				var want []Message
				for i, ts := range timestamps {
					for _, n := range lengths {
						m := Message{ChunkStreamID: csid, Type: TypeVideo, StreamID: uint32(i) << 24, Timestamp: ts, Payload: data(n)}
						want = append(want, m)
						if err := w.WriteMessage(m); err != nil {
							t.Fatal(err)
						}
					}
				}
				r := NewReader(&wire, Limits{})
				got, err := readAll(r)
				if err != nil {
					t.Fatal(err)
				}
				if r.ChunkSize() != chunkSize || w.ChunkSize() != chunkSize {
					t.Errorf("chunk sizes: reader %d, writer %d", r.ChunkSize(), w.ChunkSize())
				}
				wantMessages(t, got[1:], want...)
				for _, m := range got {
					if m.Format != 0 {
						t.Fatalf("fmt %d written; whoever joins at a message must find a full header", m.Format)
					}
				}
			})
		}
	}
}

// However the source cuts its bytes, the messages are the same.
func TestRoundTripOddReads(t *testing.T) {
	var wire []byte
	var want []Message
	for i, n := range []int{0, 1, 500, 128} {
		m := Message{ChunkStreamID: 400, Type: TypeAudio, StreamID: 1, Timestamp: 0xffffff + uint32(i), Payload: data(n)}
		wire, want = AppendMessage(wire, m, DefaultChunkSize), append(want, m)
	}
	for name, src := range map[string]io.Reader{
		"one byte":       iotest.OneByteReader(bytes.NewReader(wire)),
		"half":           iotest.HalfReader(bytes.NewReader(wire)),
		"data with EOF":  iotest.DataErrReader(bytes.NewReader(wire)),
		"nothing at all": &lazyReader{r: bytes.NewReader(wire)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readAll(NewReader(src, Limits{}))
			if err != nil {
				t.Fatal(err)
			}
			wantMessages(t, got, want...)
		})
	}
}

// lazyReader returns no bytes and no error every other time.
type lazyReader struct {
	r    io.Reader
	busy bool
}

func (l *lazyReader) Read(b []byte) (int, error) {
	if l.busy = !l.busy; l.busy {
		return 0, nil
	}
	return l.r.Read(b)
}

func TestWriterWritesOnceAndAfterSetChunkSize(t *testing.T) {
	var writes [][]byte
	w := NewWriter(writerFunc(func(b []byte) { writes = append(writes, bytes.Clone(b)) }))
	err := w.WriteMessages(
		ControlMessage(TypeWindowAckSize, 2500000),
		ControlMessage(TypeSetChunkSize, 1000),
		Message{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Payload: data(1500)},
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(writes) != 1 {
		t.Fatalf("%d writes", len(writes))
	}
	want := cat(
		h0(2, 0, 4, TypeWindowAckSize, 0), u32(2500000),
		h0(2, 0, 4, TypeSetChunkSize, 0), u32(1000),
		h0(6, 0, 1500, TypeVideo, 1), data(1500)[:1000], h3(6), data(1500)[1000:],
	)
	if !bytes.Equal(writes[0], want) {
		t.Errorf("wrote % x\nwant  % x", writes[0], want)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }

func TestWriterRefuses(t *testing.T) {
	wrote := 0
	w := NewWriter(writerFunc(func(b []byte) { wrote += len(b) }))
	for _, n := range []int{0, -1, MaxChunkSize + 1, 1 << 31} {
		wantError(t, w.SetChunkSize(n), ErrChunkSize)
	}
	wantError(t, w.WriteMessage(Message{ChunkStreamID: 2, Type: TypeSetChunkSize, Payload: []byte{0, 0}}), ErrControlMessage)
	wantError(t, w.WriteMessage(Message{ChunkStreamID: 6, Type: TypeVideo, Payload: make([]byte, 1<<24)}), ErrTooLarge)
	wantError(t, w.WriteMessages(ControlMessage(TypeSetChunkSize, 4096), ControlMessage(TypeSetChunkSize, 0)), ErrChunkSize)
	if wrote != 0 || w.ChunkSize() != DefaultChunkSize {
		t.Errorf("wrote %d bytes, chunk size %d", wrote, w.ChunkSize())
	}
	failed := NewWriter(iotestErrWriter{})
	wantError(t, failed.WriteMessage(Message{ChunkStreamID: 3, Type: TypeAudio}), io.ErrClosedPipe)
}

type iotestErrWriter struct{}

func (iotestErrWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestControlMessages(t *testing.T) {
	tests := []struct {
		name string
		m    Message
		want []byte
	}{
		{"acknowledgement", ControlMessage(TypeAcknowledgement, 0xfffffffe), cat(h0(2, 0, 4, 3, 0), []byte{0xff, 0xff, 0xff, 0xfe})},
		{"abort", ControlMessage(TypeAbort, 65599), cat(h0(2, 0, 4, 2, 0), u32(65599))},
		{"peer bandwidth", PeerBandwidthMessage(2500000), cat(h0(2, 0, 5, 6, 0), u32(2500000), []byte{2})},
		{"stream begin", UserControlMessage(EventStreamBegin, 1), cat(h0(2, 0, 6, 4, 0), []byte{0, 0, 0, 0, 0, 1})},
		{"stream EOF", UserControlMessage(EventStreamEOF, 0x01020304), cat(h0(2, 0, 6, 4, 0), []byte{0, 1, 1, 2, 3, 4})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := AppendMessage(nil, tt.m, DefaultChunkSize); !bytes.Equal(got, tt.want) {
				t.Errorf("% x, want % x", got, tt.want)
			}
		})
	}
}
