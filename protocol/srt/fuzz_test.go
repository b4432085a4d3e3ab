package srt

import (
	"bytes"
	"testing"
)

// FuzzPacket: whatever a stranger sends, reading it neither panics nor reads beyond it,
// and a handshake that was read is written back the same.
func FuzzPacket(f *testing.F) {
	f.Add([]byte(conclusion("#!::r=live/x,m=publish")))
	f.Add([]byte(conclusion("x")[:HandshakeSize]))
	f.Add(append([]byte(conclusion("x")[:HandshakeSize]), 0, 5, 0xff, 0xff))
	f.Add(append([]byte(conclusion("x")[:HandshakeSize]), 0, 5, 0, 0, 0, 5, 0, 1))
	f.Add(AppendShutdown(nil, 1, 2))
	f.Add([]byte{0x80, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		h, err := ParseHandshake(p)
		if err != nil {
			return
		}
		before := bytes.Clone(p)
		h.Put(p)
		if !bytes.Equal(before, p) {
			t.Fatal("put back differs")
		}
		id, err := ConclusionStreamID(p, h)
		if err != nil {
			return
		}
		if len(id) > MaxStreamID {
			t.Fatalf("a stream id of %d bytes", len(id))
		}
	})
}

// FuzzStreamID: a request that was read names a stream.
func FuzzStreamID(f *testing.F) {
	for _, id := range []string{
		"", "live/x", "#!::h=v/live/x,m=publish", "#!::r=live/x?k=v,m=request", "#!::a=b=c&&d;e,r=/", "#!::h=//,r=.", "a/b/c.d", "#!::r",
	} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		r, err := ParseStreamID(id, DefaultApp)
		if err == nil && (r.Stream.Vhost == "" || r.Stream.App == "" || r.Stream.Name == "") {
			t.Fatalf("%q: %+v", id, r)
		}
	})
}
