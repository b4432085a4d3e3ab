package register

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/balancer"
	"srs-proxy/proxy/health"
	"srs-proxy/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goodBody = `{"device_id":"origin2","ip":"10.78.122.184","server":"vid-46p14mm","service":"z2s3w865","pid":"42583",
	"rtmp":["19352"],"http":["8082"],"api":["19853"],"srt":["10082"],"rtc":["udp://0.0.0.0:8001"]}`

// env is the real server over the real monitor and balancer.
type env struct {
	t      *testing.T
	bal    *balancer.Memory
	server *Server
	log    testkit.Log
	ready  error
	client *http.Client
}

func newEnv(t *testing.T, cfg Config) *env {
	t.Helper()
	e := &env{t: t, bal: balancer.NewMemory(balancer.Config{})}
	log := slog.New(slog.NewTextHandler(&e.log, nil))
	monitor := health.New(health.Config{Most: 4}, e.bal, log)
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	cfg.PID = 53783
	e.server = New(cfg, Deps{
		Register: func(ctx context.Context, r Registration) error {
			err := monitor.Register(ctx, health.Origin{Name: r.Device, Server: r.Server, Service: r.Service, PID: r.PID, Endpoints: r.Endpoints})
			if err == health.ErrTooMany {
				return ErrTooMany
			}
			return err
		},
		Ready: func(context.Context) error { return e.ready },
		Log:   log,
	})
	if err := e.server.Listen(); err != nil {
		t.Fatal(err)
	}
	testkit.Serve(t, e.server.Run)
	e.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			a := e.server.Addr()
			return net.Dial(a.Network(), a.String())
		},
	}}
	return e
}

// table is the routing table.
func (e *env) table() string {
	e.t.Helper()
	all, err := e.bal.Origins(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	text, err := json.Marshal(all)
	if err != nil {
		e.t.Fatal(err)
	}
	return string(text)
}

type reply struct {
	status int
	header http.Header
	answer
}

// post sends a body and reads the one JSON answer that there must be.
func (e *env) do(method, path, body string, header map[string]string) reply {
	e.t.Helper()
	req, err := http.NewRequest(method, "http://system"+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	r := reply{status: resp.StatusCode, header: resp.Header}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r.answer); err != nil || dec.More() {
		e.t.Errorf("%s %s: the answer is not one JSON object: %q", method, path, text)
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
		e.t.Errorf("Content-Type %q", ct)
	}
	return r
}

// with is the good body with another member.
func with(member string, value any) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(goodBody), &m); err != nil {
		panic(err)
	}
	m[member] = value
	if value == nil {
		delete(m, member)
	}
	text, _ := json.Marshal(m)
	return string(text)
}

// Whatever is wrong, it is said in one answer, and the table stays as it is.
func TestRefused(t *testing.T) {
	const token = "kA9-open.sesame"
	tokens, err := ParseTokens(token + ",the-one-before")
	if err != nil {
		t.Fatal(err)
	}
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	elsewhere := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	bearer := func(v string) map[string]string { return map[string]string{"Authorization": v} }
	long := strings.Repeat("x", 65)

	type test struct {
		name   string
		rules  Rules
		method string // POST if empty
		path   string // registerPath if empty
		header map[string]string
		body   string
		status int
		says   string
	}
	withToken := Rules{Tokens: tokens}
	tests := []test{
		{name: "no token", rules: withToken, body: goodBody, status: 401, says: "a token is needed"},
		{name: "wrong token in the header", rules: withToken, header: bearer("Bearer nonsense"), body: goodBody, status: 401, says: "not right"},
		{name: "wrong token in the path", rules: withToken, path: registerPath + "/nonsense", body: goodBody, status: 401, says: "not right"},
		{name: "begin of a token", rules: withToken, path: registerPath + "/" + token[:5], body: goodBody, status: 401, says: "not right"},
		{name: "token and more", rules: withToken, path: registerPath + "/" + token + "x", body: goodBody, status: 401, says: "not right"},
		{name: "token in other letters", rules: withToken, header: bearer("Bearer " + strings.ToUpper(token)), body: goodBody, status: 401, says: "not right"},
		{name: "token and an element more", rules: withToken, path: registerPath + "/" + token + "/x", body: goodBody, status: 401, says: "not right"},
		{name: "two tokens at once", rules: withToken, path: registerPath + "/" + token + ",the-one-before", body: goodBody, status: 401, says: "not right"},
		{name: "empty bearer", rules: withToken, header: bearer("Bearer "), body: goodBody, status: 401, says: "token"},
		{name: "basic password", rules: withToken, header: bearer("Basic " + token), body: goodBody, status: 401, says: "Bearer"},
		{name: "token in the query", rules: withToken, path: registerPath + "?token=" + token, body: goodBody, status: 401, says: "a token is needed"},
		{name: "good token in the path and a wrong one in the header", rules: withToken, path: registerPath + "/" + token, header: bearer("Bearer x"), body: goodBody, status: 401, says: "not right"},
		{name: "not from this address", rules: Rules{Allow: elsewhere}, body: goodBody, status: 403, says: "address"},
		{name: "good token, but not from this address", rules: Rules{Tokens: tokens, Allow: elsewhere}, path: registerPath + "/" + token, body: goodBody, status: 403, says: "address"},
		{name: "an address that a header claims", rules: Rules{Allow: elsewhere}, header: map[string]string{"X-Forwarded-For": "10.0.0.1", "X-Real-IP": "10.0.0.1"}, body: goodBody, status: 403, says: "address"},
		{name: "a path where no token is wanted", rules: Rules{Allow: here}, path: registerPath + "/x", body: goodBody, status: 404, says: "nothing here"},
		{name: "a browser", header: map[string]string{"Origin": "http://example.com"}, body: goodBody, status: 403, says: "browsers"},
		{name: "a browser of the same site", header: map[string]string{"Sec-Fetch-Site": "same-origin"}, body: goodBody, status: 403, says: "browsers"},
		{name: "GET", method: "GET", status: 405, says: "POST"},
		{name: "PUT", method: "PUT", body: goodBody, status: 405, says: "POST"},
		{name: "OPTIONS", method: "OPTIONS", status: 405, says: "POST"},
		{name: "another path", path: "/api/v1/srs/registers", body: goodBody, status: 404, says: "nothing here"},
		{name: "a path that would be redirected", path: "/api/v1//srs/register", body: goodBody, status: 404, says: "nothing here"},
		{name: "a path with dots", path: "/api/v1/x/../srs/register", body: goodBody, status: 404, says: "nothing here"},

		{name: "no body", body: "", status: 400, says: "empty"},
		{name: "not JSON", body: "ip=10.0.0.1&server=x", status: 400, says: "not a JSON object"},
		{name: "half a body", body: goodBody[:len(goodBody)/2], status: 400, says: "not a JSON object"},
		{name: "two objects", body: goodBody + goodBody, status: 400, says: "not a JSON object"},
		{name: "a list", body: "[" + goodBody + "]", status: 400, says: "not a JSON object"},
		{name: "null", body: "null", status: 400, says: "server is missing"},
		{name: "nesting without end", body: strings.Repeat("[", 60000), status: 400, says: "not a JSON object"},
		{name: "too large", body: with("summaries", strings.Repeat("x", 70000)), status: 413, says: "too large"},
		{name: "no server", body: with("server", nil), status: 400, says: "server is missing"},
		{name: "empty server", body: with("server", ""), status: 400, says: "server is missing"},
		{name: "server with a space", body: with("server", "a b"), status: 400, says: `server is "a b"`},
		{name: "server with a line", body: with("server", "a\nlevel=ERROR"), status: 400, says: `"a\nlevel=ERROR"`},
		{name: "server that is a path", body: with("server", "../../etc"), status: 400, says: "server is"},
		{name: "server that is long", body: with("server", long), status: 400, says: "65 characters"},
		{name: "server that is a number", body: with("server", 7), status: 400, says: "server is a JSON number"},
		{name: "no service", body: with("service", nil), status: 400, says: "service is missing"},
		{name: "service in other letters", body: with("service", "ä"), status: 400, says: "service is"},
		{name: "no pid", body: with("pid", nil), status: 400, says: "pid"},
		{name: "pid that is a number", body: with("pid", 7), status: 400, says: "pid is a JSON number"},
		{name: "pid that is no number", body: with("pid", "x"), status: 400, says: "pid"},
		{name: "pid 0", body: with("pid", "0"), status: 400, says: "pid"},
		{name: "pid below 0", body: with("pid", "-1"), status: 400, says: "pid"},
		{name: "pid beyond all", body: with("pid", "99999999999"), status: 400, says: "pid"},
		{name: "device that cannot be printed", body: with("device_id", "\x1b[2J"), status: 400, says: "device_id"},
		{name: "device that is long", body: with("device_id", strings.Repeat("x", 129)), status: 400, says: "device_id"},
		{name: "no ip", body: with("ip", nil), status: 400, says: "ip is missing"},
		{name: "ip that is a name", body: with("ip", "example.com"), status: 400, says: "not an IP address"},
		{name: "ip with a port", body: with("ip", "10.0.0.1:80"), status: 400, says: "not an IP address"},
		{name: "ip of all", body: with("ip", "0.0.0.0"), status: 400, says: "connected to"},
		{name: "ip of many", body: with("ip", "224.0.0.1"), status: 400, says: "of many"},
		{name: "ip with a zone", body: with("ip", "fe80::1%eth0"), status: 400, says: "zone"},
		{name: "no rtmp", body: with("rtmp", nil), status: 400, says: "ports on"},
		{name: "empty rtmp", body: with("rtmp", []string{}), status: 400, says: "rtmp is missing"},
		{name: "rtmp that is a text", body: with("rtmp", "1935"), status: 400, says: "rtmp is a JSON string and should be a list"},
		{name: "rtmp of numbers", body: with("rtmp", []int{1935}), status: 400, says: "rtmp"},
		{name: "rtmp port 0", body: with("rtmp", []string{"0"}), status: 400, says: "port from 1 to 65535"},
		{name: "rtmp port beyond all", body: with("rtmp", []string{"65536"}), status: 400, says: "port from 1 to 65535"},
		{name: "rtmp with a name", body: with("rtmp", []string{"example.com:1935"}), status: 400, says: "no IP address"},
		{name: "rtmp over udp", body: with("rtmp", []string{"udp://10.0.0.1:1935"}), status: 400, says: "goes over tcp"},
		{name: "rtmp over nothing known", body: with("rtmp", []string{"http://10.0.0.1:1935"}), status: 400, says: "neither tcp nor udp"},
		{name: "srt over tcp", body: with("srt", []string{"tcp://:10080"}), status: 400, says: "srt has"},
		{name: "bare IPv6", body: with("http", []string{"::1:8080"}), status: 400, says: "without brackets"},
		{name: "half a bracket", body: with("http", []string{"[::1:8080"}), status: 400, says: "brackets"},
		{name: "one wrong of several", body: with("api", []string{"1985", "x"}), status: 400, says: "api has"},
		{name: "endless addresses", body: with("rtc", make([]string, 17)), status: 400, says: "17 addresses"},
		{name: "an address that is long", body: with("rtc", []string{strings.Repeat("1", 100)}), status: 400, says: "longer"},
	}
	if len(tests) < 40 {
		t.Fatalf("only %d cases", len(tests))
	}
	e := newEnv(t, Config{})
	if r := e.do("POST", registerPath, goodBody, nil); r.status != 200 || r.Code != 0 || r.PID != "53783" {
		t.Fatalf("the good body: %+v", r)
	}
	before := e.table()
	if !strings.Contains(before, `"rtmp":"10.78.122.184:19352"`) {
		t.Fatalf("the good body is not in the table: %s", before)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e.t = t
			e.server.SetRules(tt.rules)
			// What was refused would be another origin, or another process of this one.
			body := strings.ReplaceAll(tt.body, "z2s3w865", "another1")
			method, path := tt.method, tt.path
			if method == "" {
				method = "POST"
			}
			if path == "" {
				path = registerPath
			}
			r := e.do(method, path, body, tt.header)
			if r.status != tt.status || r.Code != tt.status || !strings.Contains(r.Error, tt.says) {
				t.Errorf("got %d %+v, want %d and %q", r.status, r.answer, tt.status, tt.says)
			}
			if r.PID != "" {
				t.Errorf("an answer of success: %+v", r.answer)
			}
			if after := e.table(); after != before {
				t.Errorf("the table changed:\n from %s\n   to %s", before, after)
			}
		})
	}
	e.t = t
}

// Tokens, right and wrong ones, are in no log and no answer.
func TestTokenIsNotLogged(t *testing.T) {
	tokens, err := ParseTokens("right-4711")
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		path   string
		header map[string]string
		body   string
	}{
		"wrong in the path":   {path: registerPath + "/wrong-4711", body: goodBody},
		"wrong in the header": {path: registerPath, header: map[string]string{"Authorization": "Bearer wrong-4711"}, body: goodBody},
		"right, bad body":     {path: registerPath + "/right-4711", body: "{}"},
		"right":               {path: registerPath + "/right-4711", body: goodBody},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, Config{Rules: Rules{Tokens: tokens}})
			r := e.do("POST", try.path, try.body, try.header)
			log := e.log.String()
			if strings.Contains(log+r.Error, "4711") {
				t.Errorf("%s\n%s", r.Error, log)
			}
			if r.status != 200 && !strings.Contains(log, "registration refused") {
				t.Errorf("nothing is logged: %s", log)
			}
		})
	}
}

// The proxy itself is no origin, whatever somebody says.
func TestOwnAddressIsRefused(t *testing.T) {
	e := newEnv(t, Config{Own: func(proto string, a netip.AddrPort) bool { return proto == "udp" && a.Port() == 8001 }})
	before := e.table()
	if r := e.do("POST", registerPath, goodBody, nil); r.status != 400 || !strings.Contains(r.Error, "rtc is an address of this proxy") {
		t.Errorf("%+v", r)
	}
	if e.table() != before {
		t.Error("the table changed")
	}
}

// There is room for so many, and who is in stays.
func TestTooManyOrigins(t *testing.T) {
	e := newEnv(t, Config{})
	for i := range 4 {
		if r := e.do("POST", registerPath, with("rtmp", []string{fmt.Sprint(1935 + i)}), nil); r.status != 200 {
			t.Fatalf("%+v", r)
		}
	}
	before := e.table()
	if r := e.do("POST", registerPath, with("rtmp", []string{"2000"}), nil); r.status != 503 || !strings.Contains(r.Error, "too many") {
		t.Errorf("%+v", r)
	}
	if r := e.do("POST", registerPath, with("rtmp", []string{"1935"}), nil); r.status != 200 {
		t.Errorf("a known one: %+v", r)
	}
	if e.table() != before {
		t.Error("the table changed")
	}
}

func TestRateLimit(t *testing.T) {
	e := newEnv(t, Config{Rate: 0.001, Burst: 3})
	for i := range 5 {
		want := 200
		if i >= 3 {
			want = 429
		}
		if r := e.do("POST", registerPath, goodBody, nil); r.status != want {
			t.Errorf("request %d: %+v", i, r)
		}
	}
	if r := e.do("GET", "/healthz", "", nil); r.status != 200 {
		t.Errorf("health: %+v", r)
	}
}

func TestAccepted(t *testing.T) {
	tokens, err := ParseTokens("first-token second_token")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path, auth, body string
		rules                  Rules
	}{
		{name: "from this machine", path: registerPath, body: goodBody},
		{name: "with a slash", path: registerPath + "/", body: goodBody},
		{name: "token in the path", path: registerPath + "/first-token", body: goodBody, rules: Rules{Tokens: tokens}},
		{name: "second token in the path, with a slash", path: registerPath + "/second_token/", body: goodBody, rules: Rules{Tokens: tokens}},
		{name: "token in the header", path: registerPath, auth: "Bearer second_token", body: goodBody, rules: Rules{Tokens: tokens}},
		{name: "scheme in small letters", path: registerPath, auth: "bearer first-token", body: goodBody, rules: Rules{Tokens: tokens}},
		{name: "allowed network", path: registerPath, body: goodBody, rules: Rules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}},
		{name: "what SRS says besides", path: registerPath, body: with("summaries", map[string]any{"ok": true})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEnv(t, Config{Rules: tt.rules})
			header := map[string]string{}
			if tt.auth != "" {
				header["Authorization"] = tt.auth
			}
			r := e.do("POST", tt.path, tt.body, header)
			if r.status != 200 || r.answer != (answer{PID: "53783"}) {
				t.Errorf("%+v", r)
			}
			if !strings.Contains(e.table(), "10.78.122.184:19352") {
				t.Errorf("not in the table: %s", e.table())
			}
		})
	}
}

// Whoever can open the socket is this machine, whatever networks may register.
func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	e := newEnv(t, Config{Listen: path, Rules: Rules{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}})
	if r := e.do("POST", registerPath, with("rtmp", []string{"127.0.0.1:1935"}), nil); r.status != 200 {
		t.Errorf("%+v", r)
	}
	if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second one: %v", err)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	e := newEnv(t, Config{})
	if r := e.do("GET", "/readyz", "", nil); r.status != 200 {
		t.Errorf("ready: %+v", r)
	}
	e.ready = fmt.Errorf("no origin is there")
	if r := e.do("GET", "/readyz", "", nil); r.status != 503 || r.Error != "no origin is there" {
		t.Errorf("not ready: %+v", r)
	}
	if r := e.do("GET", "/healthz", "", nil); r.status != 200 {
		t.Errorf("healthy: %+v", r)
	}
	if r := e.do("POST", "/readyz", "", nil); r.status != 405 {
		t.Errorf("POST: %+v", r)
	}
}
