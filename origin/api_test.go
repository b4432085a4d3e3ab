package origin

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"srs-proxy/testkit"
)

// shape writes the paths and types of a JSON document, a line each, sorted.
func shape(t *testing.T, doc string) []string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatalf("%v: %s", err, doc)
	}
	var lines []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(path+"."+k, e)
			}
		case []any:
			for _, e := range v {
				walk(path+"[]", e)
			}
		default:
			lines = append(lines, fmt.Sprintf("%s %T", path, v))
		}
	}
	walk("", v)
	slices.Sort(lines)
	return slices.Compact(lines)
}

// apiPaths are compared with SRS's replies while one stream is published and
// played over HTTP-FLV.
func apiPaths() []string {
	return []string{
		"versions", "summaries", "vhosts/", "streams/", "clients/", "rusages", "self_proc_stats", "system_proc_stats", "meminfos", "authors", "features",
		"raw?rpc=raw", "clusters?app=live&stream=nope",
	}
}

// TestAPIHasTheShapeOfSRS compares with what SRS 7 answered (testdata/api.txt). With
// SRS_BINARY set, that file is compared with the SRS that is installed, too.
func TestAPIHasTheShapeOfSRS(t *testing.T) {
	t.Parallel()
	file := clip(t)
	want := map[string][]string{}
	golden, err := os.ReadFile(filepath.Join("testdata", "api.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(golden)) {
		path, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		want[path] = append(want[path], rest)
	}

	check := func(t *testing.T, o *testOrigin, rtmp, httpURL, api string, exact bool) {
		startFFmpeg(t, "-re", "-stream_loop", "-1", "-i", file, "-c", "copy", "-f", "flv", rtmp+"/live/a")
		await(t, "stream with codecs", func() bool {
			resp, err := http.Get(api + "/api/v1/streams/")
			if err != nil {
				return false
			}
			defer func() { _ = resp.Body.Close() }()
			var r streamsReply
			err = json.NewDecoder(resp.Body).Decode(&r)
			return err == nil && len(r.Streams) == 1 && r.Streams[0].Video != nil && r.Streams[0].Audio != nil
		})
		resp, err := http.Get(httpURL + "/live/a.flv")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		for _, p := range apiPaths() {
			got := shape(t, o.get(api+"/api/v1/"+p, http.StatusOK))
			for _, line := range want[p] {
				if !slices.Contains(got, line) {
					t.Errorf("%s has no %s", p, line)
				}
			}
			if exact && len(got) != len(want[p]) {
				t.Errorf("%s: %d fields, the file has %d:\n%s", p, len(got), len(want[p]), strings.Join(got, "\n"))
			}
		}
	}
	t.Run("built-in", func(t *testing.T) {
		o := start(t, testConfig())
		check(t, o, "rtmp://"+o.RTMPAddrs()[0].String(), o.httpURL(""), o.apiURL(""), false)
	})
	t.Run("SRS", func(t *testing.T) {
		rtmp, web, api := testkit.FreePort(t), testkit.FreePort(t), testkit.FreePort(t)
		testkit.SRS(t, fmt.Sprintf(`listen 127.0.0.1:%d; max_connections 100;
http_server { enabled on; listen 127.0.0.1:%d; dir DIR; }
http_api { enabled on; listen 127.0.0.1:%d; }
vhost __defaultVhost__ { http_remux { enabled on; mount [vhost]/[app]/[stream].flv; } hls { enabled on; hls_path DIR; } }
`, rtmp, web, api))
		await(t, "SRS's API", func() bool { return testkit.Listens(fmt.Sprintf("127.0.0.1:%d", api)) })
		host := func(scheme string, port int) string { return fmt.Sprintf("%s://127.0.0.1:%d", scheme, port) }
		check(t, &testOrigin{t: t}, host("rtmp", rtmp), host("http", web), host("http", api), true)
	})
}

func TestAPI(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	var pubs []*rtmpClient
	for i := range 12 {
		pubs = append(pubs, o.publisher(fmt.Sprintf("s%02d", i)))
	}
	player := o.player("s00")

	var head apiHead
	o.api("/api/v1/versions", &head)
	if head.Code != 0 || head.PID != fmt.Sprint(os.Getpid()) || head.Service == "" || head.Server == "" {
		t.Errorf("head %+v", head)
	}
	if v := o.get(o.apiURL("/api/v1/versions"), 200); !strings.Contains(v, `"software":"srs-proxy built-in origin"`) || !strings.Contains(v, `"software_version":"1.2.3"`) {
		t.Errorf("versions does not say who this is: %s", v)
	}

	// Paging, as SRS does it: at least 10.
	for _, tt := range []struct {
		query string
		want  int
	}{{"", 10}, {"?count=3", 10}, {"?count=100", 12}, {"?start=10", 2}, {"?start=100", 0}, {"?start=-1&count=x", 10}} {
		var r streamsReply
		o.api("/api/v1/streams"+tt.query, &r)
		if len(r.Streams) != tt.want {
			t.Errorf("streams%s: %d, want %d", tt.query, len(r.Streams), tt.want)
		}
	}
	var all streamsReply
	o.api("/api/v1/streams/?count=100", &all)
	var one struct {
		apiHead
		Stream apiStream
	}
	o.api("/api/v1/streams/"+all.Streams[3].ID, &one)
	if one.Stream.Name != all.Streams[3].Name {
		t.Errorf("stream by id: %+v", one)
	}
	for path, code := range map[string]int{
		"/api/v1/streams/vid-none": codeStreamNotFound,
		"/api/v1/clients/none":     codeClientNotFound,
		"/api/v1/vhosts/none":      codeVhostNotFound,
	} {
		var h apiHead
		o.api(path, &h)
		if h.Code != code {
			t.Errorf("%s: code %d, want %d", path, h.Code, code)
		}
	}
	var vhosts struct{ Vhosts []apiVhost }
	o.api("/api/v1/vhosts", &vhosts)
	if len(vhosts.Vhosts) != 1 || vhosts.Vhosts[0].Streams != 12 || vhosts.Vhosts[0].Clients != 13 {
		t.Errorf("vhosts %+v", vhosts)
	}

	// Keep-alive: two requests on one connection.
	c, err := net.Dial("tcp", o.APIAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	transport := &http.Transport{Dial: func(string, string) (net.Conn, error) { return c, nil }, MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	do := func(method, path string) apiHead {
		req, err := http.NewRequest(method, o.apiURL(path), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var h apiHead
		if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	if h := do(http.MethodDelete, "/api/v1/clients/none"); h.Code != codeClientNotFound {
		t.Errorf("deleting nobody: %+v", h)
	}
	var clients clientsReply
	o.api("/api/v1/clients/?count=100", &clients)
	for _, cl := range clients.Clients {
		if cl.Type == typePlay || cl.Name == "s05" {
			if h := do(http.MethodDelete, "/api/v1/clients/"+cl.ID); h.Code != 0 {
				t.Errorf("DELETE: %+v", h)
			}
		}
	}
	player.closed()
	pubs[5].closed()
	o.await("both are gone", func() bool {
		o.api("/api/v1/clients/?count=100", &clients)
		return len(clients.Clients) == 11
	})
}

func TestAPIOnTheHTTPPort(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	addr := testkit.FreeAddr(t)
	cfg.HTTPListen, cfg.APIListen = []string{addr}, []string{addr}
	o := start(t, cfg)
	if len(o.APIAddrs()) != 0 {
		t.Errorf("the API has its own listeners %v", o.APIAddrs())
	}
	o.get(o.httpURL("/api/v1/versions"), 200)
	o.get(o.httpURL("/live/a.flv"), 404)
}

func TestVhosts(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Vhosts = []string{"known.example"}
	o := start(t, cfg)
	publish := func(tcURL string) {
		c, _ := o.dial(tcURL)
		c.createStream()
		c.call("publish", nil, "a", "live")
		c.expectStatus("NetStream.Publish.Start")
		c.video(0, avcConfig())
		c.video(0, avcFrame(true, 10))
	}
	publish("rtmp://known.example:1935/live")
	publish("rtmp://unknown.example/live?token=secret")
	o.awaitStream("known.example/live/a", false, true)
	s := o.awaitStream("/live/a", false, true)
	if strings.Contains(s.TcURL, "secret") {
		t.Errorf("tcUrl %s tells a token", s.TcURL)
	}
	for _, tt := range []struct{ host, path, vhost string }{
		{"known.example", "/live/a.flv", "known.example"},
		{"known.example:8080", "/live/a.flv", "known.example"},
		{"x", "/live/a.flv?vhost=known.example", "known.example"},
		{"x", "/live/a.flv", "/live"},
	} {
		_, _, resp := o.raw("GET " + tt.path + " HTTP/1.1\r\nHost: " + tt.host + "\r\n\r\n")
		if resp.StatusCode != 200 {
			t.Errorf("%+v: %s", tt, resp.Status)
		}
		var r clientsReply
		o.api("/api/v1/clients/?count=100", &r)
		newest := slices.MinFunc(r.Clients, func(a, b apiClient) int { return int((a.Alive - b.Alive) * 1e9) })
		if !strings.HasPrefix(newest.URL, tt.vhost) {
			t.Errorf("%+v plays %s", tt, newest.URL)
		}
	}
}
