package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestStreamsOfAllOrigins(t *testing.T) {
	e, origins := cluster(t, 3, nil)
	want := make(map[string]string) // name -> origin
	for i, o := range origins {
		for j := range 8 {
			name := fmt.Sprintf("s%d-%d", i, j)
			o.publish(name)
			want[name] = fmt.Sprintf("origin-%d", i)
		}
	}
	r := e.get("/api/v1/streams?count=1000")
	if r.Code != 0 || r.Server != "vid-cluster" || r.Service != "abcdefgh" || r.PID != "42" || len(r.Errors) != 0 {
		t.Errorf("head of the answer: %+v", r)
	}
	for _, s := range r.Streams {
		if want[s.Name] != s.Origin {
			t.Errorf("stream %s at %s, want %q", s.Name, s.Origin, want[s.Name])
		}
		delete(want, s.Name)
	}
	if len(want) > 0 {
		t.Errorf("streams that are missing: %v", want)
	}

	// SRS gives ten where fewer are asked for, by id; pages are cut out of the whole.
	all := ids(r.Streams)
	if !slices.IsSorted(all) {
		t.Errorf("ids are not in order: %v", all)
	}
	for _, tt := range []struct {
		query      string
		start, end int
	}{
		{"", 0, 10}, {"?count=3", 0, 10}, {"?start=10", 10, 20}, {"?start=20", 20, 24}, {"?start=5&count=15", 5, 20},
		{"?start=24", 24, 24}, {"?start=1000", 24, 24}, {"?start=-5&count=-5", 0, 10}, {"?count=99999999999999999999", 0, 24}, {"?count=11x&start=x", 0, 11},
	} {
		for _, path := range []string{"/api/v1/streams", "/api/v1/streams/"} {
			if got := ids(e.get(path + tt.query).Streams); !slices.Equal(got, all[tt.start:tt.end]) {
				t.Errorf("%s%s gives %v, want those from %d to %d", path, tt.query, got, tt.start, tt.end)
			}
		}
	}
}

// Clients are asked for page by page, since there may be very many.
func TestClientsOfAllOrigins(t *testing.T) {
	e, origins := cluster(t, 3, func(_ *Config, d *Deps) { d.Client = lent("203.0.113.9") })
	for i, o := range origins {
		for j := range 20 {
			o.publish(fmt.Sprintf("s%d-%d", i, j))
		}
	}
	var all []string
	for start := 0; ; start += 10 {
		r := e.get(fmt.Sprintf("/api/v1/clients/?start=%d", start))
		if len(r.Clients) == 0 {
			break
		}
		for _, c := range r.Clients {
			if c.IP != "203.0.113.9" {
				t.Fatalf("client %s has ip %s, want that of the real client", c.ID, c.IP)
			}
		}
		all = append(all, ids(r.Clients)...)
	}
	if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != 60 || len(all) != 60 {
		t.Errorf("%d clients, want 60 that differ, in order: %v", len(all), all)
	}
}

// A vhost has one id in all answers, whichever origin they come from.
func TestVhostsAreOne(t *testing.T) {
	e, origins := cluster(t, 2, nil)
	origins[0].publish("a", "b")
	origins[1].publish("c")
	r := e.get("/api/v1/vhosts/")
	if len(r.Vhosts) != 1 {
		t.Fatalf("vhosts %+v, want one", r.Vhosts)
	}
	v := r.Vhosts[0]
	if v.Name != "__defaultVhost__" || v.Streams != 3 || v.Clients != 3 || v.Recv != 3000 {
		t.Errorf("vhost %+v, want the sums", v)
	}
	for _, s := range e.get("/api/v1/streams/").Streams {
		if s.Vhost != v.ID {
			t.Errorf("stream %s is of vhost %s, want %s", s.Name, s.Vhost, v.ID)
		}
	}
	if one := e.get("/api/v1/vhosts/" + v.ID); one.Vhost.ID != v.ID || one.Vhost.Streams != 3 {
		t.Errorf("the vhost by its id: %+v", one)
	}
	if none := e.get("/api/v1/vhosts/nope"); none.Code != 2014 {
		t.Errorf("a vhost that there is not: code %d, want 2014", none.Code)
	}
}

// A stream that two origins have is one, at its publisher's.
func TestStreamOfTwoOrigins(t *testing.T) {
	e, origins := cluster(t, 2, nil)
	origins[0].publish("a")
	origins[1].publish("a")
	origins[0].set(func() {
		origins[0].streams[0]["publish"] = map[string]any{"active": false}
		origins[0].streams[0]["clients"] = 5
	})
	r := e.get("/api/v1/streams/")
	if len(r.Streams) != 1 {
		t.Fatalf("streams %+v, want one", r.Streams)
	}
	s := r.Streams[0]
	if s.Origin != "origin-1" || s.Clients != 6 || s.Recv != 2000 || s.Kbps.Recv != 200 {
		t.Errorf("stream %+v, want that of origin-1 with the clients of both", s)
	}
}

func TestOneOfMany(t *testing.T) {
	e, origins := cluster(t, 3, func(c *Config, d *Deps) {
		d.Client = lent("2001:db8::1")
		c.AskTimeout, c.AskStraggler = time.Minute, time.Minute
	})
	origins[2].publish("a")
	origins[0].silence() // nobody waits for it: the owner has answered
	began := time.Now()
	s := e.get("/api/v1/streams/vid-sservice2a").Stream
	if s.Name != "a" || s.Origin != "origin-2" || s.Vhost != vhostID("__defaultVhost__") {
		t.Errorf("stream %+v", s)
	}
	c := e.get("/api/v1/clients/cservice2a").Client
	if c.Name != "a" || c.Origin != "origin-2" || c.IP != "2001:db8::1" {
		t.Errorf("client %+v", c)
	}
	if took := time.Since(began); took >= time.Minute {
		t.Errorf("took %s: a silent origin was waited for", took)
	}
}

func TestNoneOfMany(t *testing.T) {
	e, origins := cluster(t, 3, nil)
	origins[0].silence()
	for path, code := range map[string]int{"/api/v1/streams/nope": 2048, "/api/v1/clients/nope": 2049, "/api/v1/clients/a%2Fb%3Fc": 2049} {
		r := e.get(path)
		if r.Code != code || !slices.Equal(r.failed(), []string{"origin-0"}) {
			t.Errorf("%s: code %d, errors %+v; want %d, and that origin-0 could not be asked", path, r.Code, r.Errors, code)
		}
	}
}

func TestDeleteReachesTheOwner(t *testing.T) {
	e, origins := cluster(t, 4, func(c *Config, _ *Deps) { c.AskTimeout, c.AskStraggler = time.Minute, time.Minute })
	for i, o := range origins {
		o.publish(fmt.Sprint("s", i))
	}
	for i, tt := range []struct{ method, path string }{
		{http.MethodDelete, "/api/v1/clients/cservice2s2"},
		{http.MethodGet, "/api/v1/clients/cservice3s3?callback=jQuery.f_1&method=DELETE"}, // the console's way
	} {
		origins[1].set(func() { origins[1].answer = nil })
		if n := len(e.get("/api/v1/clients/").Clients); n != 4-i {
			t.Fatalf("%d clients, want %d", n, 4-i)
		}
		origins[1].silence()
		began := time.Now()
		_, text := e.exchange(tt.method, tt.path)
		if !strings.Contains(text, `"code":0`) {
			t.Errorf("%s %s: %s", tt.method, tt.path, text)
		}
		if took := time.Since(began); took >= time.Minute {
			t.Errorf("took %s: a silent origin was waited for", took)
		}
		o := origins[2+i]
		o.set(func() {
			if len(o.ended) != 1 {
				t.Errorf("the owner ended %v, want one client", o.ended)
			}
		})
		// What follows knows of it at once.
		origins[1].set(func() { origins[1].answer = nil })
		if left := ids(e.get("/api/v1/clients/").Clients); slices.Contains(left, fmt.Sprintf("cservice%ds%d", 2+i, 2+i)) {
			t.Errorf("the client is still listed: %v", left)
		}
	}
	if _, text := e.exchange(http.MethodDelete, "/api/v1/clients/cservice2s2"); !strings.Contains(text, `"code":2049`) {
		t.Errorf("a client that is gone: %s", text)
	}
	if _, text := e.exchange(http.MethodDelete, "/api/v1/clients/"); !strings.Contains(text, `"code":2049`) {
		t.Errorf("no client at all: %s", text)
	}
}

func TestMethods(t *testing.T) {
	e, _ := cluster(t, 1, nil)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPost, "/api/v1/streams/", 405}, {http.MethodDelete, "/api/v1/streams/x", 405}, {http.MethodPut, "/api/v1/clients/x", 405},
		{http.MethodDelete, "/api/v1/vhosts/x", 405}, {http.MethodPost, "/api/v1/summaries", 200}, {http.MethodPost, "/api/v1/versions", 200}, {http.MethodPut, "/api/v1/summaries", 405}, {http.MethodPost, "/api/v1/origins", 405},
		{http.MethodPost, "/api/v1/origins/0/clients/x", 405}, {http.MethodHead, "/api/v1/streams/", 200}, {http.MethodOptions, "/api/v1/clients/x", 200},
		{http.MethodGet, "/api/v1/tests/redirects", 301}, {http.MethodGet, "/rtc/v1/whip/", 200},
	} {
		if resp, text := e.exchange(tt.method, tt.path); resp.StatusCode != tt.status {
			t.Errorf("%s %s: status %d, want %d: %s", tt.method, tt.path, resp.StatusCode, tt.status, text)
		}
	}
}

func TestJSONPAndCORS(t *testing.T) {
	e, _ := cluster(t, 1, nil)
	resp, text := e.exchange(http.MethodGet, "/api/v1/versions?callback=angular.callbacks._0", "Origin", "http://console.example")
	if !strings.HasPrefix(text, `angular.callbacks._0({"code":0,`) || !strings.HasSuffix(text, "})") || resp.Header.Get("Content-Type") != "text/javascript" {
		t.Errorf("JSONP: %s, %v", text, resp.Header)
	}
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("CORS: %v", resp.Header)
	}
	resp, _ = e.exchange(http.MethodGet, "/api/v1/versions")
	if resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("without a page of another origin: %v", resp.Header)
	}
	resp, _ = e.exchange(http.MethodOptions, "/api/v1/clients/x", "Origin", "http://console.example", "Access-Control-Request-Method", "DELETE",
		"Access-Control-Request-Headers", "authorization")
	h := resp.Header
	if !strings.Contains(h.Get("Access-Control-Allow-Methods"), "DELETE") || h.Get("Access-Control-Allow-Headers") != "authorization" {
		t.Errorf("preflight: %v", h)
	}
	for _, callback := range []string{"alert(1)//", "a%3Cb", "%0d%0a", "%C3%A9"} {
		if resp, text := e.exchange(http.MethodGet, "/api/v1/versions?callback="+callback); resp.StatusCode != 400 {
			t.Errorf("callback %s: status %d: %s", callback, resp.StatusCode, text)
		}
	}
}

func TestSummariesAreSums(t *testing.T) {
	e, origins := cluster(t, 3, nil)
	for i, o := range origins {
		o.set(func() { o.recv = int64(1000 * (i + 1)) })
	}
	look := func() (self, system map[string]any) {
		data := e.get("/api/v1/summaries").Data
		return data["self"].(map[string]any), data["system"].(map[string]any)
	}
	self, system := look()
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"mem_kbyte", self["mem_kbyte"], 300.0}, {"cpu_percent", self["cpu_percent"], 0.75}, {"pid", self["pid"], 42.0}, {"argv", self["argv"], "srs-proxy up"},
		{"cpus, the machine's", system["cpus"], 8.0}, {"load_1m", system["load_1m"], 1.5}, {"conn_srs", system["conn_srs"], 9.0},
		{"srs_recv_bytes", system["srs_recv_bytes"], 6000.0}, {"srs_send_bytes", system["srs_send_bytes"], 3.0},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %v, want %v", tt.name, tt.got, tt.want)
		}
	}

	// Bytes never go back: not when an origin is silent, nor when another process
	// begins at nothing in the place of one.
	origins[2].silence()
	origins[0].set(func() { origins[0].service, origins[0].recv = "another", 5 })
	time.Sleep(shareFor + time.Millisecond) // the next question is a new one
	if _, system = look(); system["srs_recv_bytes"] != 6005.0 {
		t.Errorf("srs_recv_bytes is %v, want 6005", system["srs_recv_bytes"])
	}
}

// Pollers share what is asked at one time.
func TestPollersShare(t *testing.T) {
	e, origins := cluster(t, 2, nil)
	hold := make(chan struct{})
	origins[0].set(func() {
		origins[0].answer = func(w http.ResponseWriter, _ *http.Request) {
			<-hold
			fmt.Fprint(w, `{"code":0,"streams":[]}`)
		}
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { e.get("/api/v1/streams/") })
	}
	for origins[0].asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	// A slow machine may need more than one turn for twenty.
	if n := origins[0].asked.Load(); n > 10 {
		t.Errorf("the origin was asked %d times for 20 pollers at once", n)
	}
	// But not with another's password.
	before := origins[1].asked.Load()
	e.get("/api/v1/streams/", "Authorization", "Basic YTpi")
	if origins[1].asked.Load() == before {
		t.Error("an answer to somebody else was given to who has another password")
	}
}

func TestPassword(t *testing.T) {
	e, origins := cluster(t, 2, nil)
	for _, o := range origins {
		o.publish("a" + o.service)
		o.set(func() { o.password = "secret" })
	}
	good := []string{"Authorization", "Basic YWRtaW46c2VjcmV0"}
	for _, path := range []string{
		"/api/", "/api/v1/", "/api/v1/versions", "/api/v1/summaries", "/api/v1/rusages", "/api/v1/streams/", "/api/v1/streams/x", "/api/v1/clients/",
		"/api/v1/clients/x", "/api/v1/vhosts/", "/api/v1/origins", "/api/v1/origins/0", "/api/v1/origins/0/streams", "/api/v1/raw?rpc=raw", "/api/v1/raw?rpc=reload",
		"/api/v1/clusters", "/api/v1/requests", "/api/v1/tests/errors",
	} {
		for _, header := range [][]string{nil, {"Authorization", "Basic YTpi"}} {
			resp, text := e.exchange(http.MethodGet, path, header...)
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != "Basic" || strings.Contains(text, "origin") {
				t.Errorf("%s with %v: status %d, %s", path, header, resp.StatusCode, text)
			}
		}
		if resp, text := e.exchange(http.MethodGet, path, good...); resp.StatusCode != http.StatusOK {
			t.Errorf("%s with the password: status %d, %s", path, resp.StatusCode, text)
		}
	}
	if resp, _ := e.exchange(http.MethodDelete, "/api/v1/clients/x"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a client ended without the password: status %d", resp.StatusCode)
	}
	// Nor when nobody is left to ask.
	for _, o := range origins {
		o.silence()
		o.set(func() { o.password = "" })
	}
	if resp, text := e.exchange(http.MethodGet, "/api/v1/origins"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the origins, when none answers: status %d, %s", resp.StatusCode, text)
	}
}

func TestOrigins(t *testing.T) {
	slots := []Slot{{ID: "origin-0", State: "ready", PID: 77, Version: "7.0.18", Serves: true}, {ID: "origin-10", State: "stopped"}, {ID: "origin-2", State: "backoff", Serves: true}}
	e, origins := cluster(t, 2, func(_ *Config, d *Deps) { d.Slots = func() []Slot { return slots } })
	origins[0].publish("a")
	r := e.get("/api/v1/origins")
	var got []string
	for _, o := range r.Origins {
		got = append(got, o.ID+" "+o.State)
	}
	if want := []string{"origin-0 ready", "origin-1 ready", "origin-2 backoff", "origin-10 stopped"}; !slices.Equal(got, want) {
		t.Errorf("origins %q, want %q", got, want)
	}
	if o := r.Origins[0]; o.PID != 77 || o.Endpoints.API != origins[0].addr {
		t.Errorf("origin-0: %+v", o)
	}
	for _, path := range []string{"/api/v1/origins/0/streams", "/api/v1/origins/origin-0/streams/?count=10", "/api/v1/origins/0/api/v1/streams/"} {
		if r := e.get(path); r.Service != origins[0].service || len(r.Streams) != 1 || r.Streams[0].Vhost != "vid-v0" {
			t.Errorf("%s: %+v, want what origin-0 says itself", path, r)
		}
	}
	for _, path := range []string{"/api/v1/origins/7", "/api/v1/origins/7/streams", "/api/v1/origins/origin-2/streams", "/api/v1/origins/..%2f/x"} {
		if resp, _ := e.exchange(http.MethodGet, path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, resp.StatusCode)
		}
	}
	// What should be there and is not is told with every list.
	if r := e.get("/api/v1/streams/"); !slices.Equal(r.failed(), []string{"origin-2"}) {
		t.Errorf("errors %+v, want that origin-2 is not there", r.Errors)
	}
}

// A reload of an origin behind srs-proxy's back is refused, and so is what is not known.
func TestRaw(t *testing.T) {
	e, origins := cluster(t, 1, nil)
	origins[0].set(func() {
		origins[0].answer = func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"code":0,"http_api":{"enabled":true,"listen":"127.0.0.1:20002","raw_api":{"enabled":true,"allow_reload":true}}}`)
		}
	})
	_, text := e.exchange(http.MethodGet, "/api/v1/raw?rpc=raw")
	if want := `"listen":"127.0.0.1:0","raw_api":{"enabled":true,"allow_reload":false,`; !strings.Contains(text, want) {
		t.Errorf("rpc=raw: %s, want %s", text, want)
	}
	before := origins[0].asked.Load()
	for _, rpc := range []string{"reload", "update", "", "restart"} {
		_, text := e.exchange(http.MethodGet, "/api/v1/raw?rpc="+rpc)
		if !strings.Contains(text, `"code":1061`) || !strings.Contains(text, "srs-proxy reload") {
			t.Errorf("rpc=%s: %s", rpc, text)
		}
	}
	if got := origins[0].asked.Load() - before; got != 4 { // for who may ask
		t.Errorf("the origin was asked %d times", got)
	}
}

// All that is not an answer's own is valid JSON of SRS's kind.
func TestIndexes(t *testing.T) {
	e, _ := cluster(t, 1, nil)
	for path, want := range map[string]string{
		"/": "the api root", "/nope": "the api root", "/api/": "the api version 1.0", "/api/v2/x": "the api version 1.0",
		"/api/v1/": "the origins behind this API", "/api/v1/nope": "the version of SRS", "/metrics": `"code":1090`, "/api/v1/tests/errors": `{"code":100}`,
	} {
		_, text := e.exchange(http.MethodGet, path)
		if !json.Valid([]byte(text)) || !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %q in it", path, text, want)
		}
	}
}
