package register

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
)

// registerPath is where SRS posts; the token may be one element more.
const registerPath = "/api/v1/srs/register"

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(registerPath, s.serveRegister)
	mux.HandleFunc(registerPath+"/", s.serveRegister)
	mux.HandleFunc("/api/v1/versions", s.serveVersions)
	mux.HandleFunc("/healthz", s.serveHealth)
	mux.HandleFunc("/readyz", s.serveReady)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "there is nothing here")
	})
	return mux
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.handlers.Enter() {
		refuse(w, http.StatusServiceUnavailable, "the proxy is stopping")
		return
	}
	defer s.handlers.Leave()
	defer func() {
		if p := recover(); p != nil { // a seat belt: one request's bug ends no other
			s.log.Error("panic in a request: please report this", "proto", "system-api", "client", r.RemoteAddr, "cause", p, "stack", string(debug.Stack()))
			refuse(w, http.StatusInternalServerError, "this is a fault of the proxy")
		}
	}()
	// The mux would answer a path such as //register with a redirect, which repeats it
	// and so a token that may be in it.
	if strings.Contains(r.URL.Path, "//") || strings.Contains(r.URL.Path, "/.") {
		refuse(w, http.StatusNotFound, "there is nothing here")
		return
	}
	s.handler.ServeHTTP(w, r)
}

// answer is what SRS and the existing proxy's clients expect.
type answer struct {
	Code  int    `json:"code"`
	PID   string `json:"pid,omitempty"`
	Error string `json:"error,omitempty"`
}

func refuse(w http.ResponseWriter, status int, why string) {
	write(w, status, answer{Code: status, Error: why})
}

func write(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		text = []byte(`{"code":500}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // whoever asked has gone if it fails
}

// serveRegister takes an origin in. Whatever happens, there is one answer.
func (s *Server) serveRegister(w http.ResponseWriter, r *http.Request) {
	peer := peerOf(r)
	status, why := s.register(w, r, peer)
	if status == http.StatusOK {
		write(w, status, answer{PID: strconv.Itoa(s.cfg.PID)})
		return
	}
	s.refused.Warn("registration refused", "client", r.RemoteAddr, "status", status, "cause", why)
	refuse(w, status, why)
}

func (s *Server) register(w http.ResponseWriter, r *http.Request, from peer) (status int, why string) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, "a registration is a POST"
	}
	if !s.limit.allow(from.ip) {
		w.Header().Set("Retry-After", "1")
		return http.StatusTooManyRequests, "too many requests from this address"
	}
	if status, why := s.authorise(r, from); status != http.StatusOK {
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Bearer realm="srs-proxy"`)
		}
		return status, why
	}
	if r.ContentLength > maxBody {
		return http.StatusRequestEntityTooLarge, "the body is too large"
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return http.StatusRequestEntityTooLarge, "the body is too large"
	}
	if err != nil {
		return http.StatusBadRequest, "the body could not be read to its end"
	}
	reg, err := Parse(text, from.local)
	if err != nil {
		return http.StatusBadRequest, err.Error()
	}
	if field := s.own(reg); field != "" {
		return http.StatusBadRequest, field + " is an address of this proxy"
	}
	switch err := s.deps.Register(r.Context(), reg); {
	case errors.Is(err, ErrTooMany):
		return http.StatusServiceUnavailable, err.Error()
	case err != nil:
		s.log.Warn("registration failed", "origin", reg.Endpoints.RTMP, "cause", err)
		return http.StatusServiceUnavailable, "the registration could not be kept; try again"
	}
	return http.StatusOK, ""
}

// own is the field by which an origin would be the proxy itself.
func (s *Server) own(r Registration) string {
	if s.cfg.Own == nil {
		return ""
	}
	for _, e := range []struct{ field, proto, addr string }{
		{"rtmp", "tcp", r.Endpoints.RTMP}, {"http", "tcp", r.Endpoints.HTTP}, {"api", "tcp", r.Endpoints.API},
		{"srt", "udp", r.Endpoints.SRT}, {"rtc", "udp", r.Endpoints.RTC},
	} {
		if addr, err := netip.ParseAddrPort(e.addr); err == nil && s.cfg.Own(e.proto, addr) {
			return e.field
		}
	}
	return ""
}

// authorise asks for the address first and then for the token: who may not come at
// all learns nothing of tokens.
func (s *Server) authorise(r *http.Request, from peer) (status int, why string) {
	rules := s.rules.Load()
	// A browser on this machine must not register what a page tells it to.
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" {
		return http.StatusForbidden, "browsers may not register origins"
	}
	allowed := from.local || len(rules.Tokens) > 0
	if len(rules.Allow) > 0 {
		allowed = false
		for _, p := range rules.Allow {
			allowed = allowed || p.Contains(from.ip)
		}
	}
	if !allowed && !from.unix {
		return http.StatusForbidden, "origins of this address may not register"
	}
	rest := strings.Trim(strings.TrimPrefix(r.URL.Path, registerPath), "/")
	if len(rules.Tokens) == 0 {
		if rest != "" {
			return http.StatusNotFound, "there is nothing here"
		}
		return http.StatusOK, ""
	}
	token := rest
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, value, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return http.StatusUnauthorized, "a Bearer token is needed"
		}
		token = strings.TrimSpace(value)
	}
	if token == "" {
		return http.StatusUnauthorized, "a token is needed: as Bearer in the Authorization header, or as last element of the path"
	}
	if !rules.Tokens.match(token) {
		return http.StatusUnauthorized, "the token is not right"
	}
	return http.StatusOK, ""
}

// peer is who sent a request.
type peer struct {
	ip    netip.Addr // not valid over a unix socket
	unix  bool
	local bool // on this machine
}

func peerOf(r *http.Request) peer {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if _, ok := local.(*net.UnixAddr); ok {
		return peer{unix: true, local: true}
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return peer{}
	}
	p := peer{ip: ap.Addr().Unmap().WithZone("")}
	p.local = p.ip.IsLoopback()
	if to, ok := local.(*net.TCPAddr); ok { // over an address of this machine's own
		p.local = p.local || to.AddrPort().Addr().Unmap().WithZone("") == p.ip
	}
	return p
}

func (s *Server) serveVersions(w http.ResponseWriter, r *http.Request) {
	if get(w, r) {
		write(w, http.StatusOK, map[string]string{"signature": "SRSProxy", "version": s.cfg.Version})
	}
}

// serveHealth says that the process lives.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	if get(w, r) {
		write(w, http.StatusOK, answer{})
	}
}

// serveReady says whether clients should be sent here.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	if !get(w, r) {
		return
	}
	if err := s.deps.Ready(r.Context()); err != nil {
		write(w, http.StatusServiceUnavailable, answer{Code: http.StatusServiceUnavailable, Error: err.Error()})
		return
	}
	write(w, http.StatusOK, answer{})
}

func get(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	refuse(w, http.StatusMethodNotAllowed, "only GET and HEAD are served here")
	return false
}
