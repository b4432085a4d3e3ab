package register

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"srs-proxy/balancer"
)

func TestParseEndpoint(t *testing.T) {
	ip := netip.MustParseAddr("192.0.2.7")
	for _, tt := range []struct {
		text, want string
		net        network
	}{
		{"1935", "192.0.2.7:1935", ""},
		{":1935", "192.0.2.7:1935", ""},
		{"0.0.0.0:1935", "192.0.2.7:1935", ""},
		{"[::]:1935", "192.0.2.7:1935", ""},
		{"10.0.0.1:1935", "10.0.0.1:1935", ""},
		{"127.0.0.1:1935", "127.0.0.1:1935", ""},
		{"[2001:db8::1]:1935", "[2001:db8::1]:1935", ""},
		{"[::ffff:10.0.0.1]:1935", "10.0.0.1:1935", ""},
		{"tcp://:1935", "192.0.2.7:1935", tcp},
		{"tcp://1935", "192.0.2.7:1935", tcp},
		{"tcp://10.0.0.1:1935", "10.0.0.1:1935", tcp},
		{"tcp://127.0.0.1:1935", "127.0.0.1:1935", tcp},
		{"tcp://[::1]:1935", "[::1]:1935", tcp},
		{"udp://0.0.0.0:8000", "192.0.2.7:8000", udp},
		{"udp://[::]:8000", "192.0.2.7:8000", udp},
	} {
		addr, net, err := parseEndpoint(tt.text, ip)
		if err != nil || addr.String() != tt.want || net != tt.net {
			t.Errorf("%q is %s over %q (%v), want %s over %q", tt.text, addr, net, err, tt.want, tt.net)
		}
	}
	for _, text := range []string{"", ":", "x", "-1", "+1", " 1935", "1935 ", "0", "70000", "a:1", "1.2.3:4", "[1.2.3.4]:5", "[]:5", "::1", "224.0.0.1:5", "[fe80::1%lo]:5", "tcp:1935", "://1", "tcp://", "tcp://a.example:1"} {
		if addr, _, err := parseEndpoint(text, ip); err == nil {
			t.Errorf("%q is %s", text, addr)
		}
	}
}

func TestParse(t *testing.T) {
	r, err := Parse([]byte(goodBody), false)
	if err != nil {
		t.Fatal(err)
	}
	want := Registration{Server: "vid-46p14mm", Service: "z2s3w865", PID: 42583, Device: "origin2", Endpoints: balancer.Endpoints{
		RTMP: "10.78.122.184:19352", HTTP: "10.78.122.184:8082", API: "10.78.122.184:19853", SRT: "10.78.122.184:10082", RTC: "10.78.122.184:8001",
	}}
	if r != want {
		t.Errorf("got %+v\nwant %+v", r, want)
	}
	// SRS with WebRTC over TCP says both; several listeners of one protocol are there too.
	r, err = Parse([]byte(strings.NewReplacer(`["udp://0.0.0.0:8001"]`, `["tcp://0.0.0.0:8001","udp://0.0.0.0:8002"]`, `["19352"]`, `["19352","19353"]`).Replace(goodBody)), false)
	if err != nil || r.Endpoints.RTC != "10.78.122.184:8002" || r.Endpoints.RTMP != "10.78.122.184:19352" {
		t.Errorf("%+v %v", r, err)
	}
	// The loopback is another one on another machine.
	loop := with("rtmp", []string{"127.0.0.1:1935"})
	if _, err := Parse([]byte(loop), false); err == nil || !strings.Contains(err.Error(), "loopback of another machine") {
		t.Errorf("from elsewhere: %v", err)
	}
	if r, err := Parse([]byte(loop), true); err != nil || r.Endpoints.RTMP != "127.0.0.1:1935" {
		t.Errorf("from here: %+v %v", r, err)
	}
	if _, err := Parse([]byte(with("ip", "127.0.0.1")), false); err == nil {
		t.Error("an origin that says it is on the loopback, from elsewhere")
	}
	six, err := Parse([]byte(with("ip", "2001:db8::7")), false)
	if err != nil || six.Endpoints.RTMP != "[2001:db8::7]:19352" {
		t.Errorf("%+v %v", six, err)
	}
}

func TestParseTokens(t *testing.T) {
	tokens, err := ParseTokens(" one-1,\ntwo.2\r\n")
	if err != nil || len(tokens) != 2 || !tokens.match("one-1") || !tokens.match("two.2") || tokens.match("one-1,two.2") || tokens.match("") {
		t.Errorf("%d tokens, %v", len(tokens), err)
	}
	for _, text := range []string{"a/b", "a?b", "a%20b", "ä", "a\"", strings.Repeat("x", 257)} {
		if _, err := ParseTokens(text); err == nil {
			t.Errorf("%q is a token", text)
		} else if len(text) > 1 && strings.Contains(err.Error(), text) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := limiter{rate: 2, burst: 3, now: func() time.Time { return now }, buckets: make(map[netip.Addr]bucket)}
	ask := func(ip string) (n int) {
		for range 10 {
			if l.allow(netip.MustParseAddr(ip)) {
				n++
			}
		}
		return n
	}
	if n := ask("192.0.2.1"); n != 3 {
		t.Errorf("%d at once", n)
	}
	if n := ask("192.0.2.2"); n != 3 {
		t.Errorf("another address: %d", n)
	}
	now = now.Add(time.Second)
	if n := ask("192.0.2.1"); n != 2 {
		t.Errorf("%d after a second", n)
	}
	// One machine's addresses of IPv6 are one.
	if a, b := ask("2001:db8::1"), ask("2001:db8::2"); a != 3 || b != 0 {
		t.Errorf("IPv6: %d and %d", a, b)
	}
	// A flood of addresses is forgotten when its buckets are full again, and takes no
	// room before that.
	for i := range 3 * maxBuckets {
		l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(l.buckets) > maxBuckets {
		t.Errorf("%d buckets", len(l.buckets))
	}
	now = now.Add(time.Minute)
	if !l.allow(netip.MustParseAddr("198.51.100.1")) || len(l.buckets) > 1 {
		t.Errorf("%d buckets after a minute", len(l.buckets))
	}
}

// A stranger's body is an error or a registration with addresses that can be dialed.
func FuzzParse(f *testing.F) {
	f.Add([]byte(goodBody), false)
	f.Add([]byte(with("rtmp", []string{"tcp://[::1]:1", "127.0.0.1:1935"})), true)
	f.Add([]byte(`{"ip":"::ffff:1.2.3.4","server":"a","service":"b","pid":"1","rtmp":["[::]:1935"]}`), false)
	f.Fuzz(func(t *testing.T, text []byte, local bool) {
		r, err := Parse(text, local)
		if err != nil {
			if len(err.Error()) > 300 || strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("an error that cannot be printed: %q", err)
			}
			return
		}
		for _, addr := range []string{r.Endpoints.RTMP, r.Endpoints.HTTP, r.Endpoints.API, r.Endpoints.SRT, r.Endpoints.RTC} {
			if addr == "" && addr != r.Endpoints.RTMP {
				continue
			}
			ap, err := netip.ParseAddrPort(addr)
			if err != nil || ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().IsLoopback() && !local {
				t.Errorf("%q gives %q: %v", text, addr, err)
			}
		}
		if r.Server == "" || r.Service == "" || r.PID <= 0 {
			t.Errorf("%q gives %+v", text, r)
		}
	})
}
