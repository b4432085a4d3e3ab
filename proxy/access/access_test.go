package access

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"srs-proxy/balancer"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name          string
		allow, deny   string
		client        string
		publish, play bool
	}{
		{"no rules", "", "", "203.0.113.9", true, true},
		{"no rules, no address", "", "", "", true, true},
		{"allowed to publish", "publish:10.0.0.0/8", "", "10.1.2.3", true, true},
		{"not allowed to publish may play", "publish:10.0.0.0/8", "", "11.1.2.3", false, true},
		{"an allow of one role leaves the other open", "play:10.0.0.0/8", "", "11.1.2.3", true, false},
		{"for both", "10.0.0.0/8", "", "11.1.2.3", false, false},
		{"one of several", "publish:10.0.0.0/8, publish:11.1.2.3", "", "11.1.2.3", true, true},
		{"an address is itself alone", "11.1.2.3", "", "11.1.2.4", false, false},
		{"denied", "", "10.0.0.0/8", "10.1.2.3", false, false},
		{"denied to play", "", "play:10.0.0.0/8", "10.1.2.3", true, false},
		{"deny goes first", "publish:10.0.0.0/8", "publish:10.1.0.0/16", "10.1.2.3", false, true},
		{"deny goes first, another", "publish:10.0.0.0/8", "publish:10.1.0.0/16", "10.2.2.3", true, true},
		{"deny all", "", "publish:all", "2001:db8::1", false, true},
		{"allow all", "publish:all", "", "2001:db8::1", true, true},
		{"allow all of IPv4", "0.0.0.0/0", "", "2001:db8::1", false, false},
		{"IPv6", "2001:db8::/32", "", "2001:db8:1::1", true, true},
		{"IPv6, another", "2001:db8::/32", "", "2001:db9::1", false, false},
		{"IPv6 address", "", "2001:db8::1", "2001:db8:0::1", false, false},
		{"mapped client", "10.0.0.0/8", "", "::ffff:10.0.0.1", true, true},
		{"mapped entry", "::ffff:10.0.0.1", "", "10.0.0.1", true, true},
		{"zone", "fe80::/10", "", "fe80::1%eth0", true, true},
		{"zone cannot evade a deny", "", "fe80::/10", "fe80::1%eth0", false, false},
		{"network with host bits", "10.9.9.9/8", "", "10.1.2.3", true, true},
		{"an unknown client is not one of those allowed", "10.0.0.0/8", "", "", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Rules{Allow: parse(t, tt.allow), Deny: parse(t, tt.deny)}
			var client netip.Addr
			if tt.client != "" {
				client = netip.MustParseAddr(tt.client)
			}
			for role, want := range map[balancer.Role]bool{balancer.Publish: tt.publish, balancer.Play: tt.play} {
				err := r.Check(role, client)
				if (err == nil) != want || err != nil && !errors.Is(err, ErrDenied) {
					t.Errorf("%s: %v, want allowed %v", role, err, want)
				}
			}
		})
	}
}

func parse(t *testing.T, text string) List {
	t.Helper()
	l, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"x", "publish:", "publish", "play:10.0.0.0/33", "10.0.0.0/8,,10.0.0.1", "publish:play:10.0.0.1", "10.0.0.1:80", "fe80::1%eth0", "::ffff:10.0.0.0/104", "all,", "ALL"} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), "give entries such as") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "all", "publish:10.0.0.0/8,play:2001:db8::/32", "192.0.2.7 , play:all"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse(text)
		if err != nil {
			return
		}
		r := Rules{Deny: l}
		for _, p := range append(l.publish, l.play...) {
			if !p.IsValid() || p != p.Masked() {
				t.Errorf("%q gives %v", text, p)
			}
			role := balancer.Play
			if len(l.publish) > 0 && contains(l.publish, p.Addr()) {
				role = balancer.Publish
			}
			if r.Check(role, p.Addr()) == nil {
				t.Errorf("%q does not cover %s", text, p.Addr())
			}
		}
	})
}
