package httpserver

import (
	"net/http"
	"testing"

	"srs-proxy/proxy/access"
)

// A request from an address that may not play is a 403, of every kind, and no origin
// hears of it.
func TestDeniedClientGets403(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("the origin was asked for %s", r.URL) })
	e := start(t, nil, o)
	allow, err := access.Parse("play:192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	e.router.SetAccess(access.Rules{Allow: allow})
	for _, path := range []string{"/live/a.flv", "/live/a.m3u8", "/live/a-1.ts", "/live/a.ts", "/crossdomain.xml"} {
		resp, body := e.get(path)
		if resp.StatusCode != http.StatusForbidden || body != access.ErrDenied.Error()+"\n" {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: a page cannot read the 403", path)
		}
	}
}
