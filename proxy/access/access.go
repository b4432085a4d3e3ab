// Package access says which addresses may publish and play.
//
//	--allow publish:10.0.0.0/8          only 10.x publishes; anybody plays
//	--deny  192.0.2.7,play:2001:db8::/32
//
// What is denied is denied. Of the rest, a role that has entries in the allow list is
// for those alone, and one that has none is for everybody. SRS's `security` works in
// the same order, except that there one allow entry closes the other role too.
package access

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"srs-proxy/balancer"
)

// ErrDenied says that the client's address may not do that here.
var ErrDenied = errors.New("not allowed from this address")

// List is a list of entries for publishers and one for players.
type List struct {
	publish, play []netip.Prefix
}

func (l *List) of(role balancer.Role) *[]netip.Prefix {
	if role == balancer.Publish {
		return &l.publish
	}
	return &l.play
}

// Parse reads entries that are parted by commas: an address, a network (CIDR) or all,
// after publish: or play: if it is for one of them only. Empty is an empty list. An
// error completes a sentence that begins with the text.
func Parse(text string) (List, error) {
	var l List
	if strings.TrimSpace(text) == "" {
		return l, nil
	}
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		roles := []balancer.Role{balancer.Publish, balancer.Play}
		network := entry
		if rest, ok := strings.CutPrefix(entry, "publish:"); ok {
			roles, network = []balancer.Role{balancer.Publish}, rest
		} else if rest, ok := strings.CutPrefix(entry, "play:"); ok {
			roles, network = []balancer.Role{balancer.Play}, rest
		}
		prefixes, err := parseNetwork(network)
		if err != nil {
			return List{}, fmt.Errorf("has %q where an address or a network belongs; give entries such as 192.0.2.7, publish:10.0.0.0/8 or play:all", entry)
		}
		for _, role := range roles {
			*l.of(role) = append(*l.of(role), prefixes...)
		}
	}
	return l, nil
}

// ParseNetworks reads addresses and networks (CIDR) that are parted by commas; all is
// every address. An error completes a sentence that begins with the text.
func ParseNetworks(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for entry := range strings.SplitSeq(text, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		prefixes, err := parseNetwork(entry)
		if err != nil {
			return nil, fmt.Errorf("has %q where an address or a network belongs; give entries such as 192.0.2.7 or 10.0.0.0/8", entry)
		}
		all = append(all, prefixes...)
	}
	return all, nil
}

func parseNetwork(s string) ([]netip.Prefix, error) {
	if s == "all" {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}, nil
	}
	if !strings.Contains(s, "/") {
		ip, err := netip.ParseAddr(s)
		if err != nil || ip.Zone() != "" {
			return nil, errors.New("not an address")
		}
		ip = ip.Unmap()
		return []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() { // clients are compared in their IPv4 form
		return nil, errors.New("not a network")
	}
	return []netip.Prefix{p.Masked()}, nil
}

// Rules are what is in force.
type Rules struct {
	Allow, Deny List
}

// Check returns ErrDenied if client may not publish or play.
func (r *Rules) Check(role balancer.Role, client netip.Addr) error {
	client = client.Unmap().WithZone("") // a prefix contains no zoned address
	if contains(*r.Deny.of(role), client) {
		return ErrDenied
	}
	if allow := *r.Allow.of(role); len(allow) > 0 && !contains(allow, client) {
		return ErrDenied
	}
	return nil
}

func contains(prefixes []netip.Prefix, ip netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
