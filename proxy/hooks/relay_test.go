package hooks

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a relay that runs.
type env struct {
	*Relay
	t   *testing.T
	log *testkit.Log
}

func start(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, log: &testkit.Log{}}
	cfg := Config{Listen: "127.0.0.1:0", Client: knows("127.64.1.2", "203.0.113.9:50123")}
	e.Relay = New(cfg, slog.New(slog.NewTextHandler(e.log, nil)))
	if e.Addr() != nil {
		t.Error("it listens before Listen")
	}
	for range 2 {
		if err := e.Listen(sealer(t, 7)); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Serve(t, e.Run)
	return e
}

// url is a hook's, as an origin has it: but for the port, which is not known before.
func (e *env) url(hook string) string {
	return strings.Replace(sealer(e.t, 7).URL(hook, false), "127.0.0.1:19999", e.Addr().String(), 1)
}

// call is what an origin does with a hook's URL.
func (e *env) call(method, hook, body string) (status int, answer string, h http.Header) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, e.url(hook), strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("User-Agent", "SRS/7.0.18(Kai)")
	req.Header.Set("Content-Type", "application/json")
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// got is a call as a hook server sees it.
type got struct{ method, target, host, agent, kind, length, body string }

func hookServer(t *testing.T, answer http.HandlerFunc) (url string, calls chan got) {
	t.Helper()
	calls = make(chan got, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		calls <- got{r.Method, r.RequestURI, r.Host, r.UserAgent(), r.Header.Get("Content-Type"), r.Header.Get("Content-Length"), string(b)}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, calls
}

func TestCallIsPassedOn(t *testing.T) {
	e := start(t)
	url, calls := hookServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Hook", "h")
		w.Header()["Content-Type"] = nil
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"code":0, "data":null}`)
	})
	host := strings.TrimPrefix(url, "http://")
	status, answer, h := e.call("POST", url+"/a/%2e?token=secret&x=%zz", `{"action":"on_publish","ip":"127.64.1.2"}`)
	if status != 201 || answer != `{"code":0, "data":null}` || h.Get("X-Hook") != "h" || h["Content-Type"] != nil {
		t.Errorf("the answer is %d %q %v", status, answer, h)
	}
	want := got{"POST", "/a/%2e?token=secret&x=%zz", host, "SRS/7.0.18(Kai)", "application/json", "42", `{"action":"on_publish","ip":"203.0.113.9"}`}
	if c := <-calls; c != want {
		t.Errorf("the hook got\n%+v, want\n%+v", c, want)
	}
	status, _, _ = e.call("GET", url+"/notify", "")
	if c := <-calls; status != 201 || c.method != "GET" || c.body != "" {
		t.Errorf("on_hls_notify: %d, %+v", status, c)
	}
	if log := e.log.String(); log != "" {
		t.Errorf("log: %s", log)
	}
}

func TestAnswersAreNotJudged(t *testing.T) {
	e := start(t)
	for _, want := range []int{200, 204, 302, 400, 403, 404, 500, 503} {
		url, calls := hookServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/a" {
				t.Error("a redirect was followed")
			}
			w.Header().Set("Location", "/b")
			w.WriteHeader(want)
			if want != 204 {
				_, _ = io.WriteString(w, "no")
			}
		})
		status, answer, _ := e.call("POST", url+"/a", "{}")
		if status != want || want != 204 && answer != "no" {
			t.Errorf("%d came as %d %q", want, status, answer)
		}
		if len(calls) != 1 {
			t.Errorf("%d: the hook was called %d times", want, len(calls))
		}
	}
}

// A hook server that is down is no answer, and its secrets are not in the log.
func TestDeadHook(t *testing.T) {
	e := start(t)
	dead := testkit.FreeAddr(t)
	for range 3 {
		if status, answer, _ := e.call("POST", "http://"+dead+"/a?token=secret", "{}"); status != http.StatusBadGateway || strings.Contains(answer, dead) {
			t.Errorf("%d %q", status, answer)
		}
	}
	log := e.log.String()
	if !strings.Contains(log, "hook=http://"+dead+"/a status=502") || !strings.Contains(log, "refused") || strings.Contains(log, "secret") {
		t.Errorf("log: %s", log)
	}
	if n := strings.Count(log, "WARN"); n > 2 { // one a second
		t.Errorf("%d lines", n)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	e := start(t)
	url, calls := hookServer(t, func(http.ResponseWriter, *http.Request) {})
	for _, target := range []string{"/", "/" + url, "/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/" + url} {
		resp, err := http.Post("http://"+e.Addr().String()+target, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", target, resp.StatusCode)
		}
	}
	if len(calls) != 0 {
		t.Error("a stranger made it call")
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestBounds(t *testing.T) {
	e := start(t)
	url, calls := hookServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, maxAnswer+1))
	})
	if status, _, _ := e.call("POST", url, "{}"); status != http.StatusBadGateway {
		t.Errorf("an endless answer: %d", status)
	}
	<-calls
	if status, _, _ := e.call("POST", url, strings.Repeat(" ", maxBody+1)); status != http.StatusBadRequest {
		t.Errorf("an endless body: %d", status)
	}
	if len(calls) != 0 {
		t.Error("it was passed on")
	}
}

// An origin that waits no longer ends the call; a hook that takes its time is waited
// for.
func TestOriginLeaves(t *testing.T) {
	e := start(t)
	ended := make(chan struct{})
	url, calls := hookServer(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			close(ended)
		case <-time.After(20 * time.Second):
		}
	})
	c, err := net.Dial("tcp", e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	target := strings.TrimPrefix(e.url(url), "http://"+e.Addr().String())
	if _, err := io.WriteString(c, "POST "+target+" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	<-calls
	c.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the call goes on")
	}
}

func TestHTTPSHook(t *testing.T) {
	e := start(t)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "0") }))
	defer s.Close()
	if status, _, _ := e.call("POST", s.URL, "{}"); status != http.StatusBadGateway {
		t.Errorf("a certificate of nobody's: %d", status)
	}
	if log := e.log.String(); !strings.Contains(log, "certificate") {
		t.Errorf("log: %s", log)
	}
	e.transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	e.transport.TLSClientConfig.NextProtos = nil
	if status, answer, _ := e.call("POST", s.URL, "{}"); status != 200 || answer != "0" {
		t.Errorf("%d %q", status, answer)
	}
}

// Run waits for Listen, which may come when a reload brings the first hook.
func TestRunBeforeListen(t *testing.T) {
	r := New(Config{Listen: "127.0.0.1:0", Client: knows("127.64.1.2", "203.0.113.9:1")}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	if err := r.Listen(sealer(t, 1)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// And one that never listens ends too.
	r = New(Config{}, slog.New(slog.DiscardHandler))
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
}
