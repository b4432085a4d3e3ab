package srsconf

import (
	"fmt"
	"slices"
)

// DefaultPortBase is the first port of slot 0. It lies below the ephemeral
// range of Linux (32768-60999), in which any outgoing connection of the
// machine could take an origin's port.
const DefaultPortBase = 20000

// stride is how many ports a slot owns. Ten rather than the six in use, so
// that a port number shows its slot: 20070-20075 are slot 7.
const stride = 10

// firstPort is the first that needs no privilege.
const firstPort = 1024

// Ports are the listeners of one origin. RTC is UDP, and TCP as well where
// the version serves WebRTC over TCP; SRT is UDP; the others are TCP.
type Ports struct{ RTMP, HTTP, API, RTC, SRT, Exporter int }

// List is all the ports, in the order of the fields.
func (p Ports) List() []int {
	return []int{p.RTMP, p.HTTP, p.API, p.RTC, p.SRT, p.Exporter}
}

// PortPlan gives every slot its own fixed stride of ports from Base on; the
// zero Base is DefaultPortBase. It is pure arithmetic: the same slot has the
// same ports in every run, however many slots there are. Slots beyond the last
// one are spare ports for rolling restarts.
type PortPlan struct{ Base int }

func (p PortPlan) base() int {
	if p.Base == 0 {
		return DefaultPortBase
	}
	return p.Base
}

// Ports of a slot.
func (p PortPlan) Ports(slot int) Ports {
	first := p.base() + slot*stride
	return Ports{RTMP: first, HTTP: first + 1, API: first + 2, RTC: first + 3, SRT: first + 4, Exporter: first + 5}
}

// Last is the highest port that a plan for so many origins owns.
func (p PortPlan) Last(origins int) int { return p.base() + max(origins, 1)*stride - 1 }

// Validate proves the plan to be below 65536, outside of the ephemeral range
// (0, 0 when it is not known) and clear of the reserved ports, which are those
// that the proxy itself listens on. Its error says what base would fit.
func (p PortPlan) Validate(origins, ephemeralLo, ephemeralHi int, reserved []int) error {
	if origins < 1 {
		return fmt.Errorf("a port plan for %d origins", origins)
	}
	why := p.conflict(origins, ephemeralLo, ephemeralHi, reserved)
	if why == "" {
		return nil
	}
	prefix := fmt.Sprintf("port base %d: the ports %d-%d of %d origins %s", p.base(), p.base(), p.Last(origins), origins, why)
	fit := fittingBase(origins, ephemeralLo, ephemeralHi, reserved)
	if fit == 0 {
		return fmt.Errorf("%s; no base would fit %d ports: use fewer origins or a smaller net.ipv4.ip_local_port_range", prefix, origins*stride)
	}
	return fmt.Errorf("%s; base %d would fit", prefix, fit)
}

// conflict says what is wrong with the plan, "" when nothing is.
func (p PortPlan) conflict(origins, lo, hi int, reserved []int) string {
	first, last := p.base(), p.Last(origins)
	switch {
	case first < firstPort:
		return fmt.Sprintf("begin below %d", firstPort)
	case last > 65535:
		return "end above 65535"
	case lo > 0 && hi >= lo && first <= hi && last >= lo:
		return fmt.Sprintf("overlap the ephemeral range %d-%d, where any outgoing connection may take them", lo, hi)
	}
	for _, port := range slices.Sorted(slices.Values(reserved)) {
		if first <= port && port <= last {
			return fmt.Sprintf("include %d, on which the proxy listens", port)
		}
	}
	return ""
}

// fittingBase prefers the default, then the round bases above 10000, where
// few services live, then any; 0 when there is none.
func fittingBase(origins, lo, hi int, reserved []int) int {
	fits := func(base int) bool { return PortPlan{base}.conflict(origins, lo, hi, reserved) == "" }
	if fits(DefaultPortBase) {
		return DefaultPortBase
	}
	for _, r := range []struct{ from, step int }{{10000, 1000}, {10000, stride}, {firstPort, 1}} {
		for base := r.from; base <= 65535; base += r.step {
			if fits(base) {
				return base
			}
		}
	}
	return 0
}
