package redisbalancer

import (
	"encoding/json"
	"errors"
	"net"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/testkit"
)

func TestEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"1935": "10.0.0.1:1935", "10.0.0.2:1935": "10.0.0.2:1935", "tcp://10.0.0.2:1935": "10.0.0.2:1935", "tcp://:1935": "10.0.0.1:1935",
		"0.0.0.0:1935": "10.0.0.1:1935", "udp://0.0.0.0:8000": "10.0.0.1:8000", "[::]:1935": "10.0.0.1:1935", "[2001:db8::1]:1935": "[2001:db8::1]:1935",
		"": "", "x": "", "0": "", "65536": "", "tcp://": "", "10.0.0.2:": "", "10.0.0.2": "",
	} {
		got, err := endpoint("10.0.0.1", text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	if got, err := endpoint("", "1935"); err == nil {
		t.Errorf("a port without an address is %q", got)
	}
}

// Whatever stands in Redis under the names of the existing proxy, what is taken from
// there has endpoints that can be dialed.
func FuzzServer(f *testing.F) {
	f.Add([]byte(`{"ip":"127.0.0.1","server_id":"a","service_id":"b","pid":"1","rtmp":["1935"],"http":["8080"],"api":["tcp://:1985"],"update_at":"2024-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"ip":"::1","rtmp":["tcp://[::]:1935"],"srt":[""]}`))
	f.Add([]byte(`{"rtmp":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s server
		if json.Unmarshal(text, &s) != nil {
			return
		}
		o, err := s.origin("id")
		if err != nil {
			return
		}
		for _, addr := range []string{o.Endpoints.RTMP, o.Endpoints.HTTP, o.Endpoints.API, o.Endpoints.SRT, o.Endpoints.RTC} {
			if host, port, err := net.SplitHostPort(addr); addr != "" && (err != nil || host == "" || port == "") {
				t.Errorf("endpoint %q", addr)
			}
		}
	})
}

// What the existing proxy has written, in its own words, is served; and it finds what it
// needs of what was written here.
func TestExistingProxysRecords(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client()
	defer c.Close()
	const key = "srs-proxy-server:vid-1-svc-1-42"
	for k, v := range map[string]string{
		"srs-proxy-all-servers": `["` + key + `","srs-proxy-server:gone"]`,
		key:                     `{"ip":"10.0.0.1","device_id":"d","server_id":"vid-1","service_id":"svc-1","pid":"42","rtmp":["1935"],"http":["8080"],"update_at":"2024-01-02T03:04:05.6+08:00"}`,
		"srs-proxy-url:__defaultVhost__/live/theirs": key,
		"srs-proxy-spbhid:their-id":                  `{"spbhid":"their-id","stream_url":"__defaultVhost__/live/theirs","full_url":"http://x/live/theirs.m3u8"}`,
	} {
		if err := c.Set(ctx, k, v, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, s, func(c *Config) { c.LeaseIdle = 200 * time.Millisecond })
	addOrigins(t, 3, r)
	lease := pick(t, r, "theirs", balancer.Play)
	if lease.Origin.Endpoints.RTMP != "10.0.0.1:1935" || lease.Origin.Endpoints.HTTP != "10.0.0.1:8080" {
		t.Fatalf("sent to %+v", lease.Origin)
	}
	if o, err := r.Lookup(ctx, stream("theirs")); err != nil || o.ID != lease.Origin.ID {
		t.Errorf("lookup: %s, %v", o.ID, err)
	}
	if route, err := r.LoadRoute(ctx, balancer.RouteHLS, "their-id"); err != nil || route.Stream != stream("theirs") || route.Origin != lease.Origin.ID {
		t.Errorf("route %+v, %v", route, err)
	}
	// Its publisher is there without a lease: nothing of ours takes the pick away.
	release(t, r, lease)
	testkit.Within(t, limit, "our own pin forgotten", func() bool { return !r.knowsStream("theirs") })
	if v, err := c.Get(ctx, "srs-proxy-url:__defaultVhost__/live/theirs").Result(); err != nil || v != key {
		t.Errorf("the existing proxy's pick is %q, %v", v, err)
	}
	if l := pick(t, r, "theirs", balancer.Publish); l.Origin.ID != lease.Origin.ID {
		t.Errorf("then it is sent to %s", l.Origin.ID)
	}

	ours := pick(t, r, "ours", balancer.Publish)
	server := c.Get(ctx, "srs-proxy-url:__defaultVhost__/live/ours").Val()
	var record struct {
		IP   string
		RTMP []string
	}
	if err := json.Unmarshal([]byte(c.Get(ctx, server).Val()), &record); err != nil || net.JoinHostPort(record.IP, record.RTMP[0]) != ours.Origin.Endpoints.RTMP {
		t.Errorf("the existing proxy reads %s as %+v, %v; it is on %+v", server, record, err, ours.Origin)
	}
	if err := r.Remove(ctx, ours.Origin.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Exists(ctx, server).Result(); err != nil || n != 0 {
		t.Errorf("the record of an origin that is gone is there, %v", err)
	}
	if _, err := r.LoadRoute(ctx, balancer.RouteWebRTC, "none"); !errors.Is(err, balancer.ErrNoRoute) {
		t.Error(err)
	}
}
