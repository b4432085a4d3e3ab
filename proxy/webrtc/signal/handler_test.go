package signal

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestMethods(t *testing.T) {
	e := newEnv(t, options{})
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{http.MethodGet, "/rtc/v1/whip/?stream=a", 405, "POST, PATCH, DELETE, OPTIONS"},
		{http.MethodPut, "/rtc/v1/whep/", 405, "POST, PATCH, DELETE, OPTIONS"},
		{http.MethodDelete, "/rtc/v1/play/", 405, "POST, OPTIONS"},
		{http.MethodPost, "/rtc/v1/", 404, ""},
		{http.MethodPost, "/rtc/v1/whip/x", 404, ""},
		{http.MethodPost, "/rtc/v1/whip/", 400, ""}, // no SDP
		{http.MethodPost, "/rtc/v1/play/", 400, ""}, // no JSON
	} {
		r := e.do(tt.method, tt.path, "")
		if r.StatusCode != tt.status || r.Header.Get("Allow") != tt.allow || r.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s %s: %s, %v", tt.method, tt.path, r.Status, r.Header)
		}
	}
	r := e.do(http.MethodPost, "/rtc/v1/whip/", offerSDP)
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || !strings.Contains(r.text, "no origin is available") {
		t.Errorf("without origins: %s %q", r.Status, r.text)
	}
}

// The preflight of a page of another site is answered, for what WHIP clients send.
func TestPreflight(t *testing.T) {
	e := newEnv(t, options{})
	r := e.do(http.MethodOptions, "/rtc/v1/whip/?stream=a", "", "Origin", "https://page.example", "Access-Control-Request-Method", "DELETE",
		"Access-Control-Request-Headers", "authorization,content-type")
	h := r.Header
	if r.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Headers") != "authorization,content-type" ||
		!strings.Contains(h.Get("Access-Control-Allow-Methods"), "DELETE") || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PATCH") {
		t.Errorf("%s %v", r.Status, h)
	}
}

func TestBodyLimits(t *testing.T) {
	e := newEnv(t, options{})
	o := e.origin("o0")
	pad := func(n int) string { return offerSDP + strings.Repeat("a=x\r\n", (n-len(offerSDP))/5) }
	if r := e.do(http.MethodPost, "/rtc/v1/whip/", pad(maxSDP)); r.StatusCode != http.StatusCreated {
		t.Errorf("256 KiB: %s %s", r.Status, r.text)
	}
	if r := e.do(http.MethodPost, "/rtc/v1/whip/", pad(maxSDP+10)); r.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(r.text, "256 KiB") {
		t.Errorf("more than 256 KiB: %s %s", r.Status, r.text)
	}
	if r := e.do(http.MethodPost, "/rtc/v1/play/", `{"x":"`+strings.Repeat("x", maxJSON)+`"}`); r.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(r.text, "64 KiB") {
		t.Errorf("more than 64 KiB of JSON: %s %s", r.Status, r.text)
	}
	if n := o.count(); n != 1 {
		t.Errorf("the origin got %d requests", n)
	}
}

// A client that sends its offer a byte a minute holds nothing for long.
func TestSlowBody(t *testing.T) {
	e := newEnv(t, options{signal: Config{BodyTimeout: 50 * time.Millisecond}})
	c, err := net.Dial("tcp", strings.TrimPrefix(e.proxy.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST /rtc/v1/whip/ HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nv=0")
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("%s", resp.Status)
	}
}

// An origin that does not answer ends neither well nor never.
func TestNoAnswer(t *testing.T) {
	e := newEnv(t, options{signal: Config{AnswerTimeout: 50 * time.Millisecond}})
	o := e.origin("o0")
	release := make(chan struct{})
	o.reply = func(http.ResponseWriter, *http.Request) { <-release }
	if r := e.do(http.MethodPost, "/rtc/v1/whip/", offerSDP); r.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("%s", r.Status)
	}
	close(release)
	e.wantHeld(0, 0)
}

func TestJSON(t *testing.T) {
	e := newEnv(t, options{})
	o := e.origin("o0")
	sdp, _ := json.Marshal(offerSDP)
	r := e.do(http.MethodPost, "/rtc/v1/publish/?eip=198.51.100.9", fmt.Sprintf(`{"api":"http://h/x?a=1&b=<2>","tid":"t","clientip":"198.51.100.1","streamurl":"webrtc://h/live/a?token=t","sdp":%s}`, sdp))
	var got struct {
		Code                             int
		Server, Service, PID, SDP, Extra string
		SessionID                        string
	}
	if err := json.Unmarshal([]byte(r.text), &got); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s %q: %v", r.Status, r.text, err)
	}
	if got.Code != 0 || got.Server != "vid-1" || got.Service != "<s>" || got.PID != "7" || got.SessionID != "o00001:clnt" {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(got.SDP, "127.0.0.1") || strings.Count(got.SDP, "a=candidate:") != 2 || !strings.Contains(got.SDP, " 198.51.100.9 ") {
		t.Errorf("answer\n%s", got.SDP)
	}
	_, body := o.asked(t, 0)
	var asked map[string]string
	if err := json.Unmarshal([]byte(body), &asked); err != nil {
		t.Fatal(err)
	}
	if _, has := asked["clientip"]; has || asked["sdp"] != offerSDP || asked["api"] != "http://h/x?a=1&b=<2>" || asked["streamurl"] != "webrtc://h/live/a?token=t" || asked["tid"] != "t" {
		t.Errorf("the origin got %s", body)
	}
	if strings.Contains(body, `\u003c`) {
		t.Errorf("the origin got HTML's escapes: %s", body)
	}
	e.wantHeld(1, 0)

	// A code is a refusal, as it is.
	o.mu.Lock()
	o.reply = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"code":400,"server":"vid-1"}`) }
	o.mu.Unlock()
	if r := e.do(http.MethodPost, "/rtc/v1/play/", fmt.Sprintf(`{"streamurl":"webrtc://h/live/a","sdp":%s}`, sdp)); r.StatusCode != http.StatusOK || r.text != `{"code":400,"server":"vid-1"}` {
		t.Errorf("a refusal: %s %q", r.Status, r.text)
	}
	e.wantHeld(1, 0)
	for _, body := range []string{`null`, `[]`, `{}`, `{"sdp":"v=0"}`, `{"sdp":1,"streamurl":"webrtc://h/live/a"}`, fmt.Sprintf(`{"streamurl":"live","sdp":%s}`, sdp)} {
		if r := e.do(http.MethodPost, "/rtc/v1/play/", body); r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", body, r.Status)
		}
	}
}

// NACK's simulation reaches the origin that has the session.
func TestNACK(t *testing.T) {
	e := newEnv(t, options{})
	origins := map[string]*origin{"o0": e.origin("o0"), "o1": e.origin("o1")}
	for i := range 4 {
		name := username(e.whip(fmt.Sprintf("/rtc/v1/whip/?stream=s%d", i)))
		o := origins[name[:2]]
		before := o.count()
		path := "/rtc/v1/nack/?username=" + name + "&drop=3"
		if r := e.do(http.MethodGet, path, ""); r.StatusCode != http.StatusOK {
			t.Errorf("%s", r.Status)
		}
		if got, _ := o.asked(t, before); got.RequestURI != path {
			t.Errorf("origin %s got %s", o.id, got.RequestURI)
		}
	}
}
