package api

import (
	"net/http"
	"runtime/debug"
	"strings"
)

// ServeHTTP serves one request, on whichever listener it came.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.handlers.Enter() {
		w.Header().Set("Connection", "close")
		http.Error(w, errStopping.Error(), http.StatusServiceUnavailable)
		return
	}
	defer s.handlers.Leave()
	defer s.recovered(r)
	if s.deps.RTC != nil && strings.HasPrefix(r.URL.Path, "/rtc/v1/") {
		s.deps.RTC.ServeHTTP(w, r) // its own CORS, methods and limits
		return
	}
	cors(w, r)
	if r.Method == http.MethodOptions {
		w.Header().Set("Content-Length", "0")
		return
	}
	if !validCallback(r.URL.Query().Get("callback")) {
		http.Error(w, "a callback is letters, digits, dots, dashes and underscores", http.StatusBadRequest)
		return
	}
	if r.ContentLength != 0 {
		// Nothing here reads one: it is not worth reading.
		w.Header().Set("Connection", "close")
	}
	s.handler.ServeHTTP(w, r)
}

// routes are those of SRS (SrsServer::http_handle), with what is ours under origins.
// As there, a path that is not known gets the index of the one above it.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.serveIndex(rootIndex))
	mux.HandleFunc("/api/", s.guarded(s.serveIndex(apiIndex)))
	mux.HandleFunc("/api/v1/", s.guarded(s.serveIndex(v1Index)))

	for _, name := range []string{"versions", "authors", "features", "system_proc_stats", "meminfos"} {
		mux.HandleFunc("/api/v1/"+name, s.serveAny("/api/v1/"+name))
	}
	mux.HandleFunc("/api/v1/summaries", s.serveSummaries)
	mux.HandleFunc("/api/v1/rusages", s.serveMerged("/api/v1/rusages", rusageRules(), nil))
	mux.HandleFunc("/api/v1/self_proc_stats", s.serveMerged("/api/v1/self_proc_stats", procRules(), s.ownProcess))

	for name, serve := range map[string]http.HandlerFunc{"vhosts": s.serveVhosts, "streams": s.serveStreams, "clients": s.serveClients} {
		mux.HandleFunc("/api/v1/"+name, serve) // SRS redirects to the one with the slash
		mux.HandleFunc("/api/v1/"+name+"/{id...}", serve)
	}
	mux.HandleFunc("/api/v1/origins", s.serveOrigins)
	mux.HandleFunc("/api/v1/origins/{$}", s.serveOrigins)
	mux.HandleFunc("/api/v1/origins/{id}", s.serveOrigins)
	mux.HandleFunc("/api/v1/origins/{id}/{rest...}", s.serveOrigin)

	mux.HandleFunc("/api/v1/raw", s.serveRaw)
	mux.HandleFunc("/api/v1/clusters", s.serveClusters)
	mux.HandleFunc("/api/v1/requests", s.serveRequest)
	mux.HandleFunc("/api/v1/tests/requests", s.serveRequest)
	mux.HandleFunc("/api/v1/tests/errors", s.guarded(s.serveCode(100)))
	mux.HandleFunc("/api/v1/tests/redirects", s.guarded(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/api/v1/tests/errors", http.StatusMovedPermanently)
	}))
	mux.HandleFunc("/metrics", s.serveCode(codeExporterDisabled))
	mux.HandleFunc("/console/", s.serveConsole)
	return mux
}

func (s *Server) serveCode(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { s.code(w, r, code, nil) }
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
