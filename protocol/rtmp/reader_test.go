package rtmp

import (
	"bufio"
	"bytes"
	"io"
	"testing"
)

// Headers of every fmt, as encoders use them.
func TestReaderHeaders(t *testing.T) {
	p := data(200)
	msg := func(csid, typ int, ts uint32, payload []byte) Message {
		return Message{ChunkStreamID: uint32(csid), Type: uint8(typ), StreamID: 1, Timestamp: ts, Payload: payload}
	}
	tests := []struct {
		name string
		wire []byte
		want []Message
	}{
		{
			"deltas (ffmpeg): fmt 0, then 1, 2 and 3",
			cat(h0(4, 100, 3, TypeAudio, 1), p[:3], h1(4, 23, 5, TypeAudio), p[:5], h2(4, 24), p[:5], h3(4), p[:5]),
			[]Message{msg(4, TypeAudio, 100, p[:3]), msg(4, TypeAudio, 123, p[:5]), msg(4, TypeAudio, 147, p[:5]), msg(4, TypeAudio, 171, p[:5])},
		},
		{
			// FMLE does that, see SrsProtocol::read_message_header.
			"fmt 3 after fmt 0 begins a message whose delta is the timestamp (section 5.3.1.2.4)",
			cat(h0(4, 26, 4, TypeAudio, 1), p[:4], h3(4), p[:4], h3(4), p[:4]),
			[]Message{msg(4, TypeAudio, 26, p[:4]), msg(4, TypeAudio, 52, p[:4]), msg(4, TypeAudio, 78, p[:4])},
		},
		{
			"fmt 3 continues a message, whatever the delta",
			cat(h0(6, 1000, 200, TypeVideo, 1), p[:128], h3(6), p[128:], h1(6, 40, 130, TypeVideo), p[:128], h3(6), p[128:130]),
			[]Message{msg(6, TypeVideo, 1000, p), msg(6, TypeVideo, 1040, p[:130])},
		},
		{
			"messages interleaved on three chunk streams",
			cat(
				h0(6, 10, 200, TypeVideo, 1), p[:128],
				h0(64, 11, 150, TypeAudio, 1), p[:128],
				h0(400, 12, 2, TypeDataAMF0, 1), p[:2],
				h3(64), p[128:150],
				h1(64, 5, 1, TypeAudio), p[:1],
				h3(6), p[128:],
			),
			[]Message{msg(400, TypeDataAMF0, 12, p[:2]), msg(64, TypeAudio, 11, p[:150]), msg(64, TypeAudio, 16, p[:1]), msg(6, TypeVideo, 10, p)},
		},
		{
			"a first chunk of fmt 1 (librtmp's ping)",
			cat(h1(2, 0, 6, TypeUserControl), []byte{0, 6, 0, 0, 0xd, 0xf}),
			[]Message{{ChunkStreamID: 2, Type: TypeUserControl, Payload: []byte{0, 6, 0, 0, 0xd, 0xf}}},
		},
		{
			"timestamps that go back wrap",
			cat(h0(4, 100, 1, TypeAudio, 1), p[:1], h2(4, 0xffffff), u32(-30), p[:1]),
			[]Message{msg(4, TypeAudio, 100, p[:1]), msg(4, TypeAudio, 70, p[:1])},
		},
		{
			"zero-length messages, with fmt 3 too",
			cat(h0(4, 7, 0, TypeAudio, 1), h3(4), h1(4, 1, 1, TypeAudio), p[:1]),
			[]Message{msg(4, TypeAudio, 7, nil), msg(4, TypeAudio, 14, nil), msg(4, TypeAudio, 15, p[:1])},
		},
		{
			"a continuation with a needless header of the same length",
			cat(h0(6, 50, 130, TypeVideo, 1), p[:128], h1(6, 99, 130, TypeVideo), p[128:130], h2(6, 10), p[:128], h2(6, 77), p[128:130]),
			[]Message{msg(6, TypeVideo, 50, p[:130]), msg(6, TypeVideo, 60, p[:130])},
		},
		{
			"an id below 320 in the three-byte form is the same chunk stream",
			cat(h0(100, 5, 130, TypeVideo, 1), p[:128], []byte{3<<6 | 1, 36, 0}, p[128:130]),
			[]Message{msg(100, TypeVideo, 5, p[:130])},
		},
		{
			"the message stream id is little endian and inherited",
			cat(basic(0, 5), u24(0), u24(1), []byte{TypeAudio, 4, 3, 2, 1}, p[:1], h1(5, 0, 1, TypeAudio), p[:1]),
			[]Message{
				{ChunkStreamID: 5, Type: TypeAudio, StreamID: 0x01020304, Payload: p[:1]},
				{ChunkStreamID: 5, Type: TypeAudio, StreamID: 0x01020304, Payload: p[:1]},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantMessages(t, mustReadAll(t, tt.wire), tt.want...)
		})
	}
}

func TestReaderTellsTheFormat(t *testing.T) {
	wire := cat(h0(4, 1, 1, TypeAudio, 1), []byte{1}, h1(4, 1, 129, TypeAudio), data(128), h3(4), []byte{1}, h2(4, 1), data(128), h3(4), []byte{2}, h3(4), data(128), h3(4), []byte{3})
	for i, m := range mustReadAll(t, wire) {
		if int(m.Format) != i {
			t.Errorf("message %d has fmt %d", i, m.Format)
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	tests := []struct {
		name   string
		wire   []byte
		limits Limits
		want   error
	}{
		{"fmt 2 first", cat(h2(4, 0), data(1)), Limits{}, ErrChunk},
		{"fmt 3 first", cat(h3(4), data(1)), Limits{}, ErrChunk},
		{"fmt 3 first on a three-byte id", cat(h3(65599), data(1)), Limits{}, ErrChunk},
		{"fmt 0 inside a message", cat(h0(4, 0, 200, TypeAudio, 1), data(128), h0(4, 0, 200, TypeAudio, 1)), Limits{}, ErrChunk},
		{"another length inside a message", cat(h0(4, 0, 200, TypeAudio, 1), data(128), h1(4, 0, 201, TypeAudio)), Limits{}, ErrChunk},
		// It would slip a command past the limit for commands.
		{"another type inside a message", cat(h0(4, 0, 200, TypeAudio, 1), data(128), h1(4, 0, 200, TypeCommandAMF0)), Limits{}, ErrChunk},
		{"chunk size 0", cat(h0(2, 0, 4, TypeSetChunkSize, 0), u32(0)), Limits{}, ErrChunkSize},
		{"chunk size with the high bit", cat(h0(2, 0, 4, TypeSetChunkSize, 0), u32(0x80000000)), Limits{}, ErrChunkSize},
		{"chunk size over 16777215", cat(h0(2, 0, 4, TypeSetChunkSize, 0), u32(0x1000000)), Limits{}, ErrChunkSize},
		{"a short SetChunkSize", cat(h0(2, 0, 3, TypeSetChunkSize, 0), data(3)), Limits{}, ErrControlMessage},
		{"an empty SetChunkSize", h0(2, 0, 0, TypeSetChunkSize, 0), Limits{}, ErrControlMessage},
		{"a short Abort", cat(h0(2, 0, 1, TypeAbort, 0), data(1)), Limits{}, ErrControlMessage},
		{"media over 8 MiB", h0(6, 0, 8<<20+1, TypeVideo, 1), Limits{}, ErrTooLarge},
		{"a command over 64 KiB", h0(3, 0, 64<<10+1, TypeCommandAMF0, 0), Limits{}, ErrTooLarge},
		{"data over 64 KiB", h0(3, 0, 64<<10+1, TypeDataAMF0, 0), Limits{}, ErrTooLarge},
		{"an unknown type over 64 KiB", h0(3, 0, 64<<10+1, 99, 0), Limits{}, ErrTooLarge},
		{"media over its own limit", h0(6, 0, 11, TypeAudio, 1), Limits{Message: 10}, ErrTooLarge},
		{"a command over its own limit", h0(6, 0, 11, TypeCommandAMF3, 1), Limits{Command: 10}, ErrTooLarge},
		{"a second message over the limit, by fmt 1", cat(h0(6, 0, 1, TypeAudio, 1), data(1), h1(6, 0, 11, TypeAudio)), Limits{Message: 10}, ErrTooLarge},
		{"too many chunk streams", cat(h0(3, 0, 0, TypeAudio, 1), h0(4, 0, 0, TypeAudio, 1), h0(5, 0, 0, TypeAudio, 1)), Limits{ChunkStreams: 2}, ErrChunkStreams},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ms, err := readAll(NewReader(bytes.NewReader(tt.wire), tt.limits))
			if err == nil {
				t.Fatalf("taken: %+v", heads(ms))
			}
			wantError(t, err, tt.want)
		})
	}
}

// What the limits allow is read.
func TestReaderTakesTheMost(t *testing.T) {
	var wire []byte
	wire = AppendMessage(wire, ControlMessage(TypeSetChunkSize, MaxChunkSize), DefaultChunkSize)
	for i, m := range []Message{
		{Type: TypeCommandAMF0, Payload: data(64 << 10)},
		{Type: TypeVideo, Payload: data(8 << 20)},
		{Type: TypeAggregate, Payload: data(65 << 10)},
	} {
		m.ChunkStreamID = 3 + uint32(i)
		wire = AppendMessage(wire, m, MaxChunkSize)
	}
	for csid := range 60 { // and 4 before
		wire = AppendMessage(wire, Message{ChunkStreamID: 1000 + uint32(csid), Type: TypeAudio}, MaxChunkSize)
	}
	if ms := mustReadAll(t, wire); len(ms) != 64 || len(ms[2].Payload) != 8<<20 || !bytes.Equal(ms[2].Payload, data(8<<20)) {
		t.Errorf("%d messages", len(ms))
	}
	_, err := readAll(NewReader(bytes.NewReader(AppendMessage(wire, Message{ChunkStreamID: 9, Type: TypeAudio}, MaxChunkSize)), Limits{}))
	wantError(t, err, ErrChunkStreams)
}

func TestReaderAbort(t *testing.T) {
	p := data(300)
	wire := cat(
		h0(6, 10, 300, TypeVideo, 1), p[:128],
		h0(4, 10, 200, TypeAudio, 1), p[:128],
		h0(2, 0, 4, TypeAbort, 0), u32(6),
		h0(6, 20, 5, TypeVideo, 1), p[:5], // would be an error without the Abort
		h0(2, 0, 4, TypeAbort, 0), u32(77), // unknown: nothing to do
		h0(2, 0, 4, TypeAbort, 0), u32(6), // nothing half read: nothing to do
		h3(4), p[128:200],
	)
	r := NewReader(bytes.NewReader(wire), Limits{})
	got, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !r.AtBoundary() {
		t.Error("not at a boundary at the end")
	}
	abort := func(csid int) Message { return ControlMessage(TypeAbort, uint32(csid)) }
	wantMessages(t, got, abort(6),
		Message{ChunkStreamID: 6, Type: TypeVideo, StreamID: 1, Timestamp: 20, Payload: p[:5]},
		abort(77), abort(6),
		Message{ChunkStreamID: 4, Type: TypeAudio, StreamID: 1, Timestamp: 10, Payload: p[:200]})
}

func TestReaderChunkSizeInsideAMessage(t *testing.T) {
	p := data(600)
	wire := cat(
		h0(6, 10, 600, TypeVideo, 1), p[:128],
		h0(2, 0, 4, TypeSetChunkSize, 0), u32(400),
		h3(6), p[128:528],
		h0(2, 0, 4, TypeSetChunkSize, 0), u32(1),
		h3(6), p[528:529], h3(6), p[529:530],
		// It takes a chunk a byte now, SetChunkSize as well.
		h0(2, 0, 4, TypeSetChunkSize, 0), []byte{0}, h3(2), []byte{0xff}, h3(2), []byte{0xff}, h3(2), []byte{0xff},
		h3(6), p[530:],
	)
	got := mustReadAll(t, wire)
	if len(got) != 4 || !bytes.Equal(got[3].Payload, p) {
		t.Errorf("%+v", heads(got))
	}
}

// The session ends inside a message at a chunk's boundary (io.EOF) or inside a
// chunk (io.ErrUnexpectedEOF), wherever the bytes stop.
func TestReaderTruncated(t *testing.T) {
	p := data(300)
	chunks := [][]byte{
		cat(h0(2, 0, 4, TypeSetChunkSize, 0), u32(150)),
		cat(h0(6, 0xffffff, 300, TypeVideo, 1), u32(20_000_000), p[:150]),
		cat(h0(65599, 5, 10, TypeAudio, 1), p[:10]),
		cat(h3(6), u32(20_000_000), p[150:]),
		cat(h1(200, 5, 151, TypeAudio), p[:150]),
		cat(h3(200), p[150:151]),
		cat(h2(6, 0xffffff), u32(0x1000000), p[:150]),
		cat(h3(6), u32(0x1000000), p[150:]),
		cat(h3(65599), p[:10]),
	}
	boundary := map[int]bool{0: true}
	var wire []byte
	for _, c := range chunks {
		wire = append(wire, c...)
		boundary[len(wire)] = true
	}
	for n := range len(wire) + 1 {
		r := NewReader(bytes.NewReader(wire[:n]), Limits{})
		var err error
		for err == nil {
			_, err = r.ReadMessage()
		}
		want := io.ErrUnexpectedEOF
		if boundary[n] {
			want = io.EOF
		}
		if err != want {
			t.Errorf("%d of %d bytes: %v, want %v", n, len(wire), err, want)
		}
		if _, again := r.ReadMessage(); again == nil {
			t.Errorf("%d bytes: a message after the end", n)
		}
	}
}

func TestReaderBoundaryAndBuffered(t *testing.T) {
	p := data(200)
	wire := cat(
		h0(4, 1, 3, TypeAudio, 1), p[:3],
		h0(6, 1, 200, TypeVideo, 1), p[:128], // half a message, and
		h0(4, 2, 3, TypeAudio, 1), p[:3], // a whole one inside
		h3(6), p[128:],
		h0(4, 3, 3, TypeAudio, 1), p[:3],
	)
	rest := []byte("what follows is not RTMP")
	br := bufio.NewReaderSize(bytes.NewReader(append(wire, rest...)), 4096)
	r := NewReader(br, Limits{})
	if !r.AtBoundary() || len(r.Buffered()) != 0 {
		t.Error("a new Reader is at a boundary with nothing buffered")
	}
	for i, boundary := range []bool{true, false, true, true} {
		if _, err := r.ReadMessage(); err != nil {
			t.Fatal(err)
		}
		if r.AtBoundary() != boundary {
			t.Errorf("after message %d: AtBoundary is %v", i, !boundary)
		}
	}
	if got := r.Buffered(); !bytes.Equal(got, rest) {
		t.Errorf("buffered %q", got)
	}
	if got, _ := io.ReadAll(br); !bytes.Equal(got, rest) {
		t.Errorf("the caller's buffer has %q left", got)
	}
}

// Start is where the first chunk of a message lies, whatever came in between.
func TestReaderStart(t *testing.T) {
	p := data(300)
	at := u32(18_000_000)
	chunks := []struct {
		wire   []byte
		starts string // the message that begins here
		ends   string // the message that is complete after it
	}{
		{cat(h0(2, 0, 4, TypeSetChunkSize, 0), u32(150)), "a", "a"},
		{cat(h0(6, 0xffffff, 300, TypeVideo, 1), at, p[:150]), "b", ""},
		{cat(h0(65599, 5, 10, TypeAudio, 1), p[:10]), "c", "c"},
		{cat(h1(200, 5, 151, TypeAudio), p[:150]), "d", ""},
		{cat(h3(6), at, p[150:]), "", "b"},
		{cat(h3(6), at, p[:150]), "e", ""},
		{cat(h3(200), p[:1]), "", "d"},
		{cat(h3(6), p[150:]), "", "e"}, // the extended timestamp left out
		{h2(65599, 0)[:5], "f", ""},
		{cat([]byte{0}, p[:10]), "", "f"},
		{h0(300, 0, 0, TypeAudio, 1), "g", "g"},
	}
	var wire []byte
	starts := map[string]int{}
	var order []string
	for _, c := range chunks {
		if c.starts != "" {
			starts[c.starts] = len(wire)
		}
		if c.ends != "" {
			order = append(order, c.ends)
		}
		wire = append(wire, c.wire...)
	}
	r := NewReader(bytes.NewReader(wire), Limits{})
	for _, name := range order {
		if _, err := r.ReadMessage(); err != nil {
			t.Fatal(err)
		}
		if r.Start() != int64(starts[name]) {
			t.Errorf("message %s starts at %d, want %d", name, r.Start(), starts[name])
		}
	}
}
