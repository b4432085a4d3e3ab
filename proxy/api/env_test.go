package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/balancer"
	"srs-proxy/proxy/listener"
	"srs-proxy/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a server that runs in front of origins.
type env struct {
	*Server
	t   *testing.T
	bal *balancer.Memory
	log *testkit.Log
}

// start runs a server over origins whose APIs are at addrs: origin-0, origin-1...
func start(t *testing.T, tune func(*Config, *Deps), addrs ...string) *env {
	t.Helper()
	e := &env{t: t, bal: balancer.NewMemory(balancer.Config{}), log: &testkit.Log{}}
	for i, addr := range addrs {
		o := balancer.Origin{ID: "origin-" + strconv.Itoa(i), Endpoints: balancer.Endpoints{API: addr}}
		if err := e.bal.Update(context.Background(), o); err != nil {
			t.Fatal(err)
		}
	}
	cfg := DefaultConfig()
	cfg.Listen, cfg.RTMP = "127.0.0.1:0", ":1935"
	cfg.Listener = listener.Config{PerIP: -1}
	cfg.StopTimeout = 200 * time.Millisecond
	// For a machine that does everything at once: who answers at all is in time.
	cfg.AskTimeout, cfg.AskStraggler = 10*time.Second, time.Second
	cfg.Identity = Identity{Server: "vid-cluster", Service: "abcdefgh", PID: 42, PPID: 1, Argv: "srs-proxy up", Cwd: "/"}
	deps := Deps{Origins: e.bal, Log: slog.New(slog.NewTextHandler(e.log, nil))}
	if tune != nil {
		tune(&cfg, &deps)
	}
	e.Server = New(cfg, deps)
	if err := e.Listen(); err != nil {
		t.Fatal(err)
	}
	stop := testkit.Serve(t, e.Run)
	t.Cleanup(func() {
		stop()
		if strings.Contains(e.log.String(), "panic") {
			t.Errorf("log: %s", e.log)
		}
	})
	return e
}

// exchange asks the server and reads the answer.
func (e *env) exchange(method, path string, header ...string) (*http.Response, string) {
	e.t.Helper()
	req, err := http.NewRequest(method, "http://"+e.Addr().String()+path, http.NoBody)
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatalf("%s: %v", path, err)
	}
	return resp, string(b)
}

// reply is what tests look at in an answer.
type reply struct {
	Code    int            `json:"code"`
	Server  string         `json:"server"`
	Service string         `json:"service"`
	PID     string         `json:"pid"`
	Errors  []originError  `json:"errors"`
	Streams []item         `json:"streams"`
	Stream  item           `json:"stream"`
	Clients []item         `json:"clients"`
	Client  item           `json:"client"`
	Vhosts  []item         `json:"vhosts"`
	Vhost   item           `json:"vhost"`
	Origins []originInfo   `json:"origins"`
	Data    map[string]any `json:"data"`
	Origin  any            `json:"origin"`
}

type item struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	URL     string `json:"url"`
	Vhost   string `json:"vhost"`
	IP      string `json:"ip"`
	Origin  string `json:"origin"`
	Clients int    `json:"clients"`
	Streams int    `json:"streams"`
	Recv    int    `json:"recv_bytes"`
	Kbps    struct {
		Recv int `json:"recv_30s"`
	} `json:"kbps"`
}

// get asks for JSON.
func (e *env) get(path string, header ...string) reply {
	e.t.Helper()
	resp, text := e.exchange(http.MethodGet, path, header...)
	if resp.StatusCode != http.StatusOK {
		e.t.Fatalf("%s: status %d: %s", path, resp.StatusCode, text)
	}
	var r reply
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		e.t.Fatalf("%s: %v in %s", path, err, text)
	}
	return r
}

func (r reply) failed() []string {
	var ids []string
	for _, e := range r.Errors {
		ids = append(ids, e.Origin)
	}
	return ids
}

// origin is one whose streams and clients are those of a test. Its API is as SRS's is,
// as far as the test needs it: what SRS itself says is in the tests with SRS.
type origin struct {
	addr    string
	service string
	asked   atomic.Int64

	mu       sync.Mutex // guards the following
	streams  []map[string]any
	clients  []map[string]any
	vhosts   []map[string]any
	ended    []string
	password string
	answer   http.HandlerFunc // instead of all that
	recv     int64
}

func startOrigin(t *testing.T, n int) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: ln.Addr().String(), service: fmt.Sprintf("service%d", n)}
	o.vhosts = []map[string]any{{"id": fmt.Sprintf("vid-v%d", n), "name": "__defaultVhost__", "enabled": true, "clients": 0, "streams": 0, "recv_bytes": 0}}
	srv := &http.Server{Handler: o}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return o
}

// publish gives the origin streams with a publisher each.
func (o *origin) publish(names ...string) *origin {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range names {
		id := o.service + name
		o.streams = append(o.streams, map[string]any{
			"id": "vid-s" + id, "name": name, "vhost": o.vhosts[0]["id"], "app": "live", "url": "/live/" + name, "clients": 1, "recv_bytes": 1000,
			"publish": map[string]any{"active": true, "cid": "c" + id}, "kbps": map[string]any{"recv_30s": 100, "send_30s": 0}, "video": nil,
		})
		o.clients = append(o.clients, map[string]any{
			"id": "c" + id, "vhost": o.vhosts[0]["id"], "stream": "vid-s" + id, "ip": "127.64.0.9", "url": "/live/" + name, "name": name, "publish": true,
		})
	}
	byID := func(a, b map[string]any) int { return strings.Compare(a["id"].(string), b["id"].(string)) }
	slices.SortFunc(o.streams, byID)
	slices.SortFunc(o.clients, byID)
	o.vhosts[0]["streams"], o.vhosts[0]["clients"], o.vhosts[0]["recv_bytes"] = len(o.streams), len(o.clients), 1000*len(o.streams)
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	o.mu.Lock()
	answer, password := o.answer, o.password
	o.mu.Unlock()
	if _, got, _ := r.BasicAuth(); password != "" && got != password {
		w.Header().Set("WWW-Authenticate", "Basic")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if answer != nil {
		answer(w, r)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]any{"code": 0, "server": "vid-o", "service": o.service, "pid": "7"}
	name, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/api/v1/"), "/")
	lists := map[string]struct {
		one  string
		all  []map[string]any
		code int
	}{"streams": {"stream", o.streams, 2048}, "clients": {"client", o.clients, 2049}, "vhosts": {"vhost", o.vhosts, 2014}}
	switch l, isList := lists[name]; {
	case isList && id == "":
		start, count := page(r)
		out[name] = append([]map[string]any{}, cut(l.all, start, count)...)
	case isList:
		i := slices.IndexFunc(l.all, func(m map[string]any) bool { return m["id"] == id })
		switch {
		case i < 0:
			out = map[string]any{"code": l.code}
		case r.Method == http.MethodDelete:
			o.ended = append(o.ended, id)
			o.clients = slices.Delete(slices.Clone(o.clients), i, i+1)
		default:
			out[l.one] = l.all[i]
		}
	case name == "versions":
		out["data"] = map[string]any{"major": 7, "version": "7.0.18"}
	case name == "summaries":
		out["data"] = map[string]any{
			"ok": true, "now_ms": 1, "self": map[string]any{"pid": 7, "mem_kbyte": 100, "cpu_percent": 0.25, "version": "7.0.18"},
			"system": map[string]any{"cpus": 8, "load_1m": 1.5, "conn_srs": 3, "srs_recv_bytes": o.recv, "srs_send_bytes": 1, "srs_sample_time": 5},
		}
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (o *origin) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

// silence makes the origin take requests and not answer, as a stopped process does.
func (o *origin) silence() {
	o.set(func() { o.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } })
}

// cluster is a server over so many origins.
func cluster(t *testing.T, n int, tune func(*Config, *Deps)) (*env, []*origin) {
	t.Helper()
	var origins []*origin
	var addrs []string
	for i := range n {
		o := startOrigin(t, i)
		origins = append(origins, o)
		addrs = append(addrs, o.addr)
	}
	return start(t, tune, addrs...), origins
}

func ids(items []item) []string {
	var all []string
	for _, i := range items {
		all = append(all, i.ID)
	}
	return all
}

func lent(client string) func(netip.Addr) (netip.AddrPort, bool) {
	return func(ip netip.Addr) (netip.AddrPort, bool) {
		return netip.AddrPortFrom(netip.MustParseAddr(client), 1), ip == netip.MustParseAddr("127.64.0.9")
	}
}
