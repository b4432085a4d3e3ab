package signal

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/protocol/sdp"
	"srs-proxy/protocol/streamurl"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/header"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/webrtc"
)

// Bounds of bodies, in bytes.
const (
	maxSDP  = sdp.MaxSize
	maxJSON = 64 << 10
)

// Errors of requests, each with its status in failure.
var (
	errSDPTooLarge  = errors.New("an SDP may have 256 KiB")
	errJSONTooLarge = errors.New("a JSON body may have 64 KiB")
	errSlowBody     = errors.New("the body did not come in time")
	errNoBody       = errors.New("the body could not be read")
)

// clientError is an error of the request itself, with its status.
type clientError struct {
	error
	status int
}

func (e clientError) Unwrap() error { return e.error }

func badRequest(err error) error { return clientError{err, http.StatusBadRequest} }

// ServeHTTP serves one request for /rtc/v1/.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })()

	path := strings.TrimSuffix(r.URL.Path, "/") + "/" // SRS looks at the slash
	var methods string
	var serve func(context.Context, http.ResponseWriter, *http.Request, string) error
	switch path {
	case "/rtc/v1/whip/", "/rtc/v1/whep/", "/rtc/v1/whip-play/":
		methods, serve = "POST, PATCH, DELETE, OPTIONS", s.serveWHIP
	case "/rtc/v1/publish/", "/rtc/v1/play/":
		methods, serve = "POST, OPTIONS", s.serveJSON
	case "/rtc/v1/nack/":
		methods, serve = "GET, POST, OPTIONS", s.serveNACK
	default:
		expose(w.Header())
		http.Error(w, "there is no such WebRTC API", http.StatusNotFound)
		return
	}
	if r.Method == http.MethodOptions {
		w.Header().Set("Accept-Post", "application/sdp") // RFC 9725 section 4.1
		header.Preflight(w, r, methods)
		return
	}
	if !allows(methods, r.Method) {
		w.Header().Set("Allow", methods)
		expose(w.Header())
		http.Error(w, "this takes "+methods, http.StatusMethodNotAllowed)
		return
	}
	if err := serve(ctx, w, r, path); err != nil {
		// A read deadline that passed cancels the context too.
		if _, ok := errors.AsType[clientError](err); !ok && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		s.fail(w, r, path, err)
	}
}

func allows(methods, method string) bool {
	for m := range strings.SplitSeq(methods, ", ") {
		if m == method {
			return true
		}
	}
	return false
}

// readBody reads a bounded body in bounded time.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, most int64, tooLarge error) ([]byte, error) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(s.cfg.BodyTimeout)) // not all writers of tests can
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err == nil {
		_ = rc.SetReadDeadline(time.Time{})
		return body, nil
	}
	// The deadline stays: net/http reads what is left of the body before it answers.
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, clientError{tooLarge, http.StatusRequestEntityTooLarge}
	}
	if isTimeout(err) {
		return nil, clientError{errSlowBody, http.StatusRequestTimeout}
	}
	return nil, clientError{errNoBody, http.StatusBadRequest}
}

// fail answers a request that got no answer of an origin.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, path string, err error) {
	if errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // the client is gone: hang up
	}
	status, text := failure(err)
	level := slog.LevelWarn
	if status < 500 {
		level = slog.LevelInfo
		w.Header().Set("Connection", "close") // there may be a body that nobody reads
	}
	s.log.Log(r.Context(), level, "request failed", "proto", "rtc", "path", path, "client", r.RemoteAddr, "status", status, "cause", err)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	expose(w.Header())
	http.Error(w, text, status)
}

// failure is the status and the text of an error. The text names no address.
func failure(err error) (status int, text string) {
	if c, ok := errors.AsType[clientError](err); ok {
		return c.status, c.Error()
	}
	for _, known := range []struct {
		err    error
		status int
	}{
		{access.ErrDenied, http.StatusForbidden},
		{balancer.ErrNoOrigin, http.StatusServiceUnavailable},
		{balancer.ErrTooManyStreams, http.StatusServiceUnavailable},
		{balancer.ErrUnavailable, http.StatusServiceUnavailable},
		{route.ErrBusy, http.StatusServiceUnavailable},
		{route.ErrNoEndpoint, http.StatusServiceUnavailable},
		{webrtc.ErrTooMany, http.StatusServiceUnavailable},
		{webrtc.ErrTooManyPerIP, http.StatusTooManyRequests},
		{webrtc.ErrExists, http.StatusConflict},
		{webrtc.ErrStopped, http.StatusServiceUnavailable},
		{errStopping, http.StatusServiceUnavailable},
		{errNoAnswer, http.StatusGatewayTimeout},
		{balancer.ErrOwnerUnreachable, http.StatusBadGateway},
		{errHungUp, http.StatusBadGateway},
		{errBadAnswer, http.StatusBadGateway},
	} {
		if errors.Is(err, known.err) {
			return known.status, known.err.Error()
		}
	}
	return http.StatusBadGateway, "the origin could not be reached"
}

func (s *Server) logger(ses *session) *slog.Logger {
	s.mu.Lock()
	stream, role := ses.stream, ses.role
	s.mu.Unlock()
	return s.log.With("proto", "rtc", "session", ses.username, "client", ses.client.String(),
		"stream", stream.String(), "role", role.String(), "origin", ses.origin.ID)
}

// local is where media is taken.
func (s *Server) local() netip.AddrPort {
	if a, ok := s.media.Addr().(*net.UDPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// query reads a request's query as SRS does.
func query(r *http.Request) (streamurl.Query, error) {
	q, err := streamurl.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest(err)
	}
	return q, nil
}

// eip is the candidate that a client asks for.
func eip(q streamurl.Query) string {
	if v := q["eip"]; v != "" {
		return v
	}
	return q["candidate"]
}

// clientOf is who sent the request.
func clientOf(r *http.Request) netip.AddrPort { return header.Client(r) }
