package api

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"

	"srs-proxy/proxy/originapi"
)

// serveAny serves what all origins say alike, or what is of the machine that they
// are on: the first origin's, or another one's if that takes its time.
func (s *Server) serveAny(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !only(w, r, http.MethodGet, http.MethodPost) {
			return
		}
		a, ok := s.oneOf(w, r, originapi.Question{Path: path})
		if !ok {
			return
		}
		data, has := a.Body.Get("data")
		if !has {
			s.code(w, r, a.Code, nil)
			return
		}
		o := s.head(a.Code)
		o.Set("data", data)
		s.answer(w, r, o, nil)
	}
}

// oneOf asks any origin. Without a good answer it has answered the client.
func (s *Server) oneOf(w http.ResponseWriter, r *http.Request, q originapi.Question) (answer, bool) {
	a, errs, ok := s.askAny(r, q)
	switch {
	case !ok:
		s.answer(w, r, s.head(codeNoAnswer), orNone(errs))
		return a, false
	case a.Status == http.StatusUnauthorized:
		s.challenged(w, []answer{a})
		return a, false
	}
	return a, true
}

// guarded lets in whom the origins let in: what is answered here alone is theirs to
// protect too.
func (s *Server) guarded(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.admitted(w, r) {
			serve(w, r)
		}
	}
}

// admitted asks an origin what it thinks of the client's name and password (SRS:
// http_api.auth). Where none can be asked, everybody is let in, but not if one has
// wanted a password before. It has answered whom it does not let in.
func (s *Server) admitted(w http.ResponseWriter, r *http.Request) bool {
	a, _, ok := s.askAny(r, originapi.Question{Path: "/api/v1/versions"})
	switch {
	case ok && a.Status == http.StatusUnauthorized:
		return !s.challenged(w, []answer{a})
	case !ok && s.demanded.Load():
		unauthorized(w, "Basic")
		return false
	}
	return true
}

// serveRaw answers questions about the configuration. What would change it is refused:
// the origins' is made by srs-proxy, which would not know.
func (s *Server) serveRaw(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodGet) {
		return
	}
	rpc := r.URL.Query().Get("rpc")
	path := "/api/v1/raw?rpc=" + rpc
	switch rpc {
	case "raw", "reload-fetch":
	case "query":
		path = "/api/v1/raw?" + r.URL.RawQuery
	default:
		if !s.admitted(w, r) {
			return
		}
		o := s.head(codeRawDisabled)
		o.Set("error", "the origins' configuration is made by srs-proxy: change its files and say srs-proxy reload")
		s.answer(w, r, o, nil)
		return
	}
	a, ok := s.oneOf(w, r, originapi.Question{Path: path})
	if !ok {
		return
	}
	if config := member(a.Body, "http_api"); len(config) > 0 {
		config.Set("listen", s.cfg.Listen)
		if raw := member(config, "raw_api"); len(raw) > 0 {
			raw.Set("allow_reload", false)
			raw.Set("allow_update", false)
			config.Set("raw_api", raw)
		}
		a.Body.Set("http_api", config)
	}
	s.answer(w, r, a.Body, nil)
}

// serveClusters says where a stream is (SrsCoWorkers): here. Another SRS that asks
// sends its clients to us, and we know the origin.
func (s *Server) serveClusters(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodGet) {
		return
	}
	found, answers, errs := s.askWhere(r)
	if s.challenged(w, answers) {
		return
	}
	if !found.ok() {
		s.answer(w, r, s.head(codeNoAnswer), orNone(errs))
		return
	}
	data := member(found.Body, "data")
	if at := member(data, "origin"); len(at) > 0 {
		if port := portOf(s.cfg.RTMP); port != 0 {
			at.Set("port", port)
		}
		var ip string
		v, _ := at.Get("ip")
		_ = json.Unmarshal(v, &ip) // else it is empty
		backend := net.JoinHostPort(ip, strconv.Itoa(portOf(s.Addr().String())))
		at.Set("api", backend)
		at.Set("routers", []string{backend})
		data.Set("origin", at)
	}
	var o originapi.Object
	o.Set("code", codeOK)
	o.Set("data", data)
	s.answer(w, r, o, errs)
}

// askWhere asks all origins for the place of a stream; one that does not have it says
// so too.
func (s *Server) askWhere(r *http.Request) (found answer, answers []answer, errs []originError) {
	q := originapi.Question{Path: "/api/v1/clusters?" + r.URL.RawQuery, Authorization: r.Header.Get("Authorization")}
	origins, errs := s.origins(r.Context())
	has := func(a answer) bool { return a.ok() && len(member(member(a.Body, "data"), "origin")) > 0 }
	answers = s.asker.all(r.Context(), origins, q, has)
	for _, a := range answers {
		if has(a) {
			return a, answers, nil
		}
		if a.ok() {
			found = a
		}
	}
	return found, answers, sorted(append(errs, failures(answers)...))
}

func portOf(addr string) int {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	return n
}

// serveRequest shows the request itself, as SRS does: its second "headers" hide the
// request's own.
func (s *Server) serveRequest(w http.ResponseWriter, r *http.Request) {
	a, ok := s.oneOf(w, r, originapi.Question{Path: "/api/v1/versions"})
	if !ok {
		return
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	version, has := member(a.Body, "data").Get("version")
	if !has {
		version = json.RawMessage(`""`)
	}
	var headers, data originapi.Object
	headers.Set("sigature", "SRS") // its spelling
	headers.Set("version", version)
	headers.Set("link", "https://github.com/ossrs/srs")
	headers.Set("time", time.Now().UnixMilli())
	data.Set("uri", "http://"+host+r.URL.Path)
	data.Set("path", r.URL.Path)
	data.Set("METHOD", methodOf(r))
	data.Set("headers", headers)
	o := s.head(codeOK)
	o.Set("data", data)
	s.answer(w, r, o, nil)
}

// serveConsole serves SRS's console from the first origin that has it, in the folder
// console of its http_server.dir.
func (s *Server) serveConsole(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodGet) {
		return
	}
	origins, _ := s.origins(r.Context())
	if len(origins) == 0 {
		http.NotFound(w, r)
		return
	}
	ctx, cancel := s.asker.bounded(r.Context())
	defer cancel()
	s.pass(ctx, w, r, origins[0], r.URL.Path)
}
