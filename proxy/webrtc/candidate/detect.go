package candidate

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Address is one of this machine's own.
type Address struct {
	netip.Addr
	Interface string
}

func (a Address) String() string { return fmt.Sprintf("%s (%s)", a.Addr, a.Interface) }

// Public says that a is of the internet, not of somebody's own network.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !sharedSpace().Contains(a)
}

// sharedSpace is what carriers give to those behind their NAT (RFC 6598).
func sharedSpace() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10) }

// Addresses are those by which others could reach this machine: neither loopback
// nor link-local.
func Addresses() ([]Address, error) {
	ifaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	var all []Address
	for _, i := range ifaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			prefix, err := netip.ParsePrefix(a.String())
			if err == nil && !prefix.Addr().IsLinkLocalUnicast() {
				all = append(all, Address{prefix.Addr().Unmap(), i.Name})
			}
		}
	}
	return all, nil
}

// maxDetected bounds what is taken of each family: a machine may have hundreds of
// addresses, and each costs every client its checks.
const maxDetected = 4

// Choose picks those of a machine's addresses that clients should be told, for each
// family: the public ones if there are any, else the private ones; of these the
// bridges of containers only if there is nothing else. Unique local IPv6 addresses
// serve only where there is no IPv4. why is for people.
func Choose(all []Address) (chosen []Address, why string) {
	pick := func(want func(Address) bool) []Address {
		var found []Address
		for _, a := range all {
			if want(a) && len(found) < maxDetected {
				found = append(found, a)
			}
		}
		return found
	}
	is4 := func(a Address) bool { return a.Is4() }
	v4 := pick(func(a Address) bool { return is4(a) && Public(a.Addr) })
	v6 := pick(func(a Address) bool { return !is4(a) && Public(a.Addr) })
	public := len(v4)+len(v6) > 0
	private := false
	for _, want := range []func(Address) bool{
		func(a Address) bool { return is4(a) && !containers(a.Interface) },
		is4,
	} {
		if len(v4) == 0 {
			v4 = pick(want)
			private = len(v4) > 0
		}
	}
	if len(v4)+len(v6) == 0 {
		v6 = pick(func(a Address) bool { return !is4(a) })
		private = len(v6) > 0
	}
	switch {
	case public && private:
		why = "there is no public IPv4 address: from outside this network IPv4 works only with --candidate and the public address of the NAT in front of it"
	case private:
		why = "there is no public address: from outside this network it works only with --candidate and the public address of the NAT in front of it"
	case public:
		why = "these are this machine's public addresses"
	default:
		loopback := Address{netip.AddrFrom4([4]byte{127, 0, 0, 1}), "lo"}
		return []Address{loopback}, "this machine has no address but loopback: nobody else can reach it"
	}
	return slices.Concat(v4, v6), why
}

// containers says that an interface leads to containers or virtual machines of this
// host, by the names that their managers give.
func containers(iface string) bool {
	for _, prefix := range []string{"docker", "br-", "veth", "virbr", "vnet", "cni", "flannel", "cali", "cilium", "lxc", "lxdbr", "incusbr", "podman", "kube", "vmnet", "vboxnet"} {
		if strings.HasPrefix(iface, prefix) {
			return true
		}
	}
	return false
}
