package srt

import (
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/route"
)

// A caller of an origin that has died is told so, at once and not when libsrt would
// notice; one of an origin that has only left the balancer's sight is left alone.
func TestDeadOrigin(t *testing.T) {
	for name, gone := range map[string]func(e *env, o *origin){
		"removed": func(e *env, _ *origin) { e.bal.Remove(t.Context(), "o") },
		"replaced": func(e *env, o *origin) {
			e.bal.Update(t.Context(), balancer.Origin{ID: "o", Service: "another", Endpoints: balancer.Endpoints{SRT: o.addr().String()}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Config{}, route.Config{})
			o := startOrigin(t)
			e.register("o", o.addr())
			c := dial(t, e.addr())
			c.call("#!::r=live/x,m=publish")
			gone(e, o)
			for began := time.Now(); time.Since(began) < 3*orphanPeriod; time.Sleep(20 * time.Millisecond) {
				c.echo()
			}
			if n := e.server.Stats().Sessions; n != 1 {
				t.Fatal("a session was ended whose origin still sends")
			}
			o.set(func() { o.silent = true })
			began := time.Now()
			if p := c.read(patience); p == nil || !p.Is(srt.ControlShutdown) {
				t.Fatalf("the caller got %x", []byte(p))
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}
