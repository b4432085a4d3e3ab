package httpserver

import (
	"container/list"
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// How long a segment is kept after it was asked for: two of its stream's target durations, in
// which each player polls and fetches it, within bounds.
const (
	keepLeast = 4 * time.Second
	keepMost  = 20 * time.Second
)

// segmentShare is the part of the memory that one segment may take.
const segmentShare = 4

// segments are those that clients share: in flight, and finished a moment ago.
//
//	first client ──▶ fetch ──▶ origin
//	others ────────▶   │ body, as far as it has come
//	later ones ────▶   └ kept for seconds
//
// All of it is bounded by limit, which counts what readers still hold too. What does not
// fit is fetched by each client on its own.
type segments struct {
	mu        sync.Mutex // guards all of the following
	limit     int64      // bytes; 0 shares nothing
	held      int64      // bytes
	table     map[segmentKey]*fetch
	kept      *list.List // of finished fetches in the table, oldest first
	epochs    map[source]*epoch
	lastEpoch uint64
	stats     SegmentStats
}

// SegmentStats count the requests for HLS segments that could be shared: Hits + Shared +
// Misses of them.
type SegmentStats struct {
	Hits   int64 // served from memory alone
	Shared int64 // joined the fetch of another client
	Misses int64 // began a fetch
	Alone  int64 // misses whose answer could not be shared: its size, its headers, no room
	// BytesIn are of segments that came whole. Held are in memory now, with playlists.
	BytesIn, Held int64
}

// segmentKey says which bytes a client means.
type segmentKey struct {
	source
	host, path, query string // the query less what is of one viewer
}

func newSegments(limit int64) *segments {
	return &segments{limit: limit, table: make(map[segmentKey]*fetch), kept: list.New(), epochs: make(map[source]*epoch)}
}

// fetch is one request to an origin, for all clients that want the same.
type fetch struct {
	key    segmentKey
	epoch  uint64
	asked  time.Time
	until  time.Time               // when it is too old to be joined
	ctx    context.Context         // of the request to the origin
	cancel context.CancelCauseFunc // ends it

	// Guarded by segments.mu.
	readers int
	leading bool // the client that began it is a reader
	linked  bool // in the table
	ended   bool
	size    int64         // bytes counted as held
	place   *list.Element // in kept
	expiry  *time.Timer   // of a kept one

	known bool          // head is closed; only of who fetches
	head  chan struct{} // closed when the answer's head, in the following, has come
	// Either err, or alone, or the others.
	err    error
	alone  *http.Response // cannot be shared: for the client that began it
	status int
	header http.Header // only read
	body   []byte      // as long as the whole; see come

	mu   sync.Mutex // guards the following fields
	come int        // bytes of body that are there
	cut  error      // why no more come
	more chan struct{}
}

// join returns the fetch of a segment, begun if need be: then first is true, and the caller
// has to run it. Without a fetch the client asks alone. Each join is ended by leave.
func (c *segments) join(parent context.Context, key segmentKey) (f *fetch, first bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.epochOf(key.source, key.path[strings.LastIndexByte(key.path, '/')+1:], now)
	if c.limit == 0 || e == nil {
		return nil, false
	}
	if f := c.table[key]; f != nil {
		if f.epoch == e.id && now.Before(f.until) {
			f.readers++
			if f.ended {
				c.stats.Hits++
			} else {
				c.stats.Shared++
			}
			return f, false
		}
		c.unlink(f)
	}
	c.stats.Misses++
	keep := min(max(2*e.target, keepLeast), keepMost)
	f = &fetch{key: key, epoch: e.id, asked: now, until: now.Add(keep), readers: 1, leading: true, linked: true, head: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(parent))
	c.table[key] = f
	return f, true
}

// leave ends a client's use of f. When nobody is left an unfinished fetch ends.
func (c *segments) leave(f *fetch, first bool) {
	c.mu.Lock()
	f.readers--
	if first {
		f.leading = false
	}
	last := f.readers == 0
	if last && !f.ended {
		c.unlink(f)
	}
	c.free(f)
	c.mu.Unlock()
	if last {
		f.cancel(nil)
	}
}

// reserve counts n bytes for f, for which older segments may have to go.
func (c *segments) reserve(f *fetch, n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > c.limit/segmentShare {
		return false
	}
	c.shrink(c.limit - n)
	if c.held+n > c.limit {
		return false
	}
	c.held += n
	f.size = n
	return true
}

// shrink drops the oldest kept segments, as far as that frees memory, until at most limit is held.
func (c *segments) shrink(limit int64) {
	for at := c.kept.Front(); at != nil && c.held > limit; {
		f, _ := at.Value.(*fetch)
		at = at.Next()
		if f.readers == 0 {
			c.unlink(f)
		}
	}
}

// hand gives an answer that cannot be shared to the client that began f. If that is gone it is
// the caller's again.
func (c *segments) hand(f *fetch, resp *http.Response) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Alone++
	c.unlink(f)
	f.alone = resp
	f.announce()
	return f.leading
}

// finish says that f brings no more. keep tells whether others may have it later.
func (c *segments) finish(f *fetch, keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.ended = true
	if keep {
		c.stats.BytesIn += int64(len(f.body))
	}
	left := time.Until(f.until)
	if !keep || !f.linked || left <= 0 || c.limit == 0 {
		c.unlink(f)
		c.free(f)
		return
	}
	f.place = c.kept.PushBack(f)
	f.expiry = time.AfterFunc(left, func() { c.expire(f) })
}

func (c *segments) expire(f *fetch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unlink(f)
}

// unlink takes f out of the table: nobody else joins it.
func (c *segments) unlink(f *fetch) {
	if !f.linked {
		return
	}
	f.linked = false
	delete(c.table, f.key)
	if f.place != nil {
		c.kept.Remove(f.place)
		f.expiry.Stop()
	}
	c.free(f)
}

// free counts the bytes of f as free when nobody can reach them any more.
func (c *segments) free(f *fetch) {
	if f.ended && !f.linked && f.readers == 0 {
		c.held -= f.size
		f.size = 0
	}
}

// SetSegmentMemory changes Config.SegmentMemory.
func (s *Server) SetSegmentMemory(bytes int64) { s.segments.setLimit(bytes) }

// setLimit changes the bound. With 0 nothing is kept, and nothing is left behind.
func (c *segments) setLimit(limit int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	c.shrink(limit)
	if limit > 0 {
		return
	}
	for _, f := range c.table {
		c.unlink(f)
	}
	for _, e := range c.epochs {
		e.expiry.Stop()
		c.setList(e, nil)
	}
	clear(c.epochs)
}

// Stats returns the counters.
func (c *segments) Stats() SegmentStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.stats
	st.Held = c.held
	return st
}

// answer makes the head and the size of the body known.
func (f *fetch) answer(status int, header http.Header, size int64) {
	f.status, f.header, f.body = status, header, make([]byte, size)
	f.announce()
}

// end makes the last n bytes of the body known, or why there are no more, or no answer.
func (f *fetch) end(n int, err error) {
	if f.known {
		f.grow(n, err)
		return
	}
	f.err = err
	f.announce()
}

// announce makes the head known.
func (f *fetch) announce() {
	f.known = true
	close(f.head)
}

// grow makes n more bytes of the body known, and with err that there are no more.
func (f *fetch) grow(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.come += n
	f.cut = err
	if f.more != nil {
		close(f.more)
		f.more = nil
	}
}

// await waits until more than the first n bytes of the body are there and returns how
// many. The body is complete with len(body) of them.
func (f *fetch) await(ctx context.Context, n int) (int, error) {
	for {
		f.mu.Lock()
		if f.come > n || f.cut != nil {
			defer f.mu.Unlock()
			if f.come > n {
				return f.come, nil
			}
			return n, f.cut
		}
		if f.more == nil {
			f.more = make(chan struct{})
		}
		more := f.more
		f.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
	}
}
