package rtmp

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// loop repeats the same bytes for ever.
type loop struct {
	b  []byte
	at int
}

func (l *loop) Read(b []byte) (int, error) {
	n := copy(b, l.b[l.at:])
	l.at = (l.at + n) % len(l.b)
	return n, nil
}

func BenchmarkReader(b *testing.B) {
	for _, size := range []int{200, 10_000, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			wire := AppendMessage(nil, Message{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Payload: data(size)}, 4096)
			r := NewReader(&loop{b: wire}, Limits{})
			r.chunkSize = 4096
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.ReadMessage(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWriter(b *testing.B) {
	w := NewWriter(io.Discard)
	if err := w.SetChunkSize(60000); err != nil {
		b.Fatal(err)
	}
	m := Message{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Timestamp: 18_000_000, Payload: data(10_000)}
	b.SetBytes(int64(len(m.Payload)))
	b.ReportAllocs()
	for b.Loop() {
		if err := w.WriteMessage(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	m := Message{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Timestamp: 18_000_000, Payload: data(10_000)}
	var dst []byte
	b.SetBytes(int64(len(m.Payload)))
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendMessage(dst[:0], m, 128)
	}
}

func BenchmarkParseCommand(b *testing.B) {
	m, err := Command{Name: "publish", TransactionID: 5, Args: []any{"livestream?token=x", "live"}}.Message(8, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseCommand(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAcceptHandshake(b *testing.B) {
	wire := cat([]byte{3}, data(2*handshakeSize))
	b.ReportAllocs()
	for b.Loop() {
		s := script{in: bytes.NewReader(wire)}
		if _, err := AcceptHandshake(&s); err != nil {
			b.Fatal(err)
		}
	}
}

// A steady stream costs the Writer nothing and the Reader its payload.
func TestSteadyStateAllocations(t *testing.T) {
	m := Message{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Payload: data(50_000)}
	w := NewWriter(io.Discard)
	if n := testing.AllocsPerRun(100, func() { _ = w.WriteMessage(m) }); n != 0 {
		t.Errorf("%v allocations a message written", n)
	}
	r := NewReader(&loop{b: AppendMessage(nil, m, DefaultChunkSize)}, Limits{})
	if n := testing.AllocsPerRun(100, func() { _, _ = r.ReadMessage() }); n != 1 {
		t.Errorf("%v allocations a message read", n)
	}
}
