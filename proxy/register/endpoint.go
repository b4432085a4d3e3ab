package register

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// network is what an endpoint's protocol runs over.
type network string

const (
	tcp network = "tcp"
	udp network = "udp"
)

// maxEndpoint is longer than any address with its protocol.
const maxEndpoint = 80

// parseEndpoint reads a listen address as SRS writes it, for an origin at ip:
//
//	1935  :1935  10.0.0.1:1935  [::1]:1935  udp://0.0.0.0:8000  tcp://:1935
//
// Where it names no address of its own, or all of them, the origin's ip stands. net is
// "" where no protocol is named. An error completes a sentence that begins with the text.
func parseEndpoint(text string, ip netip.Addr) (addr netip.AddrPort, net network, err error) {
	if len(text) > maxEndpoint {
		return addr, "", fmt.Errorf("is longer than the %d characters that an address can have", maxEndpoint)
	}
	rest := text
	if proto, after, ok := strings.Cut(text, "://"); ok {
		switch net = network(proto); net {
		case tcp, udp:
		default:
			return addr, "", errors.New("has a protocol that is neither tcp nor udp")
		}
		rest = after
	}
	host, port := "", rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, port = rest[:i], rest[i+1:]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || port[0] == '+' {
		return addr, "", errors.New("has no port from 1 to 65535")
	}
	at := ip
	if host != "" {
		if bare, ok := strings.CutPrefix(host, "["); ok {
			host, ok = strings.CutSuffix(bare, "]")
			if !ok || !strings.Contains(host, ":") {
				return addr, "", errors.New("has brackets without an IPv6 address")
			}
		} else if strings.Contains(host, ":") {
			return addr, "", errors.New("has an IPv6 address without brackets")
		}
		if at, err = netip.ParseAddr(host); err != nil {
			return addr, "", errors.New("has no IP address where one belongs")
		}
		if at = at.Unmap(); at.IsUnspecified() {
			at = ip
		} else if err := checkIP(at); err != nil {
			return addr, "", err
		}
	}
	return netip.AddrPortFrom(at, uint16(n)), net, nil
}

// checkIP says whether an origin can be there.
func checkIP(ip netip.Addr) error {
	switch {
	case ip.Zone() != "":
		return errors.New("has a zone, which is another machine's business")
	case ip.IsUnspecified():
		return errors.New("is no address that can be connected to")
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("is the address of many")
	}
	return nil
}
