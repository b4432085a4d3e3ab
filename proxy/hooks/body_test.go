package hooks

import (
	"net/netip"
	"testing"
)

func knows(peer, client string) func(netip.Addr) (netip.AddrPort, bool) {
	return func(ip netip.Addr) (netip.AddrPort, bool) {
		return netip.MustParseAddrPort(client), ip == netip.MustParseAddr(peer)
	}
}

func TestWithClient(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{
			"of SRS",
			`{"server_id":"origin-3","action":"on_publish","client_id":"abc","ip":"127.64.1.2","vhost":"__defaultVhost__","app":"live","param":"?token=\"x\"","stream":"a"}`,
			`{"server_id":"origin-3","action":"on_publish","client_id":"abc","ip":"203.0.113.9","vhost":"__defaultVhost__","app":"live","param":"?token=\"x\"","stream":"a"}`,
		},
		{"spaces stay", "{ \"a\" : [1, {\"ip\":\"127.64.1.2\"}] ,\n \"ip\" :\t\"127.64.1.2\" }", "{ \"a\" : [1, {\"ip\":\"127.64.1.2\"}] ,\n \"ip\" :\t\"203.0.113.9\" }"},
		{"what comes after is not looked at", "{\"ip\":\"127.64.1.2\",\"stream\":\"\x01\xff", "{\"ip\":\"203.0.113.9\",\"stream\":\"\x01\xff"},
		{"not UTF-8 before", "{\"a\":\"\xff\",\"ip\":\"127.64.1.2\"}", "{\"a\":\"\xff\",\"ip\":\"203.0.113.9\"}"},
		{"only the first", `{"ip":"127.64.1.2","ip":"127.64.1.2"}`, `{"ip":"203.0.113.9","ip":"127.64.1.2"}`},
		{"mapped", `{"ip":"::ffff:127.64.1.2"}`, `{"ip":"::ffff:127.64.1.2"}`},
	}
	for _, tt := range tests {
		if got := string(withClient([]byte(tt.body), knows("127.64.1.2", "203.0.113.9:1"))); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
	for _, same := range []string{
		"", "{}", "[]", `{"ip":"127.64.1.3"}`, `{"ip":"192.0.2.1"}`, `{"ip":""}`, `{"ip":null}`, `{"ip":{"ip":"127.64.1.2"}}`, `{"ip":"\u003127.64.1.2"}`,
		`["ip","127.64.1.2"]`, `{"a":{"ip":"127.64.1.2"}}`, `{"a":"ip","b":"127.64.1.2"}`, `{"ip":`, `{"ip"`, `"ip"`, `{"a":"` + "\x01" + `","ip":"127.64.1.2"}`,
	} {
		if got := string(withClient([]byte(same), knows("127.64.1.2", "203.0.113.9:1"))); got != same {
			t.Errorf("%s becomes %s", same, got)
		}
	}
	if got := string(withClient([]byte(`{"ip":"127.64.1.2"}`), knows("127.64.1.2", "[2001:db8::1%eth0]:1"))); got != `{"ip":"2001:db8::1"}` {
		t.Errorf("an IPv6 client: %s", got)
	}
}

func FuzzWithClient(f *testing.F) {
	f.Add([]byte(`{"action":"on_play","ip":"127.64.1.2","a":[{"ip":1}]}`))
	f.Add([]byte(`{"a":{"b":[1,2,{"ip":"x"}]},"ip":"127.64.1.2"`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got := withClient(body, func(netip.Addr) (netip.AddrPort, bool) { return netip.MustParseAddrPort("9.9.9.9:9"), true })
		if string(got) == string(body) {
			return
		}
		from, to, ok := addressIn(got)
		if !ok || string(got[from:to]) != "9.9.9.9" {
			t.Fatalf("%q became %q", body, got)
		}
		was, end, _ := addressIn(body)
		if was != from || string(body[:was]) != string(got[:from]) || string(body[end:]) != string(got[to:]) {
			t.Errorf("more than the address changed: %q became %q", body, got)
		}
	})
}
