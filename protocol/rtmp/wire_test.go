package rtmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// The bytes of chunks, written down from section 5.3.1 and independent of the
// code under test.

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// basic is a basic header of the shortest form.
func basic(format byte, csid int) []byte {
	switch {
	case csid >= 320:
		return []byte{format<<6 | 1, byte((csid - 64) % 256), byte((csid - 64) / 256)}
	case csid >= 64:
		return []byte{format << 6, byte(csid - 64)}
	}
	return []byte{format<<6 | byte(csid)}
}

func u24(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }
func u32(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// h0, h1 and h2 are message headers after their basic header; h3 has no bytes.
func h0(csid, timestamp, length, typ, streamID int) []byte {
	return cat(basic(0, csid), u24(timestamp), u24(length), []byte{byte(typ)}, binary.LittleEndian.AppendUint32(nil, uint32(streamID)))
}

func h1(csid, delta, length, typ int) []byte {
	return cat(basic(1, csid), u24(delta), u24(length), []byte{byte(typ)})
}

func h2(csid, delta int) []byte { return cat(basic(2, csid), u24(delta)) }
func h3(csid int) []byte        { return basic(3, csid) }

// data is n bytes that differ from their neighbours.
func data(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + 1)
	}
	return b
}

// readAll reads messages until an error, which is returned unless it is io.EOF.
func readAll(r *Reader) ([]Message, error) {
	var out []Message
	for {
		m, err := r.ReadMessage()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, m)
	}
}

func mustReadAll(t *testing.T, wire []byte) []Message {
	t.Helper()
	ms, err := readAll(NewReader(bytes.NewReader(wire), Limits{}))
	if err != nil {
		t.Fatalf("after %d messages: %v", len(ms), err)
	}
	return ms
}

// same compares messages, the Format aside.
func same(a, b Message) bool {
	return a.ChunkStreamID == b.ChunkStreamID && a.Type == b.Type && a.StreamID == b.StreamID &&
		a.Timestamp == b.Timestamp && bytes.Equal(a.Payload, b.Payload)
}

func wantMessages(t *testing.T, got []Message, want ...Message) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d: %+v", len(got), len(want), heads(got))
	}
	for i := range want {
		if !same(got[i], want[i]) {
			t.Errorf("message %d: %+v, want %+v", i, heads(got[i:i+1]), heads(want[i:i+1]))
		}
	}
}

// heads leaves the payloads out, for messages of tests.
func heads(ms []Message) []Message {
	out := make([]Message, len(ms))
	for i, m := range ms {
		m.Payload = m.Payload[:min(len(m.Payload), 8)]
		out[i] = m
	}
	return out
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
