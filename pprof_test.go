package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Profiles are given to whoever asked for them at the start, to nobody else.
func TestPprofIsOffUntilAskedFor(t *testing.T) {
	for _, on := range []bool{false, true} {
		in := &instance{cfg: &resolved{Config: Config{Pprof: on}}}
		mux := http.NewServeMux()
		in.routes(t.Context())(mux)
		for _, path := range []string{"/debug/pprof/goroutine?debug=1", "/debug/pprof/"} {
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if got := w.Code == http.StatusOK; got != on {
				t.Errorf("pprof %v: %s has status %d", on, path, w.Code)
			}
			if on && !strings.Contains(w.Body.String(), "goroutine") {
				t.Errorf("%s: %q", path, w.Body)
			}
		}
	}
}
