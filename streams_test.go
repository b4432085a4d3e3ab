package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/srsconf"
	"srs-proxy/supervisor"
)

func sampleStreams() []streamInfo {
	return []streamInfo{
		{Vhost: balancer.DefaultVhost, App: "live", Name: "a", Origin: "origin-10", Video: "H264", Audio: "AAC", Width: 1920, Height: 1080, Players: 12,
			Publisher: &publisherInfo{ID: "8q0a3n1v", Client: "192.0.2.1", Type: "fmle-publish", Up: 3725}, InBps: 2.5e6, OutBps: 30e6},
		{Vhost: balancer.DefaultVhost, App: "live", Name: "b\x1b[2J", Origin: "origin-2", Players: 3},
		{Vhost: "v.example.com", App: "live/sub", Name: "c", Origin: "origin-2.1", Video: "HEVC", Players: 40,
			Publisher: &publisherInfo{ID: "zzz", Client: "2001:db8::1"}, InBps: 8e6},
	}
}

func TestStreamTable(t *testing.T) {
	tests := []struct {
		name string
		wide bool
		want string
	}{
		{"table", false, `
STREAM                    ORIGIN      CODECS    PUBLISHER    PLAYERS    IN  OUT     UP
live/a                    origin-10   H264 AAC  192.0.2.1         12  2.5M  30M  1h02m
live/b?[2J                origin-2    -         -                  3     0    0      -
v.example.com/live/sub/c  origin-2.1  HEVC      2001:db8::1       40  8.0M    0      -
`},
		{"wide", true, `
STREAM                    ORIGIN      CODECS    PUBLISHER    PLAYERS    IN  OUT     UP  SIZE       TYPE          ID
live/a                    origin-10   H264 AAC  192.0.2.1         12  2.5M  30M  1h02m  1920x1080  fmle-publish  8q0a3n1v
live/b?[2J                origin-2    -         -                  3     0    0      -  -          -             -
v.example.com/live/sub/c  origin-2.1  HEVC      2001:db8::1       40  8.0M    0      -  -          -             zzz
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := writeTable(&out, streamColumns(tt.wide), streamRows(sampleStreams(), tt.wide), false); err != nil {
				t.Fatal(err)
			}
			if got := "\n" + out.String(); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestSortStreams(t *testing.T) {
	for order, want := range map[string]string{
		"name": "a b c", "origin": "b c a", "players": "c a b", "in": "c a b", "out": "a b c", "up": "a b c",
	} {
		all := sampleStreams()
		sortStreams(all, order)
		var names []string
		for _, s := range all {
			names = append(names, s.Name[:1])
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("by %s: %s, want %s", order, got, want)
		}
	}
}

func TestStreamTitle(t *testing.T) {
	for target, want := range map[string]string{
		"live/a": "live/a", "/live/a": "live/a", "live/a/": "live/a", "__defaultVhost__/live/a": "live/a",
		"v.example.com/live/a": "v.example.com/live/a", "rtmp://host:1935/live/a?token=x": "live/a", "http://host": "",
	} {
		if got := streamTitle(target); got != want {
			t.Errorf("%q is %q, want %q", target, got, want)
		}
	}
}

func TestSuggestStream(t *testing.T) {
	all := sampleStreams()
	for title, want := range map[string]string{
		"live/aa":                    "did you mean live/a?",
		"live/sub/c":                 "did you mean v.example.com/live/sub/c?",
		"something/else/and/so/long": "see srs-proxy streams",
	} {
		if got := suggestStream(title, all); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", title, got, want)
		}
	}
	if got := suggestStream("live/a", nil); !strings.Contains(got, "no other") {
		t.Errorf("without streams: %q", got)
	}
}

// A reply of SRS 7.0.18, with the fields that matter. The first client of c was a
// player of HTTP-FLV.
const srsStreams = `{"code":0,"server":"vid-1","service":"s","pid":"1","streams":[
{"id":"vid-a","name":"a","vhost":"vid-v","app":"live","tcUrl":"rtmp://h/live","url":"/live/a","live_ms":1,"clients":3,"frames":5,
 "send_bytes":4000,"recv_bytes":1000,"kbps":{"recv_30s":0,"send_30s":0},"publish":{"active":true,"cid":"pub"},
 "video":{"codec":"H264","profile":"High","level":"3.1","width":640,"height":360},"audio":{"codec":"AAC","sample_rate":44100,"channel":2,"profile":"LC"}},
{"id":"vid-b","name":"b","vhost":"vid-w","app":"live","url":"v.example.com/live/b","clients":2,"kbps":{"recv_30s":100,"send_30s":200},
 "publish":{"active":true,"cid":"gone"},"video":null,"audio":null},
{"id":"vid-c","name":"c.flv","vhost":"vid-v","app":"live","url":"/live/c","clients":1,"kbps":{"recv_30s":0,"send_30s":0},"publish":{"active":false,"cid":"old"},"video":null,"audio":null}]}`

// apiOf makes a fake API an origin.
func apiOf(t *testing.T, id string, h http.HandlerFunc) supervisor.OriginStatus {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	port := netip.MustParseAddrPort(srv.Listener.Addr().String()).Port()
	return supervisor.OriginStatus{ID: id, PID: 1, ServiceID: "s", Ports: srsconf.Ports{API: int(port)}}
}

func TestStreamsOfAnOrigin(t *testing.T) {
	var asked []string
	o := apiOf(t, "origin-3", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String())
		switch r.URL.Path {
		case "/api/v1/streams/":
			w.Write([]byte(srsStreams))
		case "/api/v1/clients/pub":
			w.Write([]byte(`{"code":0,"client":{"id":"pub","ip":"192.0.2.1","type":"fmle-publish","publish":true,"alive":2.0}}`))
		default:
			w.Write([]byte(`{"code":2049}`))
		}
	})
	api := newOriginAPI(apiTimeout, loopbackAPI)
	defer api.Close()
	got, err := streamsOf(t.Context(), api, o)
	if err != nil {
		t.Fatal(err)
	}
	want := `[` +
		`{"vhost":"__defaultVhost__","app":"live","name":"a","origin":"origin-3","video":"H264","audio":"AAC","width":640,"height":360,` +
		`"publisher":{"id":"pub","client":"192.0.2.1","type":"fmle-publish","up_seconds":2},"players":2,"in_bps":4000,"out_bps":16000},` +
		`{"vhost":"v.example.com","app":"live","name":"b","origin":"origin-3","publisher":{"id":"gone","client":"","up_seconds":0},"players":1,"in_bps":100000,"out_bps":200000},` +
		`{"vhost":"__defaultVhost__","app":"live","name":"c","origin":"origin-3","players":1,"in_bps":0,"out_bps":0}]`
	if text, _ := json.Marshal(got); string(text) != want {
		t.Errorf("streams\n%s\nwant\n%s", text, want)
	}
	// With a slash before the query, or SRS redirects.
	if asked[0] != "GET /api/v1/streams/?count=1000000" || len(asked) != 3 {
		t.Errorf("asked %q", asked)
	}
}

// An origin that does not answer costs a second, and only its own streams.
func TestAskAllIsPartial(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	silent := supervisor.OriginStatus{ID: "origin-0", PID: 1, ServiceID: "s", Ports: srsconf.Ports{API: hung.Addr().(*net.TCPAddr).Port}}
	good := apiOf(t, "origin-1", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/streams/" {
			w.Write([]byte(srsStreams))
		} else {
			w.Write([]byte(`{"code":2049}`))
		}
	})
	broken := apiOf(t, "origin-2", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("what?")) })
	starting := supervisor.OriginStatus{ID: "origin-3", PID: 1}
	var streams []streamInfo
	begun := time.Now()
	errs := askAll(t.Context(), apiTimeout, []supervisor.OriginStatus{silent, good, broken, starting}, loopbackAPI, func(ctx context.Context, api *originAPI, o supervisor.OriginStatus) (func(), error) {
		found, err := streamsOf(ctx, api, o)
		return func() { streams = append(streams, found...) }, err
	})
	if len(streams) != 3 || streams[0].Origin != "origin-1" {
		t.Errorf("streams %+v", streams)
	}
	text := ""
	for _, e := range errs {
		text += e.Error() + "\n"
	}
	if len(errs) != 2 || !strings.Contains(text, "origin-0 does not answer within 1s") || !strings.Contains(text, "origin-2: GET") {
		t.Errorf("errors %q", text)
	}
	if took := time.Since(begun); took > 10*apiTimeout {
		t.Errorf("it took %s", took)
	}
}

func TestKickLines(t *testing.T) {
	player := func(id, client string) kickedClient {
		return kickedClient{ID: id, Origin: "origin-3", Stream: "live/a", Client: client, Type: "flv-play"}
	}
	tests := []struct {
		name   string
		kicked []kickedClient
		want   string
	}{
		{"a publisher", []kickedClient{{ID: "x", Origin: "origin-3", Stream: "live/a", Client: "192.0.2.1", Publish: true}},
			"ended the publisher of live/a at origin-3: client x from 192.0.2.1"},
		{"a player, whose address the proxy's hides", []kickedClient{player("y", "127.0.0.1")}, "ended a player of live/a at origin-3: client y"},
		{"all", []kickedClient{{ID: "x", Origin: "origin-3", Stream: "live/a", Client: "::1", Publish: true}, player("y", ""), player("z", "")},
			"ended the publisher of live/a at origin-3: client x|ended 2 players of live/a at origin-3"},
	}
	for _, tt := range tests {
		if got := strings.Join(kickReport{Kicked: tt.kicked}.lines(), "|"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
