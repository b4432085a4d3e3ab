package rtmp

import (
	"io"
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
	for i := range balancer.MaxRefusals + 1 {
		c := dial(t, r.addr())
		c.publish("a")
		code, text, _ := c.awaitStatus()
		want := "NetStream.Publish.BadName"
		if i == balancer.MaxRefusals {
			want = "NetStream.Publish.Start"
		}
		if code != want {
			t.Fatalf("try %d: status %s, %q, want %s", i+1, code, text, want)
		}
		if i < balancer.MaxRefusals {
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
