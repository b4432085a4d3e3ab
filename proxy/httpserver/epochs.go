package httpserver

import (
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/hls"
)

// A segment's name is not enough to tell its bytes. SRS numbers a stream's segments from
// 0 in each process, and from 0 again when it has forgotten the stream, so that name-7.ts
// of one publish is another file than name-7.ts of the next, and it sends no ETag or
// Last-Modified by which they could be told apart. What can be: the playlists. Each viewer's
// comes through here, uncached, and a stream that goes on never goes back in its sequence.
//
// An epoch is a time in which the playlists show one and the same sequence. It ends
//
//   - when a playlist goes back: ...7 8 9, then 0
//   - when playlists were not seen for so long that a new sequence could have come just
//     as far: what says 9 may be another 9
//
// A segment is shared within an epoch only, if the epoch's newest playlist lists it (what was
// asked for by an older one may be a file of the sequence before, to which the new one has not come
// yet), and if that playlist is not as old as a new sequence would have to be to come to that number. So
// it holds too when the next playlist, the one that shows the new sequence, came through another proxy.

// segmentLeast is the shortest time in which an origin makes a segment, an encoder that
// hangs up at once and comes back included. So a sequence that has come to number n is n
// times as old, and that is how long its playlists may be unseen.
const segmentLeast = 250 * time.Millisecond

// patienceMost bounds that time, and epochs that nobody extends are forgotten after it.
const patienceMost = time.Minute

// maxEpochs and maxWatched bound the streams that are watched and their playlists: a live
// window is a few dozen lines.
const (
	maxEpochs  = 10_000
	maxWatched = 32 << 10
)

// patience is how long a sequence that starts over takes to come to number n again, at least.
func patience(n int64) time.Duration {
	return time.Duration(min(n, int64(patienceMost/segmentLeast))) * segmentLeast
}

// source is whose segments they are: a stream's, on one process.
type source struct {
	origin, service string
	stream          balancer.Stream
}

// epoch is the sequence that a stream's playlists show.
type epoch struct {
	id     uint64 // never used again
	first  int64  // segment of the newest playlist
	last   int64
	before int64 // last of the playlist that was the newest before
	// advanced is when last was learnt. Whoever asked earlier may get an older
	// playlist, and later.
	advanced time.Time
	seen     time.Time // when the newest playlist was asked for
	target   time.Duration
	list     []byte // the newest playlist
	expiry   *time.Timer
}

// observe takes note of a playlist that was asked for at a time and has just come. It is kept.
func (c *segments) observe(src source, list []byte, asked time.Time) {
	w, ok := hls.ParseWindow(list)
	if !ok || len(list) > maxWatched {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	e := c.epochs[src]
	switch {
	case c.limit == 0:
	case e == nil:
		if len(c.epochs) >= maxEpochs {
			return
		}
		e = &epoch{}
		e.expiry = time.AfterFunc(patienceMost, func() { c.expireEpoch(src, e) })
		c.epochs[src] = e
		c.begin(e, w, list, asked, now)
	case now.Sub(e.seen) > patience(e.last):
		c.begin(e, w, list, asked, now)
	case w.Last < e.last && (w.Last < e.before || asked.After(e.advanced)):
		c.begin(e, w, list, asked, now)
	case w.Last < e.last: // overtaken on its way by a newer one
	default:
		if w.Last > e.last {
			e.before, e.advanced = e.last, now
			e.first, e.last, e.target = w.First, w.Last, w.Target
			c.setList(e, list)
		}
		if asked.After(e.seen) {
			e.seen = asked
		}
	}
}

// begin makes e a new epoch.
func (c *segments) begin(e *epoch, w hls.Window, list []byte, asked, now time.Time) {
	c.lastEpoch++
	e.id, e.advanced, e.seen = c.lastEpoch, now, asked
	e.first, e.last, e.before, e.target = w.First, w.Last, w.Last, w.Target
	c.setList(e, list)
}

// setList keeps a playlist, at the cost of old segments.
func (c *segments) setList(e *epoch, list []byte) {
	c.held += int64(len(list)) - int64(len(e.list))
	e.list = list
	c.shrink(c.limit)
}

// epochOf is the epoch that the segment of a name belongs to, nil when none does for sure.
func (c *segments) epochOf(src source, name string, now time.Time) *epoch {
	e := c.epochs[src]
	if e == nil {
		return nil
	}
	n, ok := hls.Find(e.list, name)
	if !ok || now.Sub(e.seen) > patience(e.first+int64(n)) {
		return nil
	}
	return e
}

// expireEpoch forgets a stream that nobody watches.
func (c *segments) expireEpoch(src source, e *epoch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epochs[src] != e {
		return
	}
	if left := patienceMost - time.Since(e.seen); left > 0 {
		e.expiry.Reset(left)
		return
	}
	c.setList(e, nil)
	delete(c.epochs, src)
}
