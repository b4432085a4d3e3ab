package route

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"srs-proxy/balancer"
)

func (e *env) registerRTC(ids ...string) {
	e.t.Helper()
	for _, id := range ids {
		err := e.bal.Update(context.Background(), balancer.Origin{ID: id, Endpoints: balancer.Endpoints{RTC: "127.0.0.1:9"}})
		if err != nil {
			e.t.Fatal(err)
		}
	}
}

func taken(context.Context, balancer.Lease) error { return nil }

func TestHold(t *testing.T) {
	e := newEnv(t, Config{})
	e.registerRTC("o0", "o1")
	h, err := e.router.Hold(t.Context(), Request{Stream: stream("a"), Role: balancer.Publish, Proto: RTC, Client: testClient()}, taken)
	if err != nil {
		t.Fatal(err)
	}
	e.wantHeld(1, 0, 1)
	h.Publishes(netip.MustParseAddr("192.0.2.1"))
	if addr, origin, ok := e.router.Publisher(stream("a")); !ok || origin != h.Lease.Origin.ID || addr.String() != "192.0.2.1" {
		t.Errorf("published by %s at %q", addr, origin)
	}
	play, err := e.router.Hold(t.Context(), Request{Stream: stream("a"), Role: balancer.Play, Proto: RTC, Client: testClient()}, taken)
	if err != nil || play.Lease.Origin.ID != h.Lease.Origin.ID {
		t.Fatalf("the player is on %v, the publisher on %s: %v", play, h.Lease.Origin.ID, err)
	}
	e.wantHeld(1, 1, 2)
	play.Close()
	h.Close()
	h.Close()
	e.wantHeld(0, 0, 0)
	if _, _, ok := e.router.Publisher(stream("a")); ok {
		t.Error("still published")
	}
}

// An origin that does not answer is left for another one; one that refuses is not.
func TestHoldElsewhere(t *testing.T) {
	e := newEnv(t, Config{})
	e.registerRTC("o0", "o1", "o2")
	var tried []string
	h, err := e.router.Hold(t.Context(), Request{Stream: stream("a"), Role: balancer.Publish, Proto: RTC, Client: testClient()}, func(_ context.Context, l balancer.Lease) error {
		tried = append(tried, l.Origin.ID)
		if len(tried) < 3 {
			return Retry(errors.New("hung up"))
		}
		return nil
	})
	if err != nil || h.Lease.Origin.ID != tried[2] {
		t.Fatalf("tried %v: %v", tried, err)
	}
	if slices.Sort(tried); len(slices.Compact(tried)) != 3 {
		t.Errorf("tried %v", tried)
	}
	h.Close()
	refused := errors.New("refused")
	calls := 0
	if _, err := e.router.Hold(t.Context(), Request{Stream: stream("b"), Role: balancer.Publish, Proto: RTC, Client: testClient()}, func(context.Context, balancer.Lease) error {
		calls++
		return refused
	}); calls != 1 || !errors.Is(err, refused) {
		t.Errorf("%d calls: %v", calls, err)
	}
	if _, err := e.router.Hold(t.Context(), Request{Stream: stream("c"), Role: balancer.Publish, Proto: SRT, Client: testClient()}, taken); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("without an endpoint: %v", err)
	}
	e.wantHeld(0, 0, 0)
}
