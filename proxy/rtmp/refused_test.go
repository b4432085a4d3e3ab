package rtmp

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/rtmp"
)

// SRS can come to refuse one stream for ever (see balancer.MaxRefusals): its encoder
// finds another origin when it has tried often enough.
func TestStreamLeavesAnOriginThatRefusesIt(t *testing.T) {
	bad := newOrigin(t, func(o *originConn) { _, _, _ = o.answer(1, true) }) // and hangs up
	good := newOrigin(t, func(o *originConn) {
		if _, _, err := o.answer(1, true); err == nil {
			_ = o.w.WriteMessage(rtmp.StatusMessage(1, "status", "NetStream.Publish.Start", "go"))
			_, _ = io.Copy(io.Discard, o.conn)
		}
	})
	r := newRig(t, Config{}, bad.addr, good.addr)
	busy := balancer.Origin{ID: "origin-1", Endpoints: balancer.Endpoints{RTMP: good.addr}, Load: balancer.Load{CPU: 0.9}}
	if err := r.bal.Update(t.Context(), busy); err != nil { // so that the other one is picked first
		t.Fatal(err)
	}
	for i := range balancer.MaxRefusals {
		c := dial(t, r.addr())
		c.publish("a")
		code, text, _ := c.awaitStatus()
		want := "NetStream.Publish.BadName"
		if i == balancer.MaxRefusals-1 {
			want = "NetStream.Publish.Start"
		}
		if code != want {
			t.Fatalf("try %d: status %s, %q, want %s", i+1, code, text, want)
		}
		if i < balancer.MaxRefusals-1 {
			waitFor(t, 5*time.Second, "the lease is given back", func() bool {
				n := 0
				for _, s := range r.origins() {
					n += s.Publishers
				}
				return n == 0
			})
		}
	}
}

// An encoder that is back while its origin still clears up after its last session, and
// therefore refuses it, does not notice: another origin takes it, and the players who
// wait at the first one are sent after it.
func TestReturningPublisherIsNotRefused(t *testing.T) {
	start := func(o *originConn) {
		_ = o.w.WriteMessage(rtmp.StatusMessage(1, "status", "NetStream.Publish.Start", "go"))
		_, _ = io.Copy(io.Discard, o.conn)
	}
	var published atomic.Int32
	first := newOrigin(t, func(o *originConn) {
		c, _, err := o.answer(1, true)
		switch {
		case err != nil:
		case c.Name == "play":
			_ = o.w.WriteMessage(rtmp.StatusMessage(1, "status", "NetStream.Play.Start", "wait"))
			_, _ = io.Copy(io.Discard, o.conn)
		case published.Add(1) == 1:
			start(o)
		} // and hangs up
	})
	media := make(chan []byte, 1)
	second := newOrigin(t, func(o *originConn) {
		if _, _, err := o.answer(1, true); err != nil {
			return
		}
		_ = o.w.WriteMessage(rtmp.StatusMessage(1, "status", "NetStream.Publish.Start", "go"))
		if m, err := o.await(rtmp.TypeVideo); err == nil {
			media <- m.Payload
		}
		_, _ = io.Copy(io.Discard, o.conn)
	})
	r := newRig(t, Config{}, first.addr, second.addr)
	busy := balancer.Origin{ID: "origin-1", Endpoints: balancer.Endpoints{RTMP: second.addr}, Load: balancer.Load{CPU: 0.9}}
	if err := r.bal.Update(t.Context(), busy); err != nil { // so that the other one is picked first
		t.Fatal(err)
	}
	before := dial(t, r.addr())
	before.publish("a")
	if code, _, _ := before.awaitStatus(); code != "NetStream.Publish.Start" {
		t.Fatalf("status %s", code)
	}
	player := dial(t, r.addr())
	player.connect(128)
	player.command(3, 0, 128, "createStream", 2, nil)
	player.await("_result", 2)
	player.command(8, 1, 128, "play", 3, nil, "a")
	if code, _, _ := player.awaitStatus(); code != "NetStream.Play.Start" {
		t.Fatalf("status of the player %s", code)
	}
	before.conn.Close()
	waitFor(t, 5*time.Second, "the publisher's lease is given back", func() bool { return r.origins()[0].Publishers == 0 })

	back := dial(t, r.addr())
	back.publish("a")
	// Some encoders don't wait for an answer: what they send is for who takes it.
	video := rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Payload: []byte{0x17, 1, 2, 3}}
	back.write(rtmp.AppendMessage(nil, video, 128))
	if code, text, _ := back.awaitStatus(); code != "NetStream.Publish.Start" {
		t.Fatalf("status of the publisher that is back: %s, %s", code, text)
	}
	if n := published.Load(); n != 2 {
		t.Errorf("the first origin was asked %d times", n)
	}
	select {
	case got := <-media:
		if !bytes.Equal(got, video.Payload) {
			t.Errorf("the second origin received % x", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no media")
	}
	if _, err := io.Copy(io.Discard, player.conn); err != nil {
		t.Errorf("the player is still there: %v", err)
	}
}
