package runtime

import (
	"context"
	goruntime "runtime"
	"testing"
	"time"
)

func TestTrimIsDue(t *testing.T) {
	const kb, mb = 1 << 10, 1 << 20
	type look struct {
		after     time.Duration // since the last look
		allocated uint64        // since then, bytes
		objects   uint64
		want      bool
		took      time.Duration // of the trim, if it is one
	}
	second := time.Second
	for name, looks := range map[string][]look{
		"after a burst, once": {
			{second, 40 * mb, 4 * mb, false, 0}, {second, 2 * mb, 8 * mb, false, 0},
			{second, 10 * kb, 8 * mb, true, 3 * time.Millisecond}, {second, 10 * kb, 4 * mb, false, 0}, {time.Minute, 10 * kb, 4 * mb, false, 0},
		},
		"never while it goes on":   {{second, 2 * mb, 4 * mb, false, 0}, {second, 2 * mb, 6 * mb, false, 0}, {second, 2 * mb, 4 * mb, false, 0}},
		"drops make a bucket full": {{second, 100 * kb, 2 * mb, false, 0}, {second, 128 * kb, 2 * mb, false, 0}, {second, 128 * kb, 2 * mb, false, 0}, {second, 128 * kb, 2 * mb, false, 0}, {second, 128 * kb, 2 * mb, true, 0}},
		"a small one is not worth it in a big heap": {
			{second, 4 * mb, 160 * mb, false, 0}, {second, 0, 160 * mb, false, 0}, {second, 7 * mb, 160 * mb, false, 0}, {second, 0, 160 * mb, true, 0},
		},
		"what took long is not done again soon": {
			{second, mb, 2 * mb, false, 0}, {second, 0, 2 * mb, true, 100 * time.Millisecond},
			{second, mb, 2 * mb, false, 0}, {second, 0, 2 * mb, false, 0}, {18 * second, 0, 2 * mb, true, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var tr trimmer
			now, h := time.Unix(0, 0), heapState{}
			for i, l := range looks {
				now = now.Add(l.after)
				h = heapState{h.allocated + l.allocated, l.objects}
				if got := tr.due(now, h); got != l.want {
					t.Fatalf("look %d: due is %t", i+1, got)
				}
				if l.want {
					tr.trimmed(now, l.took, h)
				}
			}
		})
	}
}

// Garbage that nobody allocates after stays until somebody looks for it.
func TestTrimHeap(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- TrimHeap(ctx) }()
	const garbage = 64 << 20
	before := readHeap().objects
	big := make([]byte, garbage)
	goruntime.GC() // big lives yet, so that the next collection is far away
	goruntime.KeepAlive(&big[0])
	if after := readHeap().objects; after < before+garbage/2 {
		t.Fatalf("%d bytes of objects after %d", after, before)
	}
	for deadline := time.Now().Add(20 * time.Second); readHeap().objects > before+garbage/4; {
		if time.Now().After(deadline) {
			t.Errorf("%d bytes of objects, %d before", readHeap().objects, before)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
