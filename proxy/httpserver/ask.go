package httpserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/rawconn"
)

// A request's own goroutine writes to the origin and reads the answer. net/http's Transport
// has two more for each connection, and to wake them and be woken by them costs more than what
// they do. An origin that does not close the connection after an answer, as SRS does
// (SrsHttpFileServer::serve_http), is asked on it again.

// askOrigin sends a request, which has no body, to an origin.
func (s *Server) askOrigin(r *http.Request, o balancer.Origin) (*http.Response, error) {
	ctx := r.Context()
	out := r.WithContext(ctx)
	u := *r.URL
	u.Host = o.Endpoints.HTTP
	out.URL = &u
	for {
		c := s.idle.take(u.Host)
		reused := c != nil
		if !reused {
			var err error
			if c, err = s.dialOrigin(ctx, o); err != nil {
				return nil, err
			}
		}
		v := &visit{originConn: c, idle: &s.idle}
		// Whoever waits for the origin is woken by the end of his connection.
		v.unwatch = context.AfterFunc(ctx, func() { _ = c.Close() })
		resp, err := v.ask(out, s.cfg.FileTimeout)
		if err == nil {
			return resp, nil
		}
		v.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		nerr, ok := errors.AsType[net.Error](err)
		silent := c.limit.N == maxHead && !(ok && nerr.Timeout())
		if !reused || !silent {
			return nil, err
		}
		// The origin has closed an idle connection while the request was on its way, which may be
		// repeated (RFC 9110 section 9.2.2).
	}
}

// originConn is a connection to an origin.
type originConn struct {
	*rawconn.Conn
	addr string
	in   *bufio.Reader
	out  *bufio.Writer
	// limit is what may yet be read of a head.
	limit  io.LimitedReader
	expiry *time.Timer // ends it when it is idle; nil before that
}

func newOriginConn(nc *rawconn.Conn, addr string) *originConn {
	c := &originConn{Conn: nc, addr: addr, limit: io.LimitedReader{R: nc}}
	c.in, c.out = bufio.NewReaderSize(&c.limit, 4<<10), bufio.NewWriterSize(nc, 2<<10)
	return c
}

// visit is a request and its answer on a connection. It is the answer's body: closing it before its end
// ends the connection, its end does unless another request may follow there.
type visit struct {
	*originConn // nil once it was closed
	body        io.ReadCloser
	idle        *idlers
	unwatch     func() bool
	again       bool // the origin lets another request follow
	ended       bool // the body was read to its end
}

// ask sends r and reads the answer's head, within a time.
func (v *visit) ask(r *http.Request, patience time.Duration) (*http.Response, error) {
	v.limit.N = maxHead
	if err := v.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, fmt.Errorf("set the deadline: %w", err)
	}
	if err := r.Write(v.out); err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	if err := v.out.Flush(); err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	var resp *http.Response
	for {
		var err error
		if resp, err = http.ReadResponse(v.in, r); err != nil { //nolint:bodyclose // v closes it
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		if resp.StatusCode >= 200 {
			break
		}
	}
	v.limit.N = math.MaxInt64
	// From here watchedBody sees to it that the origin goes on.
	if err := v.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("set the deadline: %w", err)
	}
	v.again = !resp.Close
	if resp.Body == http.NoBody {
		v.end()
		return resp, nil
	}
	v.body, resp.Body = resp.Body, v
	return resp, nil
}

// Read reads the answer's body.
func (v *visit) Read(p []byte) (int, error) {
	if v.ended {
		return 0, io.EOF
	}
	if v.originConn == nil {
		return 0, net.ErrClosed
	}
	n, err := v.body.Read(p)
	if err == io.EOF {
		v.end()
	}
	return n, err
}

// end is the end of the body: the connection is free before the client may have hung up.
func (v *visit) end() {
	v.ended = true
	v.Close()
}

// Close ends the visit. Twice is once.
func (v *visit) Close() error {
	c := v.originConn
	if c == nil {
		return nil
	}
	v.originConn = nil
	// The body is not read on to its end: that may be far.
	if watched := v.unwatch(); watched && v.again && v.ended && c.in.Buffered() == 0 && v.idle.put(c) {
		return nil
	}
	return c.Close()
}
