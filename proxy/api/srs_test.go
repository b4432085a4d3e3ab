package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"srs-proxy/testkit"
)

// These tests run against SRS itself: SRS_BINARY names the executable.

const srsConf = `
listen RTMP;
max_connections 200;
http_api { enabled on; listen API; AUTH raw_api { enabled on; } }
http_server { enabled on; listen HTTP; dir DIR/html; }
vhost __defaultVhost__ { http_remux { enabled on; mount [vhost]/[app]/[stream].flv; } hls { enabled on; hls_path DIR/html; } }
vhost other.example { http_remux { enabled on; mount [vhost]/[app]/[stream].flv; } }
`

// srs is one SRS process.
type srs struct{ rtmp, http, api string }

func startSRS(t *testing.T, auth string) srs {
	t.Helper()
	testkit.NeedTools(t, "ffmpeg")
	o := srs{testkit.FreeAddr(t), testkit.FreeAddr(t), testkit.FreeAddr(t)}
	testkit.SRS(t, strings.NewReplacer("RTMP", o.rtmp, "HTTP", o.http, "API", o.api, "AUTH", auth).Replace(srsConf))
	eventually(t, "SRS listens", func() bool { return testkit.Listens(o.rtmp) && testkit.Listens(o.api) })
	return o
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	testkit.Within(t, 30*time.Second, what, is)
}

func publish(t *testing.T, o srs, name, query string) {
	t.Helper()
	testkit.Start(t, t.TempDir(), "ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=10", "-f", "lavfi", "-i", "sine=440:sample_rate=44100",
		"-c:v", "libx264", "-preset", "ultrafast", "-g", "10", "-c:a", "aac", "-f", "flv", fmt.Sprintf("rtmp://%s/live/%s%s", o.rtmp, name, query))
}

// fetch asks an API.
func fetch(t *testing.T, method, addr, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+addr+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(req *http.Request, _ []*http.Request) error {
			if strings.HasSuffix(req.URL.Path, "/errors") {
				return http.ErrUseLastResponse
			}
			return nil
		}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// shape lists the members of JSON with their kinds: an integer is not a number with a
// point, because a parser may want one or the other.
func shape(t *testing.T, text string) []string {
	t.Helper()
	text = strings.TrimSuffix(strings.TrimPrefix(text, "cb("), ")")
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	var out []string
	describe("", v, &out)
	slices.Sort(out)
	return slices.Compact(out)
}

func describe(path string, v any, out *[]string) {
	switch v := v.(type) {
	case map[string]any:
		*out = append(*out, path+" object")
		for name, value := range v {
			describe(path+"."+name, value, out)
		}
	case []any:
		*out = append(*out, path+" list")
		for _, item := range v {
			describe(path+"[]", item, out)
		}
	case json.Number:
		kind := " integer"
		if strings.Contains(v.String(), ".") {
			kind = " decimal"
		}
		*out = append(*out, path+kind)
	default:
		*out = append(*out, fmt.Sprintf("%s %T", path, v))
	}
}

// added are the members that are ours, on top of SRS's.
func added(line string) bool {
	switch line {
	case ".streams[].origin string", ".stream.origin string", ".clients[].origin string", ".client.origin string", ".urls.origins string", ".origin string":
		return true
	}
	return false
}

// The API of a cluster of one SRS is that SRS's: the same members of the same kinds,
// the same status and type, and in lists the same things in the same order.
func TestAnswersAreThoseOfSRS(t *testing.T) {
	o := startSRS(t, "")
	e := start(t, nil, o.api)
	publish(t, o, "a", "?token=secret")
	publish(t, o, "b", "?vhost=other.example")
	testkit.Start(t, t.TempDir(), "ffmpeg", "-v", "error", "-i", fmt.Sprintf("rtmp://%s/live/a", o.rtmp), "-c", "copy", "-f", "null", "-")
	eventually(t, "two streams with media and a player", func() bool {
		_, streams := fetch(t, http.MethodGet, o.api, "/api/v1/streams/")
		_, clients := fetch(t, http.MethodGet, o.api, "/api/v1/clients/")
		return strings.Count(streams, `"channel"`) == 2 && strings.Count(streams, `"width"`) == 2 && strings.Count(clients, `"kbps"`) == 3
	})
	var known reply
	_, text := fetch(t, http.MethodGet, o.api, "/api/v1/streams/")
	if err := json.Unmarshal([]byte(text), &known); err != nil {
		t.Fatal(err)
	}
	stream := known.Streams[0].ID
	client := e.get("/api/v1/clients/").Clients[0].ID
	theirs := known.Streams[0].Vhost
	ours := e.get("/api/v1/streams/" + stream).Stream.Vhost

	paths := []string{
		"/", "/nope", "/api", "/api/", "/api/v1", "/api/v1/", "/api/v1/nope", "/api/v1/versions", "/api/v1/summaries", "/api/v1/rusages", "/api/v1/self_proc_stats",
		"/api/v1/system_proc_stats", "/api/v1/meminfos", "/api/v1/authors", "/api/v1/features", "/api/v1/tests/requests?a=b", "/api/v1/tests/errors",
		"/api/v1/tests/redirects", "/api/v1/vhosts", "/api/v1/vhosts/", "/api/v1/vhosts/VHOST", "/api/v1/vhosts/nope", "/api/v1/streams", "/api/v1/streams/",
		"/api/v1/streams/?start=1&count=10", "/api/v1/streams/" + stream, "/api/v1/streams/nope", "/api/v1/clients", "/api/v1/clients/", "/api/v1/clients/?start=2",
		"/api/v1/clients/" + client, "/api/v1/clients/nope", "/api/v1/raw?rpc=raw", "/api/v1/raw?rpc=query&scope=global", "/api/v1/raw?rpc=reload-fetch",
		"/api/v1/clusters?vhost=__defaultVhost__&app=live&stream=a&ip=1.2.3.4", "/api/v1/clusters?app=live&stream=none", "/metrics",
	}
	for _, path := range paths {
		for _, jsonp := range []bool{false, true} {
			if jsonp {
				if strings.Contains(path, "?") || strings.HasSuffix(path, "redirects") {
					continue
				}
				path += "?callback=cb"
			}
			want, wantText := fetch(t, http.MethodGet, o.api, strings.Replace(path, "VHOST", theirs, 1))
			got, gotText := fetch(t, http.MethodGet, e.Addr().String(), strings.Replace(path, "VHOST", ours, 1))
			if got.StatusCode != want.StatusCode {
				t.Errorf("%s: status %d, SRS has %d: %s", path, got.StatusCode, want.StatusCode, gotText)
			}
			if want.StatusCode != http.StatusOK {
				continue
			}
			if g, w := got.Header.Get("Content-Type"), want.Header.Get("Content-Type"); g != w {
				t.Errorf("%s: type %s, SRS has %s", path, g, w)
			}
			if strings.HasPrefix(gotText, "cb(") != strings.HasPrefix(wantText, "cb(") {
				t.Errorf("%s: %s, SRS has %s", path, gotText, wantText)
			}
			g, w := slices.DeleteFunc(shape(t, gotText), added), shape(t, wantText)
			if !slices.Equal(g, w) {
				t.Errorf("%s: differs from SRS\n got %s\nwant %s", path, less(g, w), less(w, g))
			}
		}
	}
	// The same things in the same order.
	for _, path := range []string{"/api/v1/streams/", "/api/v1/clients/", "/api/v1/streams/?start=1"} {
		var g, w reply
		_, gotText := fetch(t, http.MethodGet, e.Addr().String(), path)
		_, wantText := fetch(t, http.MethodGet, o.api, path)
		if json.Unmarshal([]byte(gotText), &g) != nil || json.Unmarshal([]byte(wantText), &w) != nil {
			t.Fatalf("%s: %s, %s", path, gotText, wantText)
		}
		if !slices.Equal(ids(g.Streams), ids(w.Streams)) || !slices.Equal(ids(g.Clients), ids(w.Clients)) {
			t.Errorf("%s: %v %v, SRS has %v %v", path, ids(g.Streams), ids(g.Clients), ids(w.Streams), ids(w.Clients))
		}
	}

	// And a client that is ended is ended.
	_, text = fetch(t, http.MethodDelete, e.Addr().String(), "/api/v1/clients/"+client)
	_, want := fetch(t, http.MethodDelete, o.api, "/api/v1/clients/"+e.get("/api/v1/streams/").Streams[0].ID)
	if want != `{"code":2049}` || !strings.Contains(text, `{"code":0,"server":"vid-cluster","service":"abcdefgh","pid":"42"`) {
		t.Errorf("DELETE: %s (and of nobody: %s)", text, want)
	}
	eventually(t, "the client is gone", func() bool {
		_, text := fetch(t, http.MethodGet, o.api, "/api/v1/clients/"+client)
		return text == `{"code":2049}`
	})
}

// less is what a has and b has not.
func less(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// SRS's http_api.auth protects the whole.
func TestPasswordOfSRS(t *testing.T) {
	o := startSRS(t, "auth { enabled on; username admin; password secret; }")
	e := start(t, nil, o.api)
	for _, path := range []string{"/api/v1/versions", "/api/v1/streams/", "/api/v1/origins", "/api/v1/clients/x", "/api/"} {
		want, _ := fetch(t, http.MethodGet, o.api, strings.Replace(path, "origins", "vhosts/", 1))
		got, _ := fetch(t, http.MethodGet, e.Addr().String(), path)
		if got.StatusCode != http.StatusUnauthorized || got.Header.Get("WWW-Authenticate") != want.Header.Get("WWW-Authenticate") {
			t.Errorf("%s: status %d, %v; SRS has %d, %v", path, got.StatusCode, got.Header, want.StatusCode, want.Header)
		}
		if resp, text := e.exchange(http.MethodGet, path, "Authorization", "Basic YWRtaW46c2VjcmV0"); resp.StatusCode != http.StatusOK {
			t.Errorf("%s with the password: status %d, %s", path, resp.StatusCode, text)
		}
	}
	if got, _ := fetch(t, http.MethodGet, e.Addr().String(), "/"); got.StatusCode != http.StatusOK {
		t.Errorf("the root: status %d; SRS lets everybody see it", got.StatusCode)
	}
}
