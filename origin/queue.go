package origin

import "sync"

// Bounds of a player's queue. 10 s are SRS's queue_length; who is further behind
// than that is better served by the newest keyframe. Frames are shared, so the
// bytes are an upper bound of what a slow player keeps from being freed.
const (
	queueMaxMs     = 10_000
	queueMaxFrames = 4096
	queueMaxBytes  = 24 << 20
)

// queue holds what a player has not been sent yet. The publisher puts and never
// waits; the player's goroutine takes. Past the bounds everything is dropped and
// the queue takes nothing until the next keyframe (where the stream has video).
type queue struct {
	ready chan struct{} // capacity 1: something to take, or closed

	mu     sync.Mutex // guards the following
	frames []*frame
	bytes  int
	burst  int // frames at the head that came at once, out of a cache
	state  queueState
	closed error
	drops  int64 // frames dropped
}

type queueState uint8

const (
	queueFlowing queueState = iota
	queueWaitsForKey
	queuePaused // by the player; takes nothing
)

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// put adds a frame. It reports true where the player resumes at f after a drop:
// then f was not added, and must be by putAll, after the stream's config frames.
func (q *queue) put(f *frame, hasVideo bool) (needsConfig bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil || q.state == queuePaused {
		return false
	}
	if q.state == queueWaitsForKey {
		if hasVideo && !f.key {
			q.drops++
			return false
		}
		q.state = queueFlowing
		return true
	}
	if q.overflows(f) {
		q.dropLocked()
		q.drops++
		q.state = queueWaitsForKey
		return false
	}
	q.appendLocked(f)
	return false
}

// putAll adds frames that belong together (configs, a GOP), whatever the bounds:
// the caller's are tighter.
func (q *queue) putAll(frames ...*frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil || q.state == queuePaused {
		return
	}
	burst := len(q.frames) == q.burst
	for _, f := range frames {
		if f == nil {
			continue
		}
		q.appendLocked(f)
		if burst {
			q.burst++
		}
	}
}

func (q *queue) appendLocked(f *frame) {
	q.frames = append(q.frames, f)
	q.bytes += f.size()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) overflows(f *frame) bool {
	if len(q.frames) >= queueMaxFrames || q.bytes+f.size() > queueMaxBytes {
		return true
	}
	// A GOP may be longer than the bound by itself, so only what came after the
	// burst counts.
	if len(q.frames) == q.burst || !f.media() {
		return false
	}
	first := q.frames[q.burst]
	return first.media() && int32(f.time-first.time) > queueMaxMs
}

func (q *queue) dropLocked() {
	q.drops += int64(len(q.frames))
	clear(q.frames)
	q.frames = q.frames[:0]
	q.bytes, q.burst = 0, 0
}

// pause drops everything until resume, which waits for a keyframe.
func (q *queue) pause(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if on {
		q.dropLocked()
		q.state = queuePaused
	} else if q.state == queuePaused {
		q.state = queueWaitsForKey
	}
}

// waitForKey lets a new player begin with a keyframe.
func (q *queue) waitForKey() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.state = queueWaitsForKey
}

// close ends the queue; what it holds can still be taken.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = err
	}
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take moves at most maxBytes (but at least one frame) to dst, which is returned.
// The error is that of close, once the queue is empty.
func (q *queue) take(dst []*frame, maxBytes int) ([]*frame, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.frames) && (n == 0 || bytes+q.frames[n].size() <= maxBytes) {
		bytes += q.frames[n].size()
		n++
	}
	dst = append(dst, q.frames[:n]...)
	rest := copy(q.frames, q.frames[n:])
	clear(q.frames[rest:])
	q.frames = q.frames[:rest]
	q.bytes -= bytes
	q.burst = max(0, q.burst-n)
	if rest > 0 {
		select {
		case q.ready <- struct{}{}:
		default:
		}
	}
	if n == 0 {
		return dst, q.closed
	}
	return dst, nil
}

func (q *queue) dropped() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.drops
}
