package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/originapi"
)

// slack is for a machine that does everything at once.
const slack = 5 * time.Second

// allLists are answers that are made of those of all origins.
func allLists() []string {
	return []string{"/api/v1/streams/?count=1000", "/api/v1/clients/", "/api/v1/vhosts/", "/api/v1/summaries"}
}

// Whatever is wrong with one origin, the others' part comes in time, and the one is
// named.
func TestFaultyOrigin(t *testing.T) {
	huge := func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"code":0,"streams":[`)
		for {
			if _, err := io.WriteString(w, `{"id":"x","url":"/live/`+strings.Repeat("a", 4000)+`"},`); err != nil {
				return
			}
		}
	}
	dribble := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"code":0,"streams":[`)
		for {
			if _, err := io.WriteString(w, " "); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	say := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
	}
	for name, answer := range map[string]http.HandlerFunc{
		"silent":         func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"dribbles":       dribble,
		"huge":           huge,
		"no JSON":        say("<html>"),
		"half":           say(`{"code":0,"streams":[{"id":"a"`),
		"another code":   say(`{"code":1061}`),
		"nothing in it":  say(`{}`),
		"502":            func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) },
		"hangs up":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"wants password": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, origins := cluster(t, 3, func(c *Config, _ *Deps) { c.Ask.MaxReply = 1 << 20 })
			origins[0].publish("a")
			origins[2].publish("c")
			origins[1].set(func() { origins[1].answer = answer })
			for _, path := range allLists() {
				began := time.Now()
				r := e.get(path)
				if took := time.Since(began); took > e.cfg.AskTimeout+slack {
					t.Errorf("%s took %s", path, took)
				}
				if r.Code != 0 || !slices.Equal(r.failed(), []string{"origin-1"}) {
					t.Errorf("%s: code %d, errors %+v; want the others' part, and that origin-1 is missing", path, r.Code, r.Errors)
				}
				if strings.Contains(path, "streams") && len(r.Streams) != 2 || strings.Contains(path, "clients") && len(r.Clients) != 2 {
					t.Errorf("%s: %+v, want the streams and clients of the others", path, r)
				}
			}
		})
	}
}

// A list with something else in it than streams gives what came before that.
func TestListOfOddThings(t *testing.T) {
	e, origins := cluster(t, 2, nil)
	origins[0].publish("a")
	for _, list := range []string{`[7]`, `[null]`, `[{"id":""}]`, `[{"id":{"a":1}}]`, `[{"url":"/live/x"}]`, `[[]]`, `"x"`} {
		origins[1].set(func() {
			origins[1].answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"code":0,"streams":%s}`, list) }
		})
		time.Sleep(shareFor + time.Millisecond) // the next question is a new one
		r := e.get("/api/v1/streams/")
		if len(r.Streams) != 1 || !slices.Equal(r.failed(), []string{"origin-1"}) {
			t.Errorf("%s: %+v, want the stream of origin-0 and an error of origin-1", list, r)
		}
	}
}

// Nobody answers: no list is empty without a word.
func TestNoOriginAnswers(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	for name, e := range map[string]*env{
		"none there": start(t, nil), "refused": start(t, nil, dead.Addr().String()), "no API": start(t, nil, ""),
	} {
		for _, path := range append(allLists(), "/api/v1/versions", "/api/v1/rusages", "/api/v1/requests", "/api/v1/raw?rpc=raw", "/api/v1/clusters", "/api/v1/features") {
			if r := e.get(path); r.Code != 1011 || len(r.Errors) != 1 {
				t.Errorf("%s: %s: %+v, want code 1011 and why", name, path, r)
			}
		}
		if r := e.get("/api/v1/origins"); r.Code != 0 {
			t.Errorf("%s: origins: %+v", name, r)
		}
	}
}

// The balancer does not answer (it may be elsewhere).
func TestOriginsNotKnown(t *testing.T) {
	e := start(t, func(_ *Config, d *Deps) { d.Origins = lost{} })
	for _, path := range append(allLists(), "/api/v1/versions", "/api/v1/origins", "/api/v1/clients/x") {
		if r := e.get(path); len(r.Errors) != 1 || strings.Contains(r.Errors[0].Error, "secret") {
			t.Errorf("%s: %+v, want one error, without the cause", path, r)
		}
	}
}

type lost struct{}

func (lost) Origins(context.Context) ([]balancer.Status, error) {
	return nil, errors.New("redis: secret password")
}

// What all origins say alike, one of them says, and a silent one is not waited for.
func TestAnyOrigin(t *testing.T) {
	e, origins := cluster(t, 3, nil)
	e.get("/api/v1/versions")
	if a, b := origins[1].asked.Load(), origins[2].asked.Load(); a+b != 0 {
		t.Errorf("origins were asked %d and %d times for what the first one has said", a, b)
	}
	origins[0].silence()
	origins[1].silence()
	began := time.Now()
	if r := e.get("/api/v1/versions"); r.Code != 0 || r.Data["version"] != "7.0.18" {
		t.Errorf("versions: %+v", r)
	}
	if took := time.Since(began); took > slack {
		t.Errorf("took %s behind two silent origins", took)
	}
}

// One origin that never answers costs no more than its time, with any number of others.
func TestTimeout(t *testing.T) {
	const long = time.Minute
	for _, tt := range []struct {
		n                        int
		timeout, straggler, want time.Duration
	}{
		{1, 200 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond},
		{2, long, 100 * time.Millisecond, 100 * time.Millisecond},
		{3, long, 100 * time.Millisecond, 100 * time.Millisecond},
		{3, 200 * time.Millisecond, long, 200 * time.Millisecond},
	} {
		e, origins := cluster(t, tt.n, func(c *Config, _ *Deps) { c.AskTimeout, c.AskStraggler = tt.timeout, tt.straggler })
		origins[0].silence()
		began := time.Now()
		r := e.get("/api/v1/streams/")
		took := time.Since(began)
		if !slices.Contains(r.failed(), "origin-0") || took < tt.want || took > tt.want+slack {
			t.Errorf("%d origins: took %s, errors %+v; want %s and that origin-0 is missing", tt.n, took, r.Errors, tt.want)
		}
	}
}

// An origin that takes long each time is waited for once it is known to: only a first
// time it may look like a stopped one.
func TestSlowOriginIsKnown(t *testing.T) {
	e, origins := cluster(t, 3, func(c *Config, _ *Deps) { c.AskStraggler = 200 * time.Millisecond })
	slow := make(chan struct{}, 1)
	origins[2].set(func() {
		origins[2].answer = func(w http.ResponseWriter, _ *http.Request) {
			<-slow
			io.WriteString(w, `{"code":0,"streams":[{"id":"s","url":"/live/s"}]}`)
		}
	})
	if r := e.get("/api/v1/streams/"); !slices.Contains(r.failed(), "origin-2") {
		t.Fatalf("errors %+v, want that origin-2 is missing", r.Errors)
	}
	slow <- struct{}{} // the late answer
	for e.asker.times.of("origin-2") == 0 {
		time.Sleep(time.Millisecond)
	}
	time.AfterFunc(300*time.Millisecond, func() { slow <- struct{}{} })
	if r := e.get("/api/v1/streams/"); slices.Contains(r.failed(), "origin-2") || len(r.Streams) != 1 {
		t.Errorf("errors %+v and streams %+v, want the slow origin's stream", r.Errors, r.Streams)
	}
}

// Many origins, each with many streams: the whole list comes at once, also when one is
// stopped. The figures are told; what is asserted is what must always be so.
func TestManyOrigins(t *testing.T) {
	const n, each = 128, 8
	e, origins := cluster(t, n, func(c *Config, _ *Deps) {
		c.AskTimeout, c.AskStraggler = DefaultConfig().AskTimeout, DefaultConfig().AskStraggler
	})
	for i, o := range origins {
		for j := range each {
			o.publish(fmt.Sprintf("s%d-%d", i, j))
		}
	}
	look := func(stopped ...string) time.Duration {
		began := time.Now()
		r := e.get("/api/v1/streams?count=10000")
		took := time.Since(began)
		names := make(map[string]bool)
		for _, s := range r.Streams {
			names[s.Name] = true
		}
		// On a machine that does everything at once, more may not answer in time.
		if want := (n - len(r.Errors)) * each; len(names) != want || len(r.Streams) != want {
			t.Errorf("%d streams, %d names, %d origins missing; want each of %d once", len(r.Streams), len(names), len(r.Errors), want)
		}
		for _, id := range stopped {
			if !slices.Contains(r.failed(), id) {
				t.Errorf("errors %+v, want that %s is missing", r.Errors, id)
			}
		}
		if took > e.cfg.AskTimeout+slack {
			t.Errorf("took %s", took)
		}
		time.Sleep(shareFor) // the next question is a new one
		return took
	}
	var all, stopped []time.Duration
	for range 5 {
		all = append(all, look())
	}
	origins[50].silence()
	for range 5 {
		stopped = append(stopped, look("origin-50"))
	}
	slices.Sort(all)
	slices.Sort(stopped)
	t.Logf("%d streams of %d origins: median %s, worst %s; with a stopped one %s, %s", n*each, n, all[2], all[4], stopped[2], stopped[4])
}

// FuzzOrigin: whatever an origin says, the answer is JSON, and there is no panic.
func FuzzOrigin(f *testing.F) {
	for _, text := range []string{
		``, `{"code":0}`, `{"code":0,"streams":[{"id":"a","url":"//","publish":{"active":true}},{"id":"b","url":"//"}]}`,
		`{"code":0,"service":7,"data":{"ok":1,"self":[],"system":{"srs_recv_bytes":-1e99,"conn_srs":"x"}}}`,
		`{"code":0,"data":{"system":{"srs_recv_bytes":9223372036854775807,"conn_srs":9223372036854775807}}}`,
		`{"code":0,"vhosts":[{"id":"v","name":"n","kbps":7},{"id":"v","name":"n","kbps":{"recv_30s":1.5}}]}`,
		`{"code":0,"clients":[{"id":"c","ip":"127.64.0.9","url":""},{"id":"c","ip":7}]}`, `{"code":0,"clients":[{"id":"c","id":{}}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var answers []answer
		for i, list := range []string{"streams", "clients", "vhosts", ""} {
			a := answer{origin: fmt.Sprint("origin-", i)}
			a.err = a.Read(bytes.NewReader(text), originapi.Question{List: list, Most: 100})
			answers = append(answers, a)
		}
		s := New(DefaultConfig(), Deps{Client: lent("203.0.113.9")})
		all, _ := elements(answers)
		parts := datas(answers)
		self := merge(inner(parts, "self"), selfRules())
		recv, send := s.totals.count(answers, time.Now())
		if recv < 0 || send < 0 {
			t.Errorf("%d and %d bytes", recv, send)
		}
		for _, v := range vhostsOnce(all) {
			valid(t, v.object.Append(nil))
		}
		for _, o := range shown(s, streamsOnce(all)) {
			valid(t, o.Append(nil))
		}
		for _, o := range shown(s, all) {
			valid(t, o.Append(nil))
		}
		valid(t, merge(parts, rusageRules()).Append(nil))
		valid(t, merge(parts, procRules()).Append(nil))
		valid(t, self.Append(nil))
	})
}

func valid(t *testing.T, text []byte) {
	t.Helper()
	if !json.Valid(text) || bytes.Contains(text, []byte("\x00")) {
		t.Errorf("not JSON: %q\n%s", text, debug.Stack())
	}
}
