package httpserver

import (
	"net/http"
	"sync"
	"sync/atomic"

	"srs-proxy/proxy/listener"
)

// Stats are the server's counters.
type Stats struct {
	// Live sessions, from the request on: Accepted = Active + Closed.
	Accepted, Active, Closed int64
	// Requests for files: Requests = RequestsActive + RequestsDone.
	Requests, RequestsActive, RequestsDone int64
	// BytesOut went to clients (bodies, and the heads of live answers); BytesIn came
	// from clients after their requests and went to origins.
	BytesIn, BytesOut int64
	// Segments are how requests for HLS segments were served.
	Segments SegmentStats
	// Panics counts handlers that panicked and were recovered; it should be 0.
	Panics int64
	// Clients are the listener's counters of connections.
	Clients listener.Stats
}

// counters hold what Stats reports. mu makes one consistent picture of the numbers.
type counters struct {
	mu       sync.Mutex // guards the following fields
	accepted int64
	closed   int64
	requests int64
	done     int64
	bytesIn  int64
	bytesOut int64
	panics   int64
	active   map[*session]struct{}
}

func (c *counters) begin(ses *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted++
	c.active[ses] = struct{}{}
}

func (c *counters) end(ses *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed++
	delete(c.active, ses)
	in, out := ses.bytes()
	c.bytesIn += in
	c.bytesOut += out
}

func (c *counters) beginFile() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
}

func (c *counters) endFile(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	c.bytesOut += bytes
}

func (c *counters) panicked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.panics++
}

// Stats returns the counters, with the bytes of sessions that are going on.
func (s *Server) Stats() Stats {
	c := &s.stats
	c.mu.Lock()
	st := Stats{
		Accepted: c.accepted, Active: int64(len(c.active)), Closed: c.closed,
		Requests: c.requests, RequestsActive: c.requests - c.done, RequestsDone: c.done,
		BytesIn: c.bytesIn, BytesOut: c.bytesOut, Panics: c.panics,
	}
	for ses := range c.active {
		in, out := ses.bytes()
		st.BytesIn += in
		st.BytesOut += out
	}
	c.mu.Unlock()
	st.Segments = s.segments.Stats()
	st.Clients = s.Set.Stats()
	return st
}

// countingWriter counts the body that a handler writes.
type countingWriter struct {
	http.ResponseWriter
	n atomic.Int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// Unwrap lets http.ResponseController reach Flush and Hijack.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
