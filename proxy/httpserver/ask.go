package httpserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"srs-proxy/balancer"
)

// SRS closes the connection after each file (SrsHttpFileServer::serve_http). With such an
// origin a pool is of no use, and costs two goroutines and their buffers for each poll of each viewer. So
// who closed after the last answer is asked by the request's own goroutine, on a connection that
// ends with the answer.

// askOrigin sends a request to an origin.
func (s *Server) askOrigin(r *http.Request, o balancer.Origin) (*http.Response, error) {
	u := *r.URL
	u.Host = o.Endpoints.HTTP
	out := r.WithContext(context.WithValue(r.Context(), originKey{}, o.ID))
	out.URL = &u
	var resp *http.Response
	var err error
	if s.closers.has(u.Host) {
		resp, err = s.askOnce(out)
	} else {
		resp, err = s.pool.RoundTrip(out)
	}
	if err == nil {
		s.closers.note(u.Host, resp.Close)
	}
	return resp, err
}

// askOnce sends a request on a connection of its own.
func (s *Server) askOnce(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	c, err := dialOrigin(ctx, s.router, r.URL.Host)
	if err != nil {
		return nil, err
	}
	v := s.closers.visit(c)
	// Whoever waits for the origin is woken by the end of his connection.
	v.stop = context.AfterFunc(ctx, func() { _ = c.Close() })
	resp, err := v.do(r, s.cfg.FileTimeout)
	if err != nil {
		v.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return resp, nil
}

// visit is a request and its answer on a connection of their own. It is the answer's
// body; closing it ends the connection.
type visit struct {
	io.ReadCloser // the body, or nil
	conn          net.Conn
	stop          func() bool
	buffers       *buffers
	lent          *sync.Pool // of buffers
}

// buffers are what a visit reads and writes by.
type buffers struct {
	in  *bufio.Reader
	out *bufio.Writer
	// limit bounds the head.
	limit io.LimitedReader
}

// do sends r and reads the answer's head, within a time.
func (v *visit) do(r *http.Request, patience time.Duration) (*http.Response, error) {
	if err := v.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("set the deadline: %w", err)
	}
	b := v.buffers
	if err := r.Write(b.out); err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	if err := b.out.Flush(); err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	b.limit.N = maxHead
	var resp *http.Response
	for {
		var err error
		if resp, err = http.ReadResponse(b.in, r); err != nil { //nolint:bodyclose // v closes it
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		if resp.StatusCode >= 200 {
			break
		}
	}
	b.limit.N = math.MaxInt64
	// From here watchedBody sees to it that the origin goes on.
	if err := v.conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("set the deadline: %w", err)
	}
	v.ReadCloser, resp.Body = resp.Body, v
	return resp, nil
}

// Close ends the connection. Twice is once.
func (v *visit) Close() error {
	if v.buffers == nil {
		return nil
	}
	v.stop()
	err := v.conn.Close() // before the body, which would else read on to its end
	v.ReadCloser = http.NoBody
	b := v.buffers
	v.buffers = nil
	b.in.Reset(nil)
	b.out.Reset(nil)
	b.limit.R = nil
	v.lent.Put(b)
	return err
}

// maxClosers bounds the addresses that are remembered: origins that were restarted may
// have new ones.
const maxClosers = 10_000

// closers are the origins that close the connection after an answer.
type closers struct {
	mu      sync.RWMutex // guards addrs
	addrs   map[string]struct{}
	buffers sync.Pool
}

func (c *closers) has(addr string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, ok := c.addrs[addr]
	return ok
}

// note learns what an origin did.
func (c *closers) note(addr string, closed bool) {
	if c.has(addr) == closed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !closed {
		delete(c.addrs, addr)
		return
	}
	if c.addrs == nil || len(c.addrs) >= maxClosers {
		c.addrs = make(map[string]struct{})
	}
	c.addrs[addr] = struct{}{}
}

func (c *closers) visit(conn net.Conn) *visit {
	b, ok := c.buffers.Get().(*buffers)
	if !ok {
		b = &buffers{}
		b.in, b.out = bufio.NewReaderSize(&b.limit, 4<<10), bufio.NewWriterSize(nil, 2<<10)
	}
	b.limit.R = conn
	b.in.Reset(&b.limit)
	b.out.Reset(conn)
	return &visit{conn: conn, buffers: b, lent: &c.buffers}
}
