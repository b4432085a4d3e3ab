package rtmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/amf0"
	"srs-proxy/protocol/rtmp"
)

// Everything that a client sent after the handshake arrives at the origin, byte
// for byte: odd chunk sizes, 2- and 3-byte chunk stream ids, interleaved
// messages, unknown commands, fields of connect that we know nothing of.
func TestReplayIsVerbatim(t *testing.T) {
	for _, chunkSize := range []int{128, 4096, 65536} {
		t.Run(fmt.Sprint(chunkSize), func(t *testing.T) {
			received := make(chan []byte, 1)
			o := newOrigin(t, func(o *originConn) {
				if _, _, err := o.answer(1, true); err != nil {
					return
				}
				_ = o.w.WriteMessage(rtmp.StatusMessage(1, "status", "NetStream.Publish.Start", "go"))
				if _, err := o.await(rtmp.TypeDataAMF0); err == nil {
					received <- bytes.Clone(o.received.Bytes())
				}
			})
			r := newRig(t, Config{}, o.addr)
			c := dial(t, r.addr())
			c.connect(128)
			c.write(rtmp.AppendMessage(nil, rtmp.ControlMessage(rtmp.TypeSetChunkSize, uint32(chunkSize)), 128))
			c.command(3, 0, chunkSize, "releaseStream", 2, nil, "a")
			c.command(70, 0, chunkSize, "FCPublish", 3, nil, "a")
			c.command(3, 0, chunkSize, "_checkbw", 4, nil)
			c.await("_result", 4)
			c.command(3, 0, chunkSize, "createStream", 5, nil)
			c.command(3, 0, chunkSize, "createStream", 6, nil)
			if got := c.await("_result", 6); got.Arg(0) != 1.0 {
				t.Errorf("createStream gave %v", got.Arg(0))
			}
			c.command(320, 1, chunkSize, "publish", 7, nil, "a?token=x", "live")
			if code, _, _ := c.awaitStatus(); code != "NetStream.Publish.Start" {
				t.Errorf("status %s", code)
			}
			video := rtmp.Message{ChunkStreamID: 66000 - 500, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: 18_000_000, Payload: bytes.Repeat([]byte("v"), 100_000)}
			c.write(rtmp.AppendMessage(nil, video, chunkSize))
			c.write(rtmp.AppendMessage(nil, rtmp.Message{ChunkStreamID: 5, Type: rtmp.TypeDataAMF0, StreamID: 1, Payload: []byte{2, 0, 1, 'x'}}, chunkSize))
			select {
			case got := <-received:
				if !bytes.HasPrefix(c.sent.Bytes(), got[:min(len(got), c.sent.Len())]) || len(got) != c.sent.Len() {
					t.Errorf("the origin received %d bytes that differ from the %d sent", len(got), c.sent.Len())
				}
			case <-time.After(10 * time.Second):
				t.Fatal("nothing arrived")
			}
		})
	}
}

// An origin that numbers its streams otherwise gets its messages renumbered.
func TestOtherStreamID(t *testing.T) {
	media := make(chan rtmp.Message, 1)
	o := newOrigin(t, func(o *originConn) {
		c, m, err := o.answer(5, false)
		if err != nil || c.Name != "publish" || m.StreamID != 5 {
			t.Errorf("publish came on stream %d: %v", m.StreamID, err)
			return
		}
		_ = o.w.SetChunkSize(4000)
		_ = o.w.WriteMessage(rtmp.UserControlMessage(rtmp.EventStreamBegin, 5))
		_ = o.w.WriteMessage(rtmp.StatusMessage(5, "status", "NetStream.Publish.Start", "go"))
		if m, err := o.await(rtmp.TypeVideo); err == nil {
			media <- m
		}
		_, _ = io.Copy(io.Discard, o.conn)
	})
	r := newRig(t, Config{}, o.addr)
	c := dial(t, r.addr())
	c.publish("a")
	if code, _, id := c.awaitStatus(); code != "NetStream.Publish.Start" || id != 1 {
		t.Errorf("status %s on stream %d", code, id)
	}
	c.write(rtmp.AppendMessage(nil, rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: 7, Payload: bytes.Repeat([]byte("v"), 5000)}, 128))
	select {
	case m := <-media:
		if m.StreamID != 5 || m.Timestamp != 7 || len(m.Payload) != 5000 {
			t.Errorf("media on stream %d at %d, %d bytes", m.StreamID, m.Timestamp, len(m.Payload))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no media")
	}
}

// An origin that compresses its headers refers to messages that the client never
// saw, since they were answered here: they are re-encoded until it starts anew.
func TestCompressedHeaders(t *testing.T) {
	o := newOrigin(t, func(o *originConn) {
		if _, _, err := o.answer(1, false); err != nil {
			return
		}
		// fmt 1 on chunk stream 3: relative to the swallowed _result. fmt 2 after it.
		status := command(t, 3, 0, "onStatus", 0, nil, amf0.Object{{Key: "code", Value: "NetStream.Play.Start"}}).Payload
		_, _ = o.conn.Write(chunk(1, 3, 20, uint32(len(status)), rtmp.TypeCommandAMF0, status))
		data := bytes.Repeat([]byte{0x17}, len(status))
		_, _ = o.conn.Write(chunk(2, 3, 5, 0, 0, append(data[:0:0], status...)))
		for i := range 3 { // full headers on a fresh chunk stream, then compressed ones
			v := bytes.Repeat([]byte{byte(i)}, 100)
			if i == 0 {
				_, _ = o.conn.Write(rtmp.AppendMessage(nil, rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: 1000, Payload: v}, 128))
			} else {
				_, _ = o.conn.Write(chunk(2, 6, 40, 0, 0, v))
			}
		}
		_, _ = io.Copy(io.Discard, o.conn)
	})
	r := newRig(t, Config{}, o.addr)
	c := dial(t, r.addr())
	c.connect(128)
	c.command(3, 0, 128, "createStream", 2, nil)
	c.await("_result", 2)
	c.command(8, 1, 128, "play", 0, nil, "a")
	if code, _, _ := c.awaitStatus(); code != "NetStream.Play.Start" {
		t.Errorf("status %s", code)
	}
	var times []uint32
	for len(times) < 3 {
		m, err := c.in.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == rtmp.TypeVideo {
			times = append(times, m.Timestamp)
			if len(m.Payload) != 100 || m.Payload[0] != byte(len(times)-1) {
				t.Errorf("frame %d damaged", len(times))
			}
		}
	}
	if fmt.Sprint(times) != "[1000 1040 1080]" {
		t.Errorf("times %v", times)
	}
}

// chunk writes one chunk with a given header type.
func chunk(format, csid byte, delta, length uint32, typ byte, payload []byte) []byte {
	b := []byte{format<<6 | csid, byte(delta >> 16), byte(delta >> 8), byte(delta)}
	if format == 1 {
		b = append(b, byte(length>>16), byte(length>>8), byte(length), typ)
	}
	for len(payload) > 128 {
		b = append(append(b, payload[:128]...), 3<<6|csid)
		payload = payload[128:]
	}
	return append(b, payload...)
}

func TestOriginErrorReachesTheClient(t *testing.T) {
	o := newOrigin(t, func(o *originConn) {
		c, _, err := o.next()
		if err != nil {
			return
		}
		_ = o.w.WriteMessage(command(t, 3, 0, "_error", c.TransactionID, nil, amf0.Object{{Key: "description", Value: "no such app"}}))
		_, _ = io.Copy(io.Discard, o.conn)
	})
	r := newRig(t, Config{}, o.addr)
	c := dial(t, r.addr())
	c.publish("a")
	if code, text, _ := c.awaitStatus(); code != "NetStream.Publish.BadName" || text != "the origin refused: no such app" {
		t.Errorf("status %s, %q", code, text)
	}
	if s := r.origins()[0]; s.Publishers != 0 || !s.EjectedUntil.IsZero() {
		t.Errorf("after the refusal: %+v", s)
	}
}

// An origin whose kernel accepts but whose process hangs is left for another one,
// and the client notices nothing.
func TestHangingOriginIsLeft(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	good := newOrigin(t, func(o *originConn) {
		if _, _, err := o.answer(1, true); err == nil {
			_ = o.w.WriteMessage(rtmp.StatusMessage(1, "status", "NetStream.Publish.Start", "go"))
			_, _ = io.Copy(io.Discard, o.conn)
		}
	})
	r := newRig(t, Config{}, hung.Addr().String(), good.addr)
	busy := balancer.Origin{ID: "origin-1", Endpoints: balancer.Endpoints{RTMP: good.addr}, Load: balancer.Load{CPU: 0.9}}
	if err := r.bal.Update(t.Context(), busy); err != nil { // so that the hung one is picked first
		t.Fatal(err)
	}
	c := dial(t, r.addr())
	c.publish("a")
	if code, _, _ := c.awaitStatus(); code != "NetStream.Publish.Start" {
		t.Errorf("status %s", code)
	}
	if !strings.Contains(r.log.String(), "origin=origin-0") {
		t.Error("the hung origin was not tried first")
	}
}

func TestNoOrigin(t *testing.T) {
	r := newRig(t, Config{})
	c := dial(t, r.addr())
	c.publish("a")
	if code, text, _ := c.awaitStatus(); code != "NetStream.Publish.BadName" || !strings.Contains(text, "no media server is available") {
		t.Errorf("status %s, %q", code, text)
	}
	if _, err := c.in.ReadMessage(); !errors.Is(err, io.EOF) {
		t.Errorf("after the refusal: %v", err)
	}
}

// RTMP had no deadlines anywhere (defect 5 of the existing proxy).
func TestDefect5_Deadlines(t *testing.T) {
	r := newRig(t, Config{HandshakeTimeout: 300 * time.Millisecond, PreludeTimeout: 400 * time.Millisecond}, "127.0.0.1:1")
	for name, send := range map[string]func(c net.Conn){
		"nothing":          func(net.Conn) {},
		"half a handshake": func(c net.Conn) { _, _ = c.Write(append([]byte{3}, make([]byte, 700)...)) },
		"a handshake without C2": func(c net.Conn) {
			_, _ = c.Write(append([]byte{3}, make([]byte, 1536)...))
		},
		"a handshake and silence": func(c net.Conn) {
			_, _ = c.Write(append([]byte{3}, make([]byte, 2*1536)...))
		},
		"a byte at a time": func(c net.Conn) {
			for range 100 {
				if _, err := c.Write([]byte{3}); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", r.addr())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go send(c)
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, c); errors.As(err, new(net.Error)) && isTimeout(err) {
				t.Error("still open after 5 s")
			}
		})
	}
}

func TestPreludeIsBounded(t *testing.T) {
	r := newRig(t, Config{}, "127.0.0.1:1")
	c := dial(t, r.addr())
	c.connect(128)
	junk := rtmp.AppendMessage(nil, rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, Payload: make([]byte, 80<<10)}, 128)
	_, _ = c.conn.Write(junk)
	for {
		if _, err := c.in.ReadMessage(); err != nil {
			break
		}
	}
	waitFor(t, 5*time.Second, "log names the cause", func() bool { return strings.Contains(r.log.String(), errPreludeTooLong.Error()) })
}

func TestHandshakingIsBounded(t *testing.T) {
	r := newRig(t, Config{Handshaking: 3, HandshakeTimeout: 20 * time.Second}, "127.0.0.1:1")
	for range 3 {
		c, err := net.Dial("tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	waitFor(t, 5*time.Second, "three handshake", func() bool { return r.server.Stats().Handshaking == 3 })
	c, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isHangup(err) {
		t.Errorf("a fourth: %v", err)
	}
	r.server.Adjust(4, false, 0)
	if c, err = net.Dial("tcp", r.addr()); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitFor(t, 5*time.Second, "a fourth handshake, with another limit", func() bool { return r.server.Stats().Handshaking == 4 })
}

// Whatever arrives, nothing dies and nothing is left.
func TestGarbage(t *testing.T) {
	r := newRig(t, Config{HandshakeTimeout: time.Second, PreludeTimeout: time.Second}, "127.0.0.1:1")
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		c, err := net.Dial("tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 10_000)
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		switch i % 3 {
		case 0: // as it is
		case 1: // past the version
			b[0] = 3
		case 2: // past the handshake, and with the message types that matter
			b[0] = 3
			for j := 3073; j+12 < len(b); j += 12 {
				b[j], b[j+7] = 3, []byte{1, 2, 4, 5, 17, 20}[rnd.IntN(6)]
				binary.BigEndian.PutUint16(b[j+4:], 0)
			}
		}
		_, _ = c.Write(b)
		c.Close()
	}
	waitFor(t, 5*time.Second, "all sessions end", func() bool {
		st := r.server.Stats()
		return st.Accepted >= 300 && st.Active == 0
	})
	if st := r.server.Stats(); st.Panics != 0 || st.Accepted != st.Closed {
		t.Errorf("%+v", st)
	}
}

// A stop ends sessions at once, wherever they are.
func TestStopEndsSessions(t *testing.T) {
	o := newOrigin(t, func(o *originConn) {
		if _, _, err := o.answer(1, true); err == nil {
			_ = o.w.WriteMessage(rtmp.StatusMessage(1, "status", "NetStream.Publish.Start", "go"))
		}
		_, _ = io.Copy(io.Discard, o.conn)
	})
	r := newRig(t, Config{}, o.addr)
	live := dial(t, r.addr())
	live.publish("a")
	live.awaitStatus()
	half := dial(t, r.addr())
	half.connect(128)
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > time.Second {
		t.Errorf("the stop took %v", took)
	}
	if !strings.Contains(r.log.String(), errShutdown.Error()) {
		t.Error("the log does not say why the session ended")
	}
}

func FuzzPrelude(f *testing.F) {
	var seed bytes.Buffer
	w := rtmp.NewWriter(&seed)
	for _, c := range []rtmp.Command{
		{Name: "connect", TransactionID: 1, Object: amf0.Object{{Key: "tcUrl", Value: "rtmp://h/live"}}},
		{Name: "_checkbw", TransactionID: 2},
		{Name: "createStream", TransactionID: 3},
		{Name: "publish", TransactionID: 4, Args: []any{"a?b=c", "live"}},
	} {
		m, err := c.Message(3, 0)
		if err != nil {
			f.Fatal(err)
		}
		if err := w.WriteMessage(m); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		var p prelude
		var out bytes.Buffer
		err := p.read(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(data), &out})
		if err == nil && (p.publishAt < 0 || p.publishAt > int64(len(p.raw)) || !bytes.HasPrefix(data, p.raw)) {
			t.Fatalf("publish at %d of %d", p.publishAt, len(p.raw))
		}
		if len(p.raw) > preludeMax {
			t.Fatalf("%d bytes kept", len(p.raw))
		}
		if len(p.answered) > 4096 {
			t.Fatalf("%d answers remembered", len(p.answered))
		}
	})
}

func TestContextOfRunEndsIt(t *testing.T) {
	r := newRig(t, Config{})
	r.stop()
	if _, err := net.Dial("tcp", r.addr()); err == nil {
		t.Error("still listening")
	}
}
