package balancer

import (
	"fmt"
	"testing"
	"time"
)

// These are defects of SRS's own Go proxy, each of which must not come back. The
// conformance suite holds them for every implementation; here they have a name.

func memory(idle time.Duration) Balancer { return NewMemory(Config{LeaseIdle: idle}) }

// A killed origin kept its streams for ever, and new names were sent to it for 300 s.
func TestDefect6_KilledOriginLosesItsStreams(t *testing.T) {
	testRemove(t, memory)
	testReplaced(t, memory)
	testStaleRelease(t, memory)
}

// Pick was load-then-store: a first publish and a first play could split.
func TestDefect7_FirstPicksAgree(t *testing.T) { testFirstPicksAgree(t, memory) }

// A play of any name was pinned for ever.
func TestDefect7_MadeUpNamesAreNotPinned(t *testing.T) {
	testNeverPublished(t, memory)
	testLookup(t, memory)
}

// Placement was random.
func TestDefect7_StreamsAreSpread(t *testing.T) { testSpread(t, memory) }

// Origins on loopback endpoints couldn't be used.
func TestDefect9_LoopbackEndpoints(t *testing.T) {
	b := memory(time.Minute)
	for i, addr := range []string{"127.0.0.1:1935", "[::1]:1935"} {
		o := Origin{ID: fmt.Sprint(i), Endpoints: Endpoints{RTMP: addr}}
		if err := b.Update(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[string]bool)
	for i := range 16 {
		seen[pick(t, b, fmt.Sprint(i), Publish).Origin.Endpoints.RTMP] = true
	}
	if !seen["127.0.0.1:1935"] || !seen["[::1]:1935"] {
		t.Errorf("picked only %v", seen)
	}
}
