package runtime

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects garbage when the heap has doubled, and keeps the room for that at hand. A
// proxy allocates when sessions begin and hardly at all while they last, so what a burst
// of new ones has left would stay for as long as they do: most of a small process. So
// when a burst is over, the garbage is collected and what is free goes back.
//
//	allocated  ▁▁▇▇▆▁▁▁▁▁▁▁▂▇▇▁▁
//	trim             ▲        ▲   a calm second, and enough to be had
//
// While it is never calm, Go's own ways are the right ones, and nothing is done here.
const (
	heapLook = time.Second
	// heapCalm is how many bytes may be allocated between two looks when all is calm.
	heapCalm = 128 << 10
	// heapWorth is how many bytes allocated since the last trim make one worth it, or one
	// part of heapShare of the heap if that is more.
	heapWorth = 512 << 10
	heapShare = 16
	// heapRest is how many times longer than a trim took it is until the next: half a
	// percent of the time is what trims may take, however big the heap is.
	heapRest = 200
)

// TrimHeap gives memory back to the system after each burst of work, until ctx ends; then
// it returns nil. Who has set GOGC has decided otherwise, and should not run it.
func TrimHeap(ctx context.Context) error {
	look := time.NewTicker(heapLook)
	defer look.Stop()
	var t trimmer
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			began := time.Now()
			if t.due(began, readHeap()) {
				debug.FreeOSMemory()
				t.trimmed(time.Now(), time.Since(began), readHeap())
			}
		}
	}
}

// heapState is how a heap stands, in bytes.
type heapState struct {
	allocated uint64 // since the process began
	objects   uint64 // what is there, garbage that nobody has looked for yet too
}

func readHeap() heapState {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return heapState{allocated: s[0].Value.Uint64(), objects: s[1].Value.Uint64()}
}

// trimmer decides when to trim.
type trimmer struct {
	seen uint64 // bytes allocated at the last look,
	base uint64 // and at the last trim
	next time.Time
}

// due is a look: it says whether to trim now.
func (t *trimmer) due(now time.Time, h heapState) bool {
	calm := h.allocated-t.seen <= heapCalm
	t.seen = h.allocated
	return calm && !now.Before(t.next) && h.allocated-t.base >= max(heapWorth, h.objects/heapShare)
}

// trimmed notes a trim that has ended.
func (t *trimmer) trimmed(now time.Time, took time.Duration, h heapState) {
	t.seen, t.base, t.next = h.allocated, h.allocated, now.Add(heapRest*took)
}
