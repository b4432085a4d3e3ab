package candidate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"srs-proxy/protocol/sdp"
)

func TestParseList(t *testing.T) {
	for text, want := range map[string][]Spec{
		"":                                     nil,
		"auto":                                 nil,
		"*":                                    nil,
		"203.0.113.5":                          {{"203.0.113.5", 0}},
		"203.0.113.5:9000":                     {{"203.0.113.5", 9000}},
		"2001:db8::5":                          {{"2001:db8::5", 0}},
		"[2001:db8::5]":                        {{"2001:db8::5", 0}},
		"[2001:db8::5]:9000":                   {{"2001:db8::5", 9000}},
		"::ffff:203.0.113.5":                   {{"203.0.113.5", 0}},
		"rtc.example.com":                      {{"rtc.example.com", 0}},
		"rtc.example.com:9000":                 {{"rtc.example.com", 9000}},
		"localhost":                            {{"localhost", 0}},
		"203.0.113.5, [2001:db8::5]:9000,a.bc": {{"203.0.113.5", 0}, {"2001:db8::5", 9000}, {"a.bc", 0}},
	} {
		got, err := ParseList(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"203.0.113", "203.0.113.5:0", "203.0.113.5:70000", "203.0.113.5:x", ":9000", ",", "a b", "a\r\na=x", "0.0.0.0", "::", "224.0.0.1",
		"fe80::1%eth0", "-a.com", "a..b", "http://a", strings.Repeat("a,", 20) + "a", "a/b", "a:1:2", strings.Repeat("a.", 130) + "com",
	} {
		if got, err := ParseList(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[2001:db8::5]:9000")
	f.Add("rtc.example.com:1")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if s.Host == "" || strings.ContainsAny(s.Host, " \r\n\t[]/") || s.Port < 0 || s.Port > 65535 {
			t.Fatalf("%q: %+v", text, s)
		}
		if again, err := Parse(s.String()); err != nil || again != s {
			t.Fatalf("%q: %+v is written %q and read %+v, %v", text, s, s, again, err)
		}
	})
}

func addresses(list ...string) []Address {
	var all []Address
	for _, entry := range list {
		ip, iface, _ := strings.Cut(entry, " ")
		all = append(all, Address{netip.MustParseAddr(ip), iface})
	}
	return all
}

func TestChoose(t *testing.T) {
	for name, tt := range map[string]struct {
		all  []Address
		want []string
		why  string
	}{
		"public before private": {
			addresses("10.0.0.5 eth1", "203.0.113.5 eth0", "172.17.0.1 docker0"), []string{"203.0.113.5"}, "public addresses",
		},
		"both families":                 {addresses("203.0.113.5 eth0", "2001:db8::5 eth0"), []string{"203.0.113.5", "2001:db8::5"}, "public addresses"},
		"IPv4 is private":               {addresses("10.0.0.5 eth0", "2001:db8::5 eth0"), []string{"10.0.0.5", "2001:db8::5"}, "no public IPv4"},
		"only private, no bridges":      {addresses("172.17.0.1 docker0", "10.0.0.5 eth0", "192.168.1.5 wlan0"), []string{"10.0.0.5", "192.168.1.5"}, "no public address"},
		"only a bridge":                 {addresses("172.17.0.1 docker0"), []string{"172.17.0.1"}, "no public address"},
		"behind a carrier's NAT":        {addresses("100.64.1.2 eth0"), []string{"100.64.1.2"}, "no public address"},
		"unique local needs no IPv4":    {addresses("fd00::5 eth0", "10.0.0.5 eth0"), []string{"10.0.0.5"}, "no public address"},
		"only unique local":             {addresses("fd00::5 eth0"), []string{"fd00::5"}, "no public address"},
		"nothing":                       {nil, []string{"127.0.0.1"}, "nobody else"},
		"more than anybody would check": {addresses("203.0.113.1 a", "203.0.113.2 a", "203.0.113.3 a", "203.0.113.4 a", "203.0.113.5 a"), []string{"203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"}, "public addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			chosen, why := Choose(tt.all)
			var got []string
			for _, a := range chosen {
				got = append(got, a.Addr.String())
			}
			if !slices.Equal(got, tt.want) || !strings.Contains(why, tt.why) {
				t.Errorf("got %v because %s", got, why)
			}
		})
	}
}

// The machine that runs the tests has addresses that can be chosen from.
func TestAddresses(t *testing.T) {
	all, err := Addresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if !a.IsValid() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.Interface == "" {
			t.Errorf("%+v", a)
		}
	}
}

func newList(cfg Config, machine ...string) *List {
	l := New(cfg, slog.New(slog.DiscardHandler))
	l.addresses = func() ([]Address, error) { return addresses(machine...), nil }
	l.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host == "rtc.example.com" {
			return []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")}, nil
		}
		return nil, errors.New("no such host")
	}
	return l
}

func text(list []sdp.Candidate) string {
	var out []string
	for _, c := range list {
		network := "udp"
		if c.TCP {
			network = "tcp"
		}
		out = append(out, fmt.Sprintf("%s:%s:%d", network, c.Host, c.Port))
	}
	return strings.Join(out, " ")
}

func TestFor(t *testing.T) {
	anywhere := netip.MustParseAddrPort("[::]:8000")
	for name, tt := range map[string]struct {
		fixed string
		tcp   bool
		req   Request
		want  string
	}{
		"detected":              {"", false, Request{Local: anywhere, Host: "localhost:1985"}, "udp:10.0.0.5:8000 udp:2001:db8::5:8000"},
		"an IPv4 listener":      {"", false, Request{Local: netip.MustParseAddrPort("0.0.0.0:8000")}, "udp:10.0.0.5:8000"},
		"a listener's own":      {"", false, Request{Local: netip.MustParseAddrPort("127.0.0.1:8000")}, "udp:127.0.0.1:8000"},
		"over TCP too":          {"192.0.2.1", true, Request{Local: anywhere}, "udp:192.0.2.1:8000 tcp:192.0.2.1:8000"},
		"fixed":                 {"192.0.2.1:9000,2001:db8::1", false, Request{Local: anywhere, Host: "198.51.100.1"}, "udp:192.0.2.1:9000 udp:2001:db8::1:8000"},
		"a fixed name":          {"rtc.example.com:9000", false, Request{Local: anywhere}, "udp:198.51.100.7:9000 udp:2001:db8::7:9000"},
		"a name nobody knows":   {"gone.example.com", false, Request{Local: anywhere}, "udp:gone.example.com:8000"},
		"the client's own":      {"192.0.2.1", false, Request{Local: anywhere, EIP: "198.51.100.9:7000"}, "udp:198.51.100.9:7000 udp:192.0.2.1:8000"},
		"the client's own, bad": {"192.0.2.1", false, Request{Local: anywhere, EIP: "x\r\na=y"}, "udp:192.0.2.1:8000"},
		"twice":                 {"192.0.2.1", false, Request{Local: anywhere, EIP: "192.0.2.1:8000"}, "udp:192.0.2.1:8000"},
		"the host asked":        {"", false, Request{Local: anywhere, Host: "198.51.100.1:1985"}, "udp:198.51.100.1:8000 udp:10.0.0.5:8000 udp:2001:db8::5:8000"},
		"its name":              {"", false, Request{Local: anywhere, Host: "RTC.example.com"}, "udp:198.51.100.7:8000 udp:2001:db8::7:8000 udp:10.0.0.5:8000 udp:2001:db8::5:8000"},
		"an unknown host":       {"", false, Request{Local: anywhere, Host: "live.example.org"}, "udp:10.0.0.5:8000 udp:2001:db8::5:8000"},
		"loopback":              {"", false, Request{Local: anywhere, Host: "127.0.0.1:1985"}, "udp:10.0.0.5:8000 udp:2001:db8::5:8000"},
	} {
		t.Run(name, func(t *testing.T) {
			fixed, err := ParseList(tt.fixed)
			if err != nil {
				t.Fatal(err)
			}
			l := newList(Config{Fixed: fixed, TCP: tt.tcp}, "10.0.0.5 eth0", "2001:db8::5 eth0")
			if got := text(l.For(t.Context(), tt.req)); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A machine's addresses are looked at again after a while; a name's are kept when the
// name server fails.
func TestForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newList(Config{}, "10.0.0.5 eth0")
		l.log = slog.New(slog.NewTextHandler(&log, nil))
		req := Request{Local: netip.MustParseAddrPort("[::]:8000")}
		want := func(want string) {
			t.Helper()
			if got := text(l.For(t.Context(), req)); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		want("udp:10.0.0.5:8000")
		l.addresses = func() ([]Address, error) { return addresses("10.0.0.6 eth0"), nil }
		want("udp:10.0.0.5:8000")
		time.Sleep(detectTTL + 1)
		want("udp:10.0.0.6:8000")
		want("udp:10.0.0.6:8000")
		if n := strings.Count(log.String(), "WebRTC candidates detected"); n != 2 {
			t.Errorf("%d lines of log:\n%s", n, &log)
		}
		fixed, _ := ParseList("rtc.example.com")
		l.SetFixed(fixed)
		want("udp:198.51.100.7:8000 udp:2001:db8::7:8000")
		time.Sleep(nameTTL + 1)
		l.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return nil, errors.New("server failure") }
		want("udp:198.51.100.7:8000 udp:2001:db8::7:8000")
	})
}

// What clients make us look up is bounded.
func TestNamesAreBounded(t *testing.T) {
	l := newList(Config{}, "10.0.0.5 eth0")
	for i := range 3 * maxNames {
		l.For(t.Context(), Request{Local: netip.MustParseAddrPort("[::]:8000"), Host: fmt.Sprintf("h%d.example.com", i)})
	}
	if n := len(l.names); n > maxNames {
		t.Errorf("%d names are kept", n)
	}
}
