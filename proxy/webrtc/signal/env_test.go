package signal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/balancer"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/route"
	"srs-proxy/proxy/source"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/proxy/webrtc/candidate"
	"srs-proxy/proxy/webrtc/ticket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is signalling over a real balancer, router and media server; the origins are
// HTTP servers.
type env struct {
	t     *testing.T
	bal   balancer.Balancer
	proxy *proxy
}

// proxy is one of maybe several that share a balancer.
type proxy struct {
	*Server
	router *route.Router
	media  *webrtc.Server
	url    string
}

type options struct {
	signal     Config
	media      webrtc.Config
	candidates string
	vhosts     []string
	bal        balancer.Balancer // the proxy's own, if it is not env.bal
	tickets    *ticket.Keys
}

func newEnv(t *testing.T, o options) *env {
	t.Helper()
	e := &env{t: t, bal: balancer.NewMemory(balancer.Config{LeaseIdle: time.Second})}
	e.proxy = e.newProxy(o)
	return e
}

func (e *env) newProxy(o options) *proxy {
	e.t.Helper()
	if o.candidates == "" {
		o.candidates = "192.0.2.1"
	}
	fixed, err := candidate.ParseList(o.candidates)
	if err != nil {
		e.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if o.bal == nil {
		o.bal = e.bal
	}
	o.signal.Tickets, o.media.Tickets = o.tickets, o.tickets
	p := &proxy{router: route.New(route.Config{Vhosts: o.vhosts}, o.bal, log)}
	rl := relay.New(relay.Config{})
	o.media.Listen = "127.0.0.1:0"
	p.media = webrtc.New(o.media, source.New(), p.router, rl, log)
	if err := p.media.Listen(); err != nil {
		e.t.Fatal(err)
	}
	p.Server = New(o.signal, p.router, o.bal, p.media, candidate.New(candidate.Config{Fixed: fixed}, log), log)
	p.media.SetElsewhere(p.Server)
	front := httptest.NewServer(p)
	p.url = front.URL

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.media.Run(ctx) })
	running.Go(func() { _ = p.Run(ctx) })
	e.t.Cleanup(func() {
		cancel()
		running.Wait()
		front.Close()
		rl.Close()
		if n := len(p.sessions); n > 0 {
			e.t.Errorf("%d sessions are left", n)
		}
		if n := p.router.Sessions(); n != 0 {
			e.t.Errorf("the router counts %d sessions", n)
		}
	})
	return p
}

// origin is an HTTP server that answers as SRS does.
type origin struct {
	id  string
	srv *httptest.Server

	mu       sync.Mutex
	requests []*http.Request // bodies are read
	bodies   []string
	// reply, if set, answers in place of SRS.
	reply http.HandlerFunc
	made  int
	// takesICE has it take the credentials of a query, as SRS does.
	takesICE bool
}

const originPwd = "0123456789012345678901"

func answerSDP(ufrag string) string {
	return strings.Join([]string{
		"v=0", "o=SRS/7.0 1 2 IN IP4 0.0.0.0", "s=SRSPublishSession", "t=0 0", "a=ice-lite", "a=group:BUNDLE 0",
		"m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=ice-ufrag:" + ufrag, "a=ice-pwd:" + originPwd, "a=mid:0",
		"a=candidate:0 1 udp 2130706431 127.0.0.1 20003 typ host generation 0", "",
	}, "\r\n")
}

const offerSDP = "v=0\r\ns=-\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:clnt\r\na=ice-pwd:9999999999999999999999\r\n"

func (e *env) origin(id string) *origin {
	e.t.Helper()
	o := &origin{id: id}
	o.srv = httptest.NewServer(http.HandlerFunc(o.serve))
	e.t.Cleanup(o.srv.Close)
	e.register(id, o.api(), "s1")
	return o
}

func (o *origin) api() string { return o.srv.Listener.Addr().String() }

func (e *env) register(id, api, service string) {
	e.t.Helper()
	err := e.bal.Update(e.t.Context(), balancer.Origin{ID: id, Service: service, Endpoints: balancer.Endpoints{API: api, RTC: "127.0.0.1:9"}})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	o.mu.Lock()
	o.requests, o.bodies = append(o.requests, r.Clone(context.Background())), append(o.bodies, string(body))
	o.made++
	ufrag := fmt.Sprintf("%s%04d", o.id, o.made)
	reply, pwd := o.reply, originPwd
	if q := r.URL.Query(); o.takesICE && q.Get("ice-ufrag") != "" {
		ufrag, pwd = q.Get("ice-ufrag"), q.Get("ice-pwd")
	}
	o.mu.Unlock()
	switch {
	case reply != nil:
		reply(w, r)
	case strings.HasSuffix(r.URL.Path, "/publish/"), strings.HasSuffix(r.URL.Path, "/play/"):
		sdp := strings.ReplaceAll(answerSDP(ufrag), "\r\n", `\r\n`)
		fmt.Fprintf(w, `{"code":0,"server":"vid-1","service":"<s>","pid":"7","sdp":"%s","sessionid":"%s:clnt"}`, sdp, ufrag)
	case r.Method == http.MethodPost:
		h := w.Header()
		h.Set("Content-Type", "application/sdp")
		h.Set("Location", fmt.Sprintf("/rtc/v1/whip/?action=delete&token=tkn&app=live&stream=a&session=%s:clnt", ufrag))
		h.Set("Link", `<stun:stun.example.com>; rel="ice-server"`)
		h.Set("ETag", `"x"`)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, strings.Replace(answerSDP(ufrag), originPwd, pwd, 1))
	case r.Method == http.MethodDelete && r.URL.Query().Get("token") != "tkn", r.Method == http.MethodPatch:
		hangUp(w, r)
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// asked is the n-th request that the origin got, from 0, and its body.
func (o *origin) asked(t *testing.T, n int) (*http.Request, string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if n >= len(o.requests) {
		t.Fatalf("origin %s got %d requests", o.id, len(o.requests))
	}
	return o.requests[n], o.bodies[n]
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.requests)
}

type response struct {
	*http.Response
	text string
}

func (e *env) do(method, path, body string, header ...string) response {
	e.t.Helper()
	return e.doAt(e.proxy, method, path, body, header...)
}

func (e *env) doAt(p *proxy, method, path, body string, header ...string) response {
	e.t.Helper()
	r, err := http.NewRequestWithContext(e.t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return response{resp, string(text)}
}

// whip makes a session and returns its answer.
func (e *env) whip(path string) response {
	e.t.Helper()
	r := e.do(http.MethodPost, path, offerSDP, "Content-Type", "application/sdp")
	if r.StatusCode != http.StatusCreated {
		e.t.Fatalf("POST %s: %s: %s", path, r.Status, r.text)
	}
	return r
}

// held are the leases of all origins.
func (e *env) held() (publishers, players int) {
	e.t.Helper()
	all, err := e.bal.Origins(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	for _, o := range all {
		publishers, players = publishers+o.Publishers, players+o.Players
	}
	return publishers, players
}

func (e *env) wantHeld(publishers, players int) {
	e.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		pub, play := e.held()
		if pub == publishers && play == players {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("%d publishers and %d players are held, want %d and %d", pub, play, publishers, players)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// username is the session's, by the answer's Location.
func username(r response) string {
	_, session, _ := strings.Cut(r.Header.Get("Location"), "session=")
	return session
}
