package signal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/testkit"
)

// An exchange as OBS and GStreamer make it: 201, Location and application/sdp, which
// come before the body and unchanged.
func TestWHIP(t *testing.T) {
	e := newEnv(t, options{candidates: "192.0.2.1,[2001:db8::1]:9000"})
	o := e.origin("o0")
	r := e.do(http.MethodPost, "/rtc/v1/whip/?app=live&stream=a&secret=s3", offerSDP,
		"Content-Type", "application/sdp", "Authorization", "Bearer b", "X-Forwarded-For", "198.51.100.1", "X-Real-IP", "198.51.100.1", "Forwarded", "for=198.51.100.1",
		"Host", "live.example.com:1985")
	if r.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", r.Status, r.text)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/sdp",
		"Location":     "/rtc/v1/whip/?action=delete&token=tkn&app=live&stream=a&session=o00001:clnt",
		"Link":         `<stun:stun.example.com>; rel="ice-server"`,
		"Etag":         `"x"`,

		"Access-Control-Allow-Origin": "*",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if exposed := r.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "Location") || !strings.Contains(exposed, "Link") {
		t.Errorf("exposed are %q", exposed)
	}
	port := e.proxy.media.Addr().(*net.UDPAddr).Port
	want := strings.Replace(answerSDP("o00001"), "a=candidate:0 1 udp 2130706431 127.0.0.1 20003 typ host generation 0\r\n",
		fmt.Sprintf("a=candidate:0 1 udp 2130706431 192.0.2.1 %d typ host generation 0\r\na=candidate:1 1 udp 2130706175 2001:db8::1 9000 typ host generation 0\r\n", port), 1)
	if r.text != want {
		t.Errorf("answer\n%s\nwant\n%s", r.text, want)
	}

	got, body := o.asked(t, 0)
	if got.RequestURI != "/rtc/v1/whip/?app=live&stream=a&secret=s3" || got.Host != "live.example.com:1985" || body != offerSDP {
		t.Errorf("the origin got %s %s and\n%s", got.Host, got.RequestURI, body)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "Forwarded": "", "Authorization": "Bearer b", "Content-Type": "application/sdp",
	} {
		if got := got.Header.Get(name); got != want {
			t.Errorf("the origin got %s: %q, want %q", name, got, want)
		}
	}

	e.wantHeld(1, 0)
	in, ok := e.proxy.media.Lookup("o00001:clnt")
	if !ok || in.OriginID != "o0" || in.Role != balancer.Publish || in.Stream.String() != "__defaultVhost__/live/a" {
		t.Errorf("media: %v, %+v", ok, in)
	}
	if client, id, ok := e.proxy.router.Publisher(in.Stream); !ok || id != "o0" || client != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("published by %s at %q", client, id)
	}
}

// A stream's sessions are on one origin, whatever names it.
func TestOneOriginForAStream(t *testing.T) {
	e := newEnv(t, options{vhosts: []string{"v.example.com"}})
	for i := range 4 {
		e.origin(fmt.Sprintf("o%d", i))
	}
	for _, key := range []string{"live/a", "live/b", "v/a"} {
		app, name, _ := strings.Cut(key, "/")
		vhost := ""
		if app == "v" {
			app, vhost = "live", "&vhost=v.example.com"
		}
		q := fmt.Sprintf("?app=%s&stream=%s%s", app, name, vhost)
		owner := username(e.whip("/rtc/v1/whip/" + q))[:2]
		for _, path := range []string{"/rtc/v1/whep/", "/rtc/v1/whip-play/", "/rtc/v1/whep"} {
			if got := username(e.whip(path + q))[:2]; got != owner {
				t.Errorf("%s of %s is on %s, its publisher on %s", path, key, got, owner)
			}
		}
		if got := username(e.whip("/rtc/v1/whip/" + q + "&action=play"))[:2]; got != owner {
			t.Errorf("action=play of %s is on %s, its publisher on %s", key, got, owner)
		}
		body := fmt.Sprintf(`{"streamurl":"webrtc://other.example.com/%s/%s?x=1%s","sdp":%q}`, app, name, vhost, offerSDP)
		if r := e.do(http.MethodPost, "/rtc/v1/play/", body); !strings.Contains(r.text, `"sessionid":"`+owner) {
			t.Errorf("JSON of %s: %s", key, r.text)
		}
	}
	e.wantHeld(3, 15)
}

func TestDelete(t *testing.T) {
	e := newEnv(t, options{})
	o := e.origin("o0")
	e.origin("o1")
	r := e.whip("/rtc/v1/whip/?app=live&stream=a")
	first := username(r)
	location := r.Header.Get("Location")
	if !strings.HasPrefix(first, "o0") {
		o = nil
	}
	// Without the token the origin hangs up, and the session lives.
	if r := e.do(http.MethodDelete, strings.Replace(location, "tkn", "bad", 1), ""); r.StatusCode != http.StatusForbidden {
		t.Errorf("a bad token: %s", r.Status)
	}
	if r := e.do(http.MethodPatch, location, "a=candidate:x"); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "" {
		t.Errorf("PATCH: %s", r.Status)
	}
	e.wantHeld(1, 0)
	if r := e.do(http.MethodDelete, location, ""); r.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %s: %s", r.Status, r.text)
	}
	if o != nil {
		if got, _ := o.asked(t, 3); got.Method != http.MethodDelete || got.RequestURI != location {
			t.Errorf("the origin got %s %s", got.Method, got.RequestURI)
		}
	}
	e.wantHeld(0, 0)
	if _, ok := e.proxy.media.Lookup(first); ok {
		t.Error("the media session lives")
	}
}

// inCommon is a balancer that several proxies have.
type inCommon struct{ *balancer.Memory }

func (inCommon) DropRoute(context.Context, balancer.RouteKind, string) error { return nil }

func (inCommon) OnRouteDropped(func(balancer.RouteKind, string)) {}

// What no other proxy can ask for is not stored.
func TestRouteOfTheOnlyProxy(t *testing.T) {
	e := newEnv(t, options{})
	e.origin("o0")
	location := e.whip("/rtc/v1/whip/?app=live&stream=a").Header.Get("Location")
	u, err := url.Parse(location)
	if err != nil || u.Query().Get("session") == "" {
		t.Fatalf("location %q: %v", location, err)
	}
	if r, err := e.bal.LoadRoute(t.Context(), balancer.RouteWebRTC, u.Query().Get("session")); !errors.Is(err, balancer.ErrNoRoute) {
		t.Errorf("route %+v, %v", r, err)
	}
}

// A session's requests reach its origin through any proxy, though its stream has
// another one by now.
func TestDeleteThroughAnotherProxy(t *testing.T) {
	bal := inCommon{balancer.NewMemory(balancer.Config{LeaseIdle: time.Second})}
	e := newEnv(t, options{bal: bal})
	e.bal = bal
	o := e.origin("o0")
	location := e.whip("/rtc/v1/whip/?app=live&stream=a").Header.Get("Location")
	other := e.newProxy(options{})
	for i := range 8 {
		e.origin(fmt.Sprintf("p%d", i))
	}
	if r := e.doAt(other, http.MethodDelete, strings.Replace(location, "stream=a", "stream=elsewhere", 1), ""); r.StatusCode != http.StatusOK {
		t.Errorf("DELETE: %s: %s", r.Status, r.text)
	}
	if got, _ := o.asked(t, 1); got.Method != http.MethodDelete {
		t.Errorf("the origin got %s", got.Method)
	}
}

// A dead origin is left for another one; a refusal is final, and the client's.
func TestElsewhereOrRefused(t *testing.T) {
	e := newEnv(t, options{})
	e.register("dead0", testkit.FreeAddr(t), "")
	e.register("dead1", testkit.FreeAddr(t), "")
	live := e.origin("live")
	for i := range 6 {
		e.whip(fmt.Sprintf("/rtc/v1/whip/?app=live&stream=s%d", i))
	}
	e.wantHeld(6, 0)
	before := live.count()

	live.mu.Lock()
	live.reply = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Why", "hook")
		http.Error(w, "no", http.StatusUnauthorized)
	}
	live.mu.Unlock()
	if r := e.do(http.MethodPost, "/rtc/v1/whip/?stream=x", offerSDP); r.StatusCode != http.StatusUnauthorized || r.Header.Get("X-Why") != "hook" || r.text != "no\n" {
		t.Errorf("a refusal: %s %q", r.Status, r.text)
	}
	live.mu.Lock()
	live.reply = hangUp // as SRS refuses
	live.mu.Unlock()
	if r := e.do(http.MethodPost, "/rtc/v1/whip/?stream=y", offerSDP); r.StatusCode != http.StatusBadGateway || !strings.Contains(r.text, "may have refused") {
		t.Errorf("a hang-up: %s %q", r.Status, r.text)
	}
	live.mu.Lock()
	live.reply = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }
	live.mu.Unlock()
	if r := e.do(http.MethodPost, "/rtc/v1/whip/?stream=z", offerSDP); r.StatusCode != http.StatusBadGateway || !strings.Contains(r.text, "cannot be used") {
		t.Errorf("no SDP: %s %q", r.Status, r.text)
	}
	if n := live.count() - before; n != 3 {
		t.Errorf("the origin was asked %d times", n)
	}
	e.wantHeld(6, 0)
}

// Sessions of an origin that is gone, or is another process now, end at once.
func TestOriginGone(t *testing.T) {
	e := newEnv(t, options{})
	o := e.origin("o0")
	first := username(e.whip("/rtc/v1/whip/?stream=a"))
	e.register("o0", o.api(), "s2")
	gone := func(name string) {
		t.Helper()
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			if _, ok := e.proxy.media.Lookup(name); !ok && e.proxy.find(name) == nil {
				return
			}
			if time.Since(began) > 5*time.Second {
				t.Fatal("the session lives on")
			}
		}
	}
	gone(first)
	second := username(e.whip("/rtc/v1/whip/?stream=a"))
	if err := e.bal.Remove(t.Context(), "o0"); err != nil {
		t.Fatal(err)
	}
	gone(second)
}

// When nothing comes from the client, the lease goes with the media session.
func TestIdle(t *testing.T) {
	e := newEnv(t, options{media: webrtc.Config{Idle: 50 * time.Millisecond}})
	e.origin("o0")
	e.whip("/rtc/v1/whip/?stream=a")
	e.wantHeld(0, 0)
	if n := len(e.proxy.media.Sessions()); n != 0 {
		t.Errorf("%d media sessions", n)
	}
}

// A session that finds no room is taken back at the origin: its stream must not stay
// occupied.
func TestTooManyPerIP(t *testing.T) {
	e := newEnv(t, options{media: webrtc.Config{PerIP: 1}})
	o := e.origin("o0")
	e.whip("/rtc/v1/whip/?stream=a")
	if r := e.do(http.MethodPost, "/rtc/v1/whip/?stream=b", offerSDP); r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%s: %s", r.Status, r.text)
	}
	got, _ := o.asked(t, 2)
	if got.Method != http.MethodDelete || !strings.Contains(got.RequestURI, "session=o00002:clnt") {
		t.Errorf("the origin got %s %s", got.Method, got.RequestURI)
	}
	e.wantHeld(1, 0)
}

// A client's eip goes first, and can only be an address.
func TestEIP(t *testing.T) {
	e := newEnv(t, options{})
	e.origin("o0")
	if r := e.whip("/rtc/v1/whep/?stream=a&eip=198.51.100.9:7000"); !strings.Contains(r.text, " 198.51.100.9 7000 typ host generation 0\r\na=candidate:1 1 udp 2130706175 192.0.2.1 ") {
		t.Errorf("answer\n%s", r.text)
	}
	if r := e.whip("/rtc/v1/whep/?stream=a&candidate=1.2.3.4%0d%0aa=x"); strings.Contains(r.text, "a=x") || strings.Count(r.text, "a=candidate") != 1 {
		t.Errorf("answer\n%s", r.text)
	}
}

// A Location that names the origin would lead past the proxy.
func TestAbsoluteLocation(t *testing.T) {
	e := newEnv(t, options{})
	o := e.origin("o0")
	o.reply = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://"+o.api()+"/rtc/v1/whip/?session=x")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, answerSDP("abcd"))
	}
	if r := e.whip("/rtc/v1/whip/?stream=a"); r.Header.Get("Location") != "/rtc/v1/whip/?session=x" {
		t.Errorf("Location: %s", r.Header.Get("Location"))
	}
}
