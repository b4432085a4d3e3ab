package srsconf

// DefaultPortBase is the first port of slot 0. It lies below the ephemeral
// range of Linux (32768-60999).
const DefaultPortBase = 20000

// Ports are the listeners of one origin. RTC is UDP, and TCP as well where
// the version serves WebRTC over TCP.
type Ports struct{ RTMP, HTTP, API, RTC, SRT, Exporter int }

// List is all the ports, in the order of the fields.
func (p Ports) List() []int { return nil }

// PortPlan gives every slot its own fixed stride of ports from Base on.
type PortPlan struct{ Base int }

// Ports of a slot.
func (p PortPlan) Ports(slot int) Ports { return Ports{} }

// Last is the highest port that a plan for so many origins owns.
func (p PortPlan) Last(origins int) int { return 0 }

// Validate proves the plan to be outside of the ephemeral range, below 65536
// and clear of the reserved ports (the proxy's own). Its error says what base would fit.
func (p PortPlan) Validate(origins, ephemeralLo, ephemeralHi int, reserved []int) error {
	return errUnimplemented
}
