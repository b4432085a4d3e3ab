package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"srs-proxy/proxy/originapi"
)

// Codes of SRS (srs_kernel_error.hpp).
const (
	codeOK               = 0
	codeNoAnswer         = 1011 // ERROR_SOCKET_TIMEOUT
	codeRawDisabled      = 1061 // ERROR_SYSTEM_CONFIG_RAW_DISABLED
	codeExporterDisabled = 1090
	codeVhostNotFound    = 2014
	codeStreamNotFound   = 2048
	codeClientNotFound   = 2049
)

// Identity is what a server says of itself in every answer.
type Identity struct {
	// Server names the installation; it stays over restarts. SRS: vid-xxxxxxx.
	Server string
	// Service names the process; it is another one after each restart.
	Service string
	PID     int
	PPID    int
	Argv    string
	Cwd     string
}

// originError is an origin whose part is missing from an answer.
type originError struct {
	Origin string `json:"origin"`
	Error  string `json:"error"`
}

// head begins an answer.
func (s *Server) head(code int) originapi.Object {
	var o originapi.Object
	o.Set("code", code)
	o.Set("server", s.cfg.Identity.Server)
	o.Set("service", s.cfg.Identity.Service)
	o.Set("pid", strconv.Itoa(s.cfg.Identity.PID)) // SRS writes it as a string
	return o
}

// code is SRS's answer to what it cannot do: status 200, and little else.
func (s *Server) code(w http.ResponseWriter, r *http.Request, code int, errs []originError) {
	var o originapi.Object
	o.Set("code", code)
	s.answer(w, r, o, errs)
}

// answer writes JSON, or JSONP to whoever names a callback (srs_api_response).
func (s *Server) answer(w http.ResponseWriter, r *http.Request, o originapi.Object, errs []originError) {
	s.answerStatus(w, r, http.StatusOK, o, errs)
}

func (s *Server) answerStatus(w http.ResponseWriter, r *http.Request, status int, o originapi.Object, errs []originError) {
	if len(errs) > 0 {
		o.Set("errors", errs)
	}
	contentType, text := "application/json", o.Append(nil)
	if callback := r.URL.Query().Get("callback"); callback != "" {
		contentType = "text/javascript"
		text = append(append([]byte(callback+"("), text...), ')')
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client's going is its own business
}

// validCallback: SRS takes no other characters (srs_is_valid_jsonp_callback), lest
// the name be a script.
func validCallback(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-", c)
	})
}

// methodOf is the request's; JSONP can only GET, and says in the query what it means.
func methodOf(r *http.Request) string {
	q := r.URL.Query()
	if q.Get("callback") == "" {
		return r.Method
	}
	switch m := q.Get("method"); m {
	case http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete:
		return m
	}
	return r.Method
}

// only lets a request with one of the methods in, and answers others as SRS does. What
// SRS answers whatever the method, clients POST to.
func only(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	m := methodOf(r)
	if slices.Contains(methods, m) || m == http.MethodHead && slices.Contains(methods, http.MethodGet) {
		return true
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	return false
}

// cors are SRS's headers (SrsHttpCorsMux), to a page of another origin only. Unlike
// there, Authorization is allowed: "*" does not cover it.
func cors(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Origin") == "" {
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "*")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
		h.Set("Vary", "Access-Control-Request-Headers")
	}
	h.Set("Access-Control-Expose-Headers", "*")
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
}

// failures are the origins that did not give an answer, and why.
func failures(answers []answer) []originError {
	var errs []originError
	for _, a := range answers {
		switch {
		case a.err != nil:
			errs = append(errs, originError{a.origin, a.err.Error()})
		case a.Status == http.StatusUnauthorized:
			errs = append(errs, originError{a.origin, errUnauthorized.Error()})
		case a.Code != codeOK:
			errs = append(errs, originError{a.origin, "code " + strconv.Itoa(a.Code)})
		}
	}
	return errs
}

var errUnauthorized = errors.New("the origin wants another name or password")

// challenged passes an origin's 401 on, if that is what came of it: no origin took
// the name and password. It reports whether it has answered.
func (s *Server) challenged(w http.ResponseWriter, answers []answer) bool {
	challenge := ""
	for _, a := range answers {
		if a.ok() {
			return false
		}
		if a.Status == http.StatusUnauthorized {
			challenge = a.Challenge
			if challenge == "" {
				challenge = "Basic"
			}
		}
	}
	if challenge == "" {
		return false
	}
	s.demanded.Store(true)
	unauthorized(w, challenge)
	return true
}

func unauthorized(w http.ResponseWriter, challenge string) {
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusUnauthorized)
}
