package srt

import "testing"

// What is read of each datagram.
func BenchmarkParse(b *testing.B) {
	data := make([]byte, HeaderSize+1316)
	data[15] = 7
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		p, err := Parse(data)
		if err != nil || p.Destination() != 7 || p.Is(ControlHandshake) {
			b.Fatal(err)
		}
	}
}

// What is read of a connection's beginning.
func BenchmarkConclusion(b *testing.B) {
	p := conclusion("#!::h=live.example.com,r=live/livestream,m=publish,token=x")
	b.ReportAllocs()
	for b.Loop() {
		h, err := ParseHandshake(p)
		if err != nil {
			b.Fatal(err)
		}
		id, err := ConclusionStreamID(p, h)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := ParseStreamID(id, DefaultApp); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandshakeAppend(b *testing.B) {
	h := Handshake{Version: Version5, Stage: StageConclusion, SocketID: 1}
	buf := make([]byte, 0, HandshakeSize)
	b.ReportAllocs()
	for b.Loop() {
		buf = h.Append(buf[:0], 7, 1000)
	}
}
