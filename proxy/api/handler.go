package api

import (
	"net/http"
	"runtime/debug"
)

// ServeHTTP serves one request, on whichever listener it came.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.handlers.enter() {
		w.Header().Set("Connection", "close")
		http.Error(w, errStopping.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.handlers.leave()
	defer s.recovered(r)
	s.handler.ServeHTTP(w, r)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	if s.deps.RTC != nil {
		mux.Handle("/rtc/v1/", s.deps.RTC)
	}
	return mux
}

// recovered is the seat belt of a handler: one client's panic is told, and takes
// nobody else down.
func (s *Server) recovered(r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != any(http.ErrAbortHandler) { // how a handler asks net/http to hang up
		s.log.Error("panic in a request: please report this", "proto", "api", "client", r.RemoteAddr, "cause", p, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}
