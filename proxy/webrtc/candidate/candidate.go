// Package candidate says at which addresses clients of WebRTC reach this proxy.
//
//	eip of the client's query ───────────┐
//	--candidate, else                    ├─▶ candidates of an SDP answer
//	 the host that the client asked and  │
//	 the addresses of this machine ──────┘
//
// An origin knows none of this: what its answer says leads past the proxy. The package
// asks no server on the internet what our address is; behind a NAT the operator
// has to say it, or clients have to use it as the host of their requests.
package candidate

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Spec is a candidate as somebody wrote it down.
type Spec struct {
	Host string // an IP address without brackets, or a domain name
	Port int    // 0 means the one that the proxy listens on
}

func (s Spec) String() string {
	switch {
	case s.Port == 0:
		return s.Host
	case strings.Contains(s.Host, ":"):
		return "[" + s.Host + "]:" + strconv.Itoa(s.Port)
	default:
		return s.Host + ":" + strconv.Itoa(s.Port)
	}
}

// maxSpecs bounds a list: each is a line of every answer, and a pair that every
// client checks.
const maxSpecs = 16

// Errors of parsing. They complete a sentence that begins with the value.
var (
	errForm  = errors.New("is no candidate; give an address or a name, with a port or without: 203.0.113.5, [2001:db8::5]:8000, rtc.example.com")
	errNoOne = errors.New("is no address that a client can send to")
	errMany  = fmt.Errorf("has more than %d entries", maxSpecs)
)

// ParseList reads entries with commas between them. auto, and * as SRS has it, is an
// empty list: detect.
func ParseList(text string) ([]Spec, error) {
	if t := strings.TrimSpace(text); t == "" || t == "auto" || t == "*" {
		return nil, nil
	}
	var list []Spec
	for entry := range strings.SplitSeq(text, ",") {
		s, err := Parse(strings.TrimSpace(entry))
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	if len(list) > maxSpecs {
		return nil, errMany
	}
	return list, nil
}

// Parse reads one candidate: IP, IP:port, [IPv6]:port, name or name:port. What it
// returns is safe to put into an SDP.
func Parse(s string) (Spec, error) {
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return specOf(ip, 0)
	}
	host, port := s, 0
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || n == 0 {
			return Spec{}, errForm
		}
		host, port = s[:i], int(n)
	}
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return specOf(ip, port)
	}
	if !isName(host) {
		return Spec{}, errForm
	}
	return Spec{host, port}, nil
}

func specOf(ip netip.Addr, port int) (Spec, error) {
	if ip = ip.Unmap(); ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
		return Spec{}, errNoOne
	}
	return Spec{ip.String(), port}, nil
}

// isName says that s may be a domain name (RFC 1123 section 2.1).
func isName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	letters := false
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
				letters = true
			case '0' <= c && c <= '9', c == '-':
			default:
				return false
			}
		}
	}
	return letters // 1.2.3 is a mistake, and no name
}
