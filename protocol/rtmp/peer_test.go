package rtmp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/iotest"
	"time"

	gortmp "github.com/yutopp/go-rtmp"
	"github.com/yutopp/go-rtmp/handshake"
	"github.com/yutopp/go-rtmp/message"
)

// go-rtmp is an independent implementation of the chunk stream. Its bounds: it
// does not take extended timestamps in continuations, nor empty messages.

func peer(r io.Reader, w io.Writer, chunkSize int) *gortmp.ChunkStreamer {
	return gortmp.NewChunkStreamer(r, w, &gortmp.StreamControlStateConfig{
		DefaultChunkSize:     uint32(chunkSize),
		MaxChunkStreams:      100,
		DefaultAckWindowSize: 1 << 30,
	})
}

func TestPeerReadsWhatWeAppend(t *testing.T) {
	for _, chunkSize := range []int{1, 128, 4096, 65536} {
		t.Run(fmt.Sprint(chunkSize), func(t *testing.T) {
			var want []Message
			for i, csid := range []uint32{2, 63, 64, 319, 320, 65599} {
				want = append(want,
					Message{ChunkStreamID: csid, Type: TypeVideo, StreamID: 1, Timestamp: 0xfffffe - uint32(i), Payload: data(1000 + i)},
					Message{ChunkStreamID: csid, Type: TypeAudio, StreamID: uint32(i), Timestamp: uint32(i), Payload: data(1)},
				)
				if chunkSize > 1 { // one chunk each
					want = append(want, Message{ChunkStreamID: csid, Type: TypeAudio, StreamID: 1, Timestamp: 18_000_000, Payload: data(100)})
				}
			}
			var wire []byte
			for _, m := range want {
				wire = AppendMessage(wire, m, chunkSize)
			}
			// A byte at a time: it reads past a three-byte basic header otherwise.
			cs := peer(iotest.OneByteReader(bytes.NewReader(wire)), io.Discard, chunkSize)
			defer cs.Close()
			for i, m := range want {
				var got gortmp.ChunkMessage
				csid, ts, err := cs.Read(&got)
				if err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
				read := Message{ChunkStreamID: uint32(csid), Type: uint8(got.Message.TypeID()), StreamID: got.StreamID, Timestamp: ts}
				var body io.Reader
				switch m := got.Message.(type) {
				case *message.AudioMessage:
					body = m.Payload
				case *message.VideoMessage:
					body = m.Payload
				}
				if read.Payload, err = io.ReadAll(body); err != nil {
					t.Fatal(err)
				}
				if !same(read, m) {
					t.Errorf("message %d: %+v, want %+v", i, heads([]Message{read}), heads([]Message{m}))
				}
			}
		})
	}
}

// The peer writes deltas and interleaves the chunks of concurrent messages.
func TestReaderReadsThePeer(t *testing.T) {
	for _, chunkSize := range []int{16, 128, 4096} {
		t.Run(fmt.Sprint(chunkSize), func(t *testing.T) {
			pr, pw := io.Pipe()
			cs := peer(nil, pw, chunkSize)
			defer cs.Close()
			want := map[uint32][]Message{}
			for i := range 40 {
				for _, csid := range []uint32{4, 64, 400} {
					// The deltas vary, and for a while repeat: fmt 1, 2 and 3.
					ts := uint32(i*40 + max(0, i-20)*i)
					want[csid] = append(want[csid], Message{ChunkStreamID: csid, Type: TypeVideo, StreamID: 1, Timestamp: ts, Payload: data(1 + i/4*int(csid))})
				}
			}
			written := make(chan error, 1)
			go func() {
				for i := range 40 {
					for _, csid := range []uint32{4, 64, 400} {
						m := want[csid][i]
						err := cs.Write(context.Background(), int(csid), m.Timestamp, &gortmp.ChunkMessage{
							StreamID: 1, Message: &message.VideoMessage{Payload: bytes.NewReader(m.Payload)},
						})
						if err != nil {
							written <- err
							return
						}
					}
				}
				written <- nil
			}()
			r := NewReader(pr, Limits{})
			r.chunkSize = uint32(chunkSize)
			got := map[uint32][]Message{}
			formats := map[uint8]int{}
			for range 3 * 40 {
				m, err := r.ReadMessage()
				if err != nil {
					t.Fatal(err)
				}
				formats[m.Format]++
				got[m.ChunkStreamID] = append(got[m.ChunkStreamID], m)
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			for csid := range want {
				wantMessages(t, got[csid], want[csid]...)
			}
			for f := range uint8(4) {
				if formats[f] == 0 {
					t.Errorf("fmt counts %v: no fmt %d seen", formats, f)
				}
			}
		})
	}
}

func TestHandshakeWithPeer(t *testing.T) {
	cfg := &handshake.Config{}
	ours := map[string]func(c net.Conn) error{
		"we dial":   func(c net.Conn) error { return DialHandshake(c, netip.Addr{}) },
		"we accept": func(c net.Conn) error { _, err := AcceptHandshake(c); return err },
	}
	theirs := map[string]func(c net.Conn) error{
		"we dial":   func(c net.Conn) error { return handshake.HandshakeWithClient(c, c, cfg) },
		"we accept": func(c net.Conn) error { return handshake.HandshakeWithServer(c, c, cfg) },
	}
	for name := range ours {
		t.Run(name, func(t *testing.T) {
			a, b := tcpPair(t)
			failed := make(chan error, 1)
			go func() { failed <- theirs[name](b) }()
			if err := ours[name](a); err != nil {
				t.Error(err)
			}
			if err := <-failed; err != nil {
				t.Error("peer:", err)
			}
		})
	}
}

// tcpPair is a connection over loopback: unlike net.Pipe it buffers, which
// go-rtmp's handshake needs.
func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	}
	return a, b
}
