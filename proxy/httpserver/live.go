package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/header"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
)

// writeTimeout bounds the writes of a head and of what came with it: a peer that
// takes none of a few kilobytes for so long is gone.
const writeTimeout = 30 * time.Second

// session is one live session: a record, and two sockets once it relays.
type session struct {
	id     int64
	stream balancer.Stream
	peer   string // the client's address and port
	opened time.Time

	mu   sync.Mutex              // guards the following
	live context.Context         // until it has to end or is relayed
	end  context.CancelCauseFunc // of live; nil from then on

	client *listener.Conn
	origin *route.Conn
	pair   atomic.Pointer[relay.Pair] // see handOver

	// Bytes that did not go through the pair.
	in, out atomic.Int64
}

// bytes is what came from the client after its request and what went to it.
func (ses *session) bytes() (in, out int64) {
	in, out = ses.in.Load(), ses.out.Load()
	if p := ses.pair.Load(); p != nil {
		moved := p.Bytes()
		in, out = in+moved.FromClient, out+moved.FromOrigin
	}
	return in, out
}

// stop ends the session, wherever it is.
func (ses *session) stop(cause error) {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if ses.end == nil {
		ses.pair.Load().Stop(cause)
		return
	}
	ses.end(cause)
}

// handOver makes a pair what ends with the session. The context goes: that of a session
// with nothing to do would take as much memory as the rest.
func (ses *session) handOver(p *relay.Pair) error {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if ses.live.Err() != nil {
		return context.Cause(ses.live)
	}
	ses.pair.Store(p)
	ses.end(nil)
	ses.live, ses.end = nil, nil
	return nil
}

// serveLive asks the origin of the stream and relays its answer.
func (s *Server) serveLive(w http.ResponseWriter, r *http.Request, t target) {
	ses := &session{id: s.ids.Add(1), stream: s.router.Stream(t.stream), peer: r.RemoteAddr, opened: time.Now()}
	live, end := context.WithCancelCause(s.live)
	ses.live, ses.end = live, end
	s.stats.begin(ses)
	handedOn := false
	defer func() {
		if !handedOn {
			ses.stop(nil)
			s.stats.end(ses)
		}
	}()

	// net/http cancels the request's context when the client goes; a stop of the
	// server ends the wait for an origin too.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(live, func() { cancel(context.Cause(live)) })()

	var head *answerHead
	req := route.Request{Stream: ses.stream, Role: balancer.Play, Proto: route.HTTP, Client: header.Client(r)}
	req.Moved = func() { ses.stop(route.ErrMoved) }
	conn, err := s.router.Connect(ctx, req, func(ctx context.Context, c *route.Conn) (err error) {
		head, err = s.ask(ctx, c, r, t)
		return err
	})
	switch {
	case err != nil:
		s.fail(w, r, t, cause(ctx, err))
	case head.resp.StatusCode == http.StatusNotFound && t.segmentOf != nil:
		conn.Close()
		t.stream, t.kind = *t.segmentOf, file
		s.serveFile(w, r, t)
	case !head.streams():
		defer conn.Close()
		s.answer(ctx, w, r, t, conn, head, ses)
	default:
		ses.origin = conn
		handedOn = s.takeOver(w, r, ses, head)
	}
}

// ask sends the request and reads the answer's head, all of it under ctx.
func (s *Server) ask(ctx context.Context, c *route.Conn, r *http.Request, t target) (*answerHead, error) {
	_ = c.SetDeadline(time.Now().Add(s.cfg.LiveTimeout)) // fails only on a closed socket
	socket := c.TCPConn
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	head, err := exchange(c, r, t)
	if !stop() { // the deadline was spoilt
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return head, nil
}

func exchange(c *route.Conn, r *http.Request, t target) (*answerHead, error) {
	_, err := c.Write(requestHead(r, t))
	if err != nil {
		err = fmt.Errorf("send the request: %w", err)
	} else {
		var head *answerHead
		if head, err = readHead(c, r); err == nil {
			return head, nil
		}
	}
	// A reset is what a process that dies leaves behind, and another origin may do. A clean
	// close (errHungUp) is how SRS refuses a play; asking others would be asking
	// until somebody who doesn't know better says yes.
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return nil, route.Retry(err)
	}
	if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return nil, err
}

// cause is why err came about, where that was a cancelled context.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// answer passes on an answer that is no stream: an error, a redirect, the headers
// of HEAD. The client's connection goes on.
func (s *Server) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, t target, conn *route.Conn, head *answerHead, ses *session) {
	_ = conn.SetDeadline(time.Now().Add(s.cfg.FileTimeout))
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()

	resp, err := head.response(conn)
	if err != nil { // its head was good a moment ago
		s.fail(w, r, t, fmt.Errorf("%w: %w", errBadAnswer, err))
		return
	}
	defer resp.Body.Close()
	h := w.Header()
	h["Content-Type"] = nil // no guessing by net/http
	for _, name := range head.hop {
		resp.Header.Del(name)
	}
	header.DropHopByHop(resp.Header)
	for k, v := range resp.Header {
		h[k] = v
	}
	header.AddCORS(h)
	w.WriteHeader(resp.StatusCode)
	n, err := io.Copy(w, resp.Body) // of HEAD, nothing
	ses.out.Add(n)
	if err != nil {
		panic(http.ErrAbortHandler) // net/http's way to cut an answer short visibly
	}
}

// takeOver takes the client's socket from net/http, sends the answer's head and
// starts the relaying. It reports whether the session goes on without this handler,
// whose goroutine and buffers are thereby free.
func (s *Server) takeOver(w http.ResponseWriter, r *http.Request, ses *session, head *answerHead) bool {
	nc, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		ses.origin.Close()
		s.log.Error("taking over a connection", "proto", "http", "client", ses.peer, "cause", err)
		return false
	}
	ses.client = nc.(*listener.Conn)
	// What the client sent behind its request; nothing reads from buf after this.
	early, _ := buf.Reader.Peek(buf.Reader.Buffered())
	early = append([]byte(nil), early...)

	// HTTP/1.0 has no chunks, and SRS sends them nevertheless.
	unchunked := head.chunked() && !r.ProtoAtLeast(1, 1)
	s.logger(ses).Info("session open", "status", head.resp.StatusCode)
	s.sessions.Add(1)
	go s.runSession(ses, head, early, unchunked)
	return true
}

// runSession is the goroutine of a session until its bytes are relayed.
func (s *Server) runSession(ses *session, head *answerHead, early []byte, unchunked bool) {
	handedOn := false
	defer func() {
		if !handedOn {
			s.endSession(ses)
		}
	}()
	defer s.recoverSession(ses)

	err := s.open(ses, head, early, unchunked)
	switch {
	case err != nil:
	case unchunked:
		err = s.unchunk(ses, head.rest)
	default:
		p := s.relay.Pair(ses.client.TCPConn, ses.origin.TCPConn)
		p.TLS, p.Group, p.Taken = ses.client.TLS(), &s.pairs, ses.forget
		if err = ses.handOver(p); err == nil {
			err = p.Start(context.Background(), func(err error) {
				defer s.endSession(ses)
				defer s.recoverSession(ses)
				s.logEnd(ses, err)
			})
		}
		if handedOn = err == nil; handedOn {
			return
		}
	}
	s.logEnd(ses, err)
}

// forget lets go of connections that the relay has taken over.
func (ses *session) forget() {
	ses.client.Forget()
	ses.origin.Forget()
}

func (s *Server) recoverSession(ses *session) {
	if p := recover(); p != nil {
		s.panicked(p, ses.peer)
	}
}

func (s *Server) logEnd(ses *session, err error) {
	in, out := ses.bytes()
	s.logger(ses).Info("session closed", "bytes_in", in, "bytes_out", out,
		"duration", time.Since(ses.opened).Round(time.Millisecond), "cause", describe(err))
}

// endSession gives back what a session that has taken over its client's socket holds.
func (s *Server) endSession(ses *session) {
	ses.origin.Close()
	ses.client.Close()
	ses.stop(nil)
	s.stats.end(ses)
	s.sessions.Done()
}

// open writes what both sides have read too much of, in order.
func (s *Server) open(ses *session, head *answerHead, early []byte, unchunked bool) error {
	deadline := time.Now().Add(writeTimeout)
	_ = ses.client.SetWriteDeadline(deadline)
	_ = ses.origin.SetWriteDeadline(deadline)
	socket := ses.client.TCPConn
	defer context.AfterFunc(ses.live, func() { _ = socket.SetWriteDeadline(time.Unix(1, 0)) })()

	out := head.forClient(unchunked)
	if !unchunked {
		out = append(out, head.rest...)
	}
	n, err := ses.client.Write(out)
	ses.out.Add(int64(n))
	if err != nil {
		return fmt.Errorf("write to the client: %w", err)
	}
	if len(early) > 0 {
		n, err := ses.origin.Write(early)
		ses.in.Add(int64(n))
		if err != nil {
			return fmt.Errorf("write to the origin: %w", err)
		}
	}
	_ = ses.client.SetWriteDeadline(time.Time{})
	_ = ses.origin.SetWriteDeadline(time.Time{})
	return nil
}

func (s *Server) logger(ses *session) *slog.Logger {
	return s.log.With("proto", "http", "session", ses.id, "client", ses.peer,
		"stream", ses.stream.String(), "origin", ses.origin.Lease.Origin.ID)
}

// describe says why a session ended.
func describe(err error) string {
	if err == nil {
		return "ended"
	}
	return err.Error()
}
