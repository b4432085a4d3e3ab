package rtmp

import (
	"bytes"
	"os"
	"testing"
)

// FuzzReader: whatever comes, no panic and memory in proportion; what was read
// can be written and reads back the same.
func FuzzReader(f *testing.F) {
	wire, err := os.ReadFile("testdata/ffmpeg-5h.rtmp")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire[:2000])
	p := data(300)
	f.Add(cat(h0(65599, 0xffffff, 300, TypeVideo, 1), u32(18_000_000), p[:128], h3(65599), u32(18_000_000), p[128:256], h3(65599), p[256:]))
	f.Add(cat(h0(2, 0, 4, TypeSetChunkSize, 0), u32(1), h0(4, 5, 2, TypeAudio, 1), p[:1], h3(4), p[:1], h3(4), p[:1]))
	f.Add(cat(h0(6, 0, 200, TypeVideo, 1), p[:128], h0(2, 0, 4, TypeAbort, 0), u32(6), h2(6, 1), p[:128]))
	f.Add(cat(h1(2, 0, 6, TypeUserControl), p[:6], h0(100, 9, 0, TypeAudio, 1), h3(100)))
	f.Fuzz(func(t *testing.T, wire []byte) {
		limits := Limits{Message: 100_000, Command: 10_000, ChunkStreams: 8}
		r := NewReader(bytes.NewReader(wire), limits)
		messages := readChecked(t, r, wire)
		held := 0
		for _, s := range r.streams {
			held += cap(s.payload)
		}
		if most := limits.ChunkStreams*reserveMost + 2*len(wire); held > most || len(r.streams) > limits.ChunkStreams {
			t.Fatalf("%d bytes held on %d chunk streams for %d", held, len(r.streams), len(wire))
		}
		if r.partial < 0 || r.partial > len(r.streams) {
			t.Fatalf("%d messages half read on %d chunk streams", r.partial, len(r.streams))
		}
		var again bytes.Buffer
		w := NewWriter(&again)
		for _, m := range messages {
			if len(m.Payload) > limits.of(m.Type) {
				t.Fatalf("type %d of %d bytes", m.Type, len(m.Payload))
			}
			if err := w.WriteMessage(m); err != nil {
				t.Fatal(err)
			}
		}
		back, err := readAll(NewReader(&again, limits))
		if err != nil {
			t.Fatal(err)
		}
		wantMessages(t, back, messages...)
	})
}

// readChecked reads messages until an error and checks the Reader's books.
func readChecked(t *testing.T, r *Reader, wire []byte) (out []Message) {
	for {
		m, err := r.ReadMessage()
		if err != nil {
			return out
		}
		if start := r.Start(); start >= r.consumed || wire[start]>>6 != m.Format {
			t.Fatalf("message %d of fmt %d starts at %d, %d bytes were taken", len(out), m.Format, start, r.consumed)
		}
		if rest := wire[r.consumed:]; !bytes.HasPrefix(rest, r.Buffered()) {
			t.Fatalf("after %d bytes the buffer is not what follows", r.consumed)
		}
		out = append(out, m)
	}
}

func FuzzHandshake(f *testing.F) {
	c := data(handshakeSize)
	f.Add(cat([]byte{3}, c, c))
	f.Add(cat(prefix(192, 0, 2, 1), []byte{3}, c, c, []byte("rest")))
	f.Add(cat(prefix(make([]byte, 1024)...), []byte{3}, c, c))
	f.Add([]byte{0xf3, 0xff, 0xff})
	f.Add([]byte{6})
	f.Fuzz(checkAccept)
}

// FuzzParseCommand: no panic, and a command that was understood means the same
// once encoded again.
func FuzzParseCommand(f *testing.F) {
	wire, err := os.ReadFile("testdata/ffmpeg-5h.rtmp")
	if err != nil {
		f.Fatal(err)
	}
	messages, _ := readAll(NewReader(bytes.NewReader(wire), Limits{}))
	for _, m := range messages {
		if m.IsCommand() || m.Type == TypeDataAMF0 {
			f.Add(m.Type, m.Payload)
			f.Add(uint8(TypeCommandAMF3), cat([]byte{0}, m.Payload))
		}
	}
	f.Fuzz(func(t *testing.T, typ uint8, payload []byte) {
		c, err := ParseCommand(Message{Type: typ, Payload: payload})
		if err != nil {
			wantError(t, err, ErrCommand)
			return
		}
		c.Text(0)
		c.Arg(len(c.Args))
		first, err := c.Message(3, 0)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		again, err := ParseCommand(first)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		second, err := again.Message(3, 0)
		if err != nil || !bytes.Equal(first.Payload, second.Payload) {
			t.Fatalf("% x becomes % x, %v", first.Payload, second.Payload, err)
		}
	})
}
