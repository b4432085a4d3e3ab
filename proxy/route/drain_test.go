package route

import (
	"context"
	"errors"
	"testing"
	"time"

	"srs-proxy/balancer"
)

// draining is an env in which stream x is published on origin a, which drains, and
// origin b is there for new streams.
func draining(t *testing.T) (*env, *Conn) {
	e := newEnv(t, Config{})
	ln := e.origin("a")
	first := e.mustConnect("x", balancer.Publish)
	e.origin("b")
	if err := e.bal.Update(t.Context(), balancer.Origin{
		ID: "a", State: balancer.Draining, Endpoints: balancer.Endpoints{RTMP: ln.Addr().String()},
	}); err != nil {
		t.Fatal(err)
	}
	return e, first
}

// An encoder that is back before the end of its last session was noticed is not let
// in on the origin that wants to be rid of it.
func TestPublisherIsBackBeforeItsEndOnADrainingOrigin(t *testing.T) {
	e, first := draining(t)
	time.AfterFunc(3*ownerPause, func() { first.Close() })
	c := e.mustConnect("x", balancer.Publish)
	if c.Lease.Origin.ID != "b" {
		t.Errorf("published on %s again", c.Lease.Origin.ID)
	}
	e.wantHeld(1, 0, 1)
	// Where nothing is published any more there is nothing to wait for.
	start := time.Now()
	c.Close()
	if again := e.mustConnect("x", balancer.Publish); again.Lease.Origin.ID != "b" || time.Since(start) > ownerPause {
		t.Errorf("on %s after %s", again.Lease.Origin.ID, time.Since(start))
	}
}

// A second publisher of a stream is the origin's to refuse, on a draining one too:
// the stream must not be on two. Players go there at once.
func TestSecondPublisherOnADrainingOrigin(t *testing.T) {
	e, _ := draining(t)
	start := time.Now()
	if p := e.mustConnect("x", balancer.Play); p.Lease.Origin.ID != "a" || time.Since(start) > ownerPatience/2 {
		t.Errorf("the player is on %s after %s", p.Lease.Origin.ID, time.Since(start))
	}
	start = time.Now()
	second := e.mustConnect("x", balancer.Publish)
	if took := time.Since(start); second.Lease.Origin.ID != "a" || took < ownerPatience-ownerPause || took > 2*ownerPatience {
		t.Errorf("the second publisher is on %s after %s", second.Lease.Origin.ID, took)
	}
	e.wantHeld(2, 1, 3)
}

// Who gives up waiting leaves nothing behind.
func TestCancelWhileWaitingForADrainingOrigin(t *testing.T) {
	e, _ := draining(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*ownerPause)
	defer cancel()
	_, err := e.router.Connect(ctx, Request{Stream: stream("x"), Role: balancer.Publish, Proto: RTMP, Client: testClient()}, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	e.wantHeld(1, 0, 1)
}
