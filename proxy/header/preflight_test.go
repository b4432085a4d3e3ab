package header

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestPreflight(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		asked, private          string
		allow, vary, mayPrivate string
	}{
		{name: "plain", allow: "*"},
		{name: "with headers", asked: "authorization, range", allow: "authorization, range", vary: "Access-Control-Request-Headers"},
		{name: "into a private network", private: "true", allow: "*", mayPrivate: "true"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodOptions, "/live/a.flv", nil)
			r.Header.Set("Origin", "https://page.example")
			r.Header.Set("Access-Control-Request-Headers", tt.asked)
			r.Header.Set("Access-Control-Request-Private-Network", tt.private)
			w := httptest.NewRecorder()
			Preflight(w, r, "GET, OPTIONS")
			if w.Code != http.StatusNoContent {
				t.Errorf("status %d", w.Code)
			}
			for name, want := range map[string]string{
				"Allow": "GET, OPTIONS", "Access-Control-Allow-Methods": "GET, OPTIONS", "Access-Control-Allow-Origin": "*", "Access-Control-Max-Age": "86400",
				"Access-Control-Allow-Headers": tt.allow, "Vary": tt.vary, "Access-Control-Allow-Private-Network": tt.mayPrivate,
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}
