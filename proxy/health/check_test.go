package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/balancer"
	"srs-proxy/protocol/rtmp"
	"srs-proxy/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rtmpServer answers handshakes until the test ends; a deaf one accepts and says nothing,
// as a stopped process does.
func rtmpServer(t *testing.T, deaf bool) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			if !deaf {
				conns.Go(func() { _, _ = rtmp.AcceptHandshake(c) })
			}
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		conns.Wait()
	})
	return ln.Addr().String()
}

const summaries = `{"code":0,"server":"vid-1","service":"s1","pid":"42","data":{"ok":true,"now_ms":1,
	"self":{"version":"7.0.18","pid":42,"mem_kbyte":2048,"cpu_percent":0.25},
	"system":{"srs_sample_time":5000,"srs_recv_bytes":1000,"srs_send_bytes":2000}}}`

// apiServer answers as SRS's API does, or otherwise.
func apiServer(t *testing.T, status int, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status == 0 { // hangs
			<-r.Context().Done()
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// What an origin answers, and what not, says whether it serves.
func TestCheck(t *testing.T) {
	nobody := testkit.FreeAddr(t)
	well, deaf := rtmpServer(t, false), rtmpServer(t, true)
	api, apiDeaf := apiServer(t, 200, summaries), apiServer(t, 0, "")
	for _, tt := range []struct {
		name      string
		rtmp, api string
		withRTMP  bool
		ok, gone  bool
		service   string
		says      []string
	}{
		{name: "RTMP alone", rtmp: well, ok: true},
		{name: "all is well", rtmp: well, api: api, withRTMP: true, ok: true, service: "s1"},
		{name: "the API's word is enough for now", rtmp: nobody, api: api, ok: true, service: "s1"},
		{name: "the API is well and RTMP is not there", rtmp: nobody, api: api, withRTMP: true, gone: true, service: "s1", says: []string{"RTMP: connect"}},
		{name: "a password for the API", rtmp: nobody, api: apiServer(t, 401, `no`), ok: true},
		{name: "another server's API", rtmp: nobody, api: apiServer(t, 200, `<html>`), ok: true},
		{name: "an API without figures", rtmp: nobody, api: apiServer(t, 200, `{"code":0,"data":7}`), ok: true},
		{name: "a deaf API, and media is well", rtmp: well, api: apiDeaf, ok: true},
		{name: "no API, and media is well", rtmp: well, api: nobody, ok: true},
		{name: "stopped", rtmp: deaf, api: apiDeaf, says: []string{"no answer in time", "RTMP handshake", "API"}},
		{name: "stopped, without API", rtmp: deaf, says: []string{"no answer in time"}},
		{name: "killed", rtmp: nobody, api: nobody, gone: true, says: []string{"refused"}},
		{name: "killed, without API", rtmp: nobody, gone: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			timeout := 30 * time.Second // far above what an answer takes here
			if tt.rtmp == deaf || tt.api == apiDeaf {
				timeout = time.Second
			}
			c := newChecker(timeout)
			defer c.Close()
			f := c.check(t.Context(), balancer.Endpoints{RTMP: tt.rtmp, API: tt.api}, tt.withRTMP)
			if (f.err == nil) != tt.ok || f.gone != tt.gone {
				t.Errorf("%+v", f)
			}
			service := ""
			if f.summary != nil {
				service = f.summary.Service
			}
			if service != tt.service {
				t.Errorf("service %q, want %q", service, tt.service)
			}
			for _, s := range tt.says {
				if !strings.Contains(fmt.Sprint(f.err), s) {
					t.Errorf("%v does not say %q", f.err, s)
				}
			}
		})
	}
}

func TestReadSummary(t *testing.T) {
	c := newChecker(time.Second)
	defer c.Close()
	f := c.check(t.Context(), balancer.Endpoints{RTMP: "127.0.0.1:1", API: apiServer(t, 200, summaries)}, false)
	want := summary{Service: "s1", PID: 42, Version: "7.0.18", RSS: 2 << 20, CPU: 0.25, Recv: 1000, Send: 2000, Sampled: 5000}
	if f.summary == nil || *f.summary != want {
		t.Errorf("%+v, want %+v", f.summary, want)
	}
}

// A listener that is opened anew refuses for a moment; that is no death.
func TestRefusedForAMoment(t *testing.T) {
	for {
		addr := testkit.FreeAddr(t)
		c := newChecker(time.Second)
		defer c.Close()
		opened := make(chan net.Listener, 1)
		began := time.Now()
		var after time.Duration
		time.AfterFunc(again/2, func() {
			ln, err := net.Listen("tcp", addr)
			if err != nil {
				t.Error(err)
			}
			after = time.Since(began)
			opened <- ln
		})
		f := c.check(t.Context(), balancer.Endpoints{RTMP: addr}, false)
		if ln := <-opened; ln != nil {
			ln.Close()
		}
		switch {
		case !f.gone:
			return
		case after < again: // before the second try
			t.Fatalf("gone: %v", f.err)
		}
		t.Logf("this machine opened the listener only after %s", after)
	}
}

// A check ends with its context.
func TestCheckIsCancelled(t *testing.T) {
	c := newChecker(time.Minute)
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	began := time.Now()
	f := c.check(ctx, balancer.Endpoints{RTMP: rtmpServer(t, true), API: apiServer(t, 0, "")}, true)
	if f.err == nil || errors.Is(f.err, context.Canceled) && time.Since(began) > 10*time.Second {
		t.Errorf("%v after %s", f.err, time.Since(began))
	}
}
