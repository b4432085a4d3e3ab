package httpserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"srs-proxy/balancer"
	"srs-proxy/proxy/access"
	"srs-proxy/proxy/header"
	"srs-proxy/proxy/route"
)

// Errors of what an origin does, each with its status in failure.
var (
	errNoAnswer   = errors.New("the origin did not answer in time")
	errHungUp     = errors.New("the origin closed the connection without an answer; it may have refused the request")
	errBadAnswer  = errors.New("the origin's answer is not HTTP")
	errTooLarge   = errors.New("the origin's playlist is too large")
	errUnreadable = errors.New("the origin's playlist could not be read to its end")
)

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.handlers.Enter() {
		w.Header().Set("Connection", "close")
		http.Error(w, errStopping.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.handlers.Leave()
	defer s.recovered(r)

	if s.cfg.RTC != nil && strings.HasPrefix(r.URL.Path, "/rtc/v1/") {
		s.cfg.RTC.ServeHTTP(w, r)
		return
	}
	const methods = "GET, HEAD, OPTIONS"
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		header.Preflight(w, r, methods) // the answer is the same for every path
		return
	default:
		w.Header().Set("Allow", methods)
		s.refuse(w, "only GET, HEAD and OPTIONS are served here", http.StatusMethodNotAllowed)
		return
	}
	if r.ContentLength != 0 {
		s.refuse(w, "a request body has no place here", http.StatusRequestEntityTooLarge)
		return
	}
	t, err := parseTarget(r)
	if err != nil {
		s.refuse(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.router.Allow(balancer.Play, header.Client(r).Addr()); err != nil {
		s.fail(w, r, t, err)
		return
	}
	if t.kind == live {
		s.serveLive(w, r, t)
		return
	}
	if t.kind == other && s.cfg.Pages != nil {
		s.cfg.Pages.ServeHTTP(w, r)
		return
	}
	s.serveFile(w, r, t)
}

// refuse answers a request that is wrong in itself. Its body, if it has one, is not
// worth reading: the connection ends.
func (s *Server) refuse(w http.ResponseWriter, text string, status int) {
	header.AddCORS(w.Header())
	w.Header().Set("Connection", "close")
	http.Error(w, text, status)
}

// fail answers a request that no origin could serve. The text names no address.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, t target, err error) {
	if r.Context().Err() != nil {
		if err = context.Cause(r.Context()); err == context.Canceled {
			panic(http.ErrAbortHandler) // the client is gone: hang up
		}
	}
	status, text := failure(err)
	s.failed.Warn("request failed", "proto", "http", "stream", s.router.Stream(t.stream).String(), "client", r.RemoteAddr, "status", status, "cause", err)
	header.AddCORS(w.Header())
	http.Error(w, text, status)
}

// failure is the status and the text of an error.
func failure(err error) (status int, text string) {
	for _, known := range []struct {
		err    error
		status int
	}{
		{balancer.ErrNoOrigin, http.StatusServiceUnavailable},
		{balancer.ErrTooManyStreams, http.StatusServiceUnavailable},
		{balancer.ErrUnavailable, http.StatusServiceUnavailable},
		{access.ErrDenied, http.StatusForbidden},
		{route.ErrBusy, http.StatusServiceUnavailable},
		{route.ErrNoEndpoint, http.StatusServiceUnavailable},
		{errStopping, http.StatusServiceUnavailable},
		{errNoAnswer, http.StatusGatewayTimeout},
		{balancer.ErrOwnerUnreachable, http.StatusBadGateway},
		{errHungUp, http.StatusBadGateway},
		{errBadAnswer, http.StatusBadGateway},
		{errTooLarge, http.StatusBadGateway},
		{errUnreadable, http.StatusBadGateway},
	} {
		if errors.Is(err, known.err) {
			return known.status, known.err.Error()
		}
	}
	if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout, errNoAnswer.Error()
	}
	return http.StatusBadGateway, "the origin could not be reached"
}

// recovered is the seat belt of a handler: one client's panic is counted and told,
// and takes nobody else down.
func (s *Server) recovered(r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != any(http.ErrAbortHandler) { // how a handler asks net/http to hang up
		s.panicked(p, r.RemoteAddr)
	}
	panic(http.ErrAbortHandler)
}

func (s *Server) panicked(p any, client string) {
	s.stats.panicked()
	s.log.Error("panic in a session: please report this", "proto", "http", "client", client, "cause", p, "stack", string(debug.Stack()))
}
