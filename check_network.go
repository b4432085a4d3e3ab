package main

import (
	"fmt"
	"net/netip"
	"strings"

	"srs-proxy/runtime"
)

// checkEphemeral: each connection of the proxy to an origin takes one local port,
// and there is one range of them for each origin's address and port.
func checkEphemeral(f *facts) []finding {
	ports := f.kernel.EphemeralPorts()
	if ports == runtime.Unknown || f.limitErr != nil || f.cpusErr != nil {
		return nil
	}
	connections := f.cfg.maxConnections(f.setup.nofile)
	text := fmt.Sprintf("%d ports for connections to one origin, which takes %d", ports, connections)
	// A closed connection keeps its port for a minute (TIME_WAIT).
	if ports >= connections+connections/4 {
		return []finding{ok("ephemeral", "%s", text)}
	}
	found := warn("ephemeral", "%s: the proxy runs out of them before the origin is full", text)
	if lo, room := f.widerRange(); room > ports {
		return []finding{found.fixedBy("sudo sysctl -w net.ipv4.ip_local_port_range='%d 65535'", lo)}
	}
	return []finding{found.fixedBy("srs-proxy up --max-connections %d", ports*4/5)}
}

// widerRange is the lowest start of an ephemeral range that goes to the end and
// leaves our own ports out.
func (f *facts) widerRange() (lo, room int) {
	highest := max(f.setup.ports.Last(len(f.setup.cpus.Origins)), 9999)
	for _, p := range f.setup.publicPorts() {
		highest = max(highest, p)
	}
	lo = (highest/1000 + 1) * 1000
	return lo, 65536 - lo
}

// backlogWanted is for a burst of players after a restart: what comes meanwhile
// waits in the backlog, which the kernel cuts to net.core.somaxconn.
const backlogWanted = 1024

func checkBacklog(f *facts) []finding {
	switch n := f.kernel.Somaxconn; {
	case n == runtime.Unknown:
		return nil
	case n < backlogWanted:
		return []finding{warn("backlog", "net.core.somaxconn is %d: of a burst of new clients, the others wait a second to try again", n).
			fixedBy("sudo sysctl -w net.core.somaxconn=4096")}
	default:
		return []finding{ok("backlog", "net.core.somaxconn is %d", n)}
	}
}

const (
	// udpBuffer is what SRS asks for on its UDP sockets (SrsUdpListener::set_socket_buffer);
	// the kernel gives it no more than rmem_max and wmem_max, without a word.
	udpBuffer = 10 * mib
	// udpBufferFix has room for libsrt's 12 MB too.
	udpBufferFix = 16 * mib
)

func checkUDPBuffers(f *facts) []finding {
	k := f.kernel
	if k.RmemMax == runtime.Unknown || k.WmemMax == runtime.Unknown {
		return nil
	}
	udp := false
	for _, o := range f.origins {
		for _, l := range o.listeners {
			udp = udp || l.Network == "udp"
		}
	}
	text := fmt.Sprintf("net.core.rmem_max %d, wmem_max %d", k.RmemMax, k.WmemMax)
	fix := fmt.Sprintf("sudo sysctl -w net.core.rmem_max=%d net.core.wmem_max=%d", max(k.RmemMax, udpBufferFix), max(k.WmemMax, udpBufferFix))
	switch {
	case min(k.RmemMax, k.WmemMax) >= udpBuffer:
		return []finding{ok("udp", "%s", text)}
	case !udp:
		return []finding{ok("udp", "%s; too small for many WebRTC or SRT sessions, which are off", text).fixedBy("%s", fix)}
	default:
		return []finding{warn("udp", "%s: SRS asks for %d for WebRTC and SRT, and a keyframe's packets that do not fit are lost", text, udpBuffer).fixedBy("%s", fix)}
	}
}

// checkCandidates is about the addresses that WebRTC would offer.
func checkCandidates(f *facts) []finding {
	var public, other []string
	for _, a := range f.addresses {
		text := fmt.Sprintf("%s (%s)", a.Addr, a.iface)
		if isPublic(a.Addr) {
			public = append(public, text)
		} else {
			other = append(other, text)
		}
	}
	rtc := false
	for _, o := range f.origins {
		for _, l := range o.listeners {
			rtc = rtc || strings.HasPrefix(l.Directive, "rtc_server")
		}
	}
	switch {
	case len(public)+len(other) == 0:
		return []finding{warn("candidates", "this machine has no address but loopback: nobody else can reach it")}
	case len(public) == 0 && rtc:
		return []finding{warn("candidates", "WebRTC would offer %s, which are private: from outside this network only the public address of a NAT in front of it works", strings.Join(other, ", "))}
	case len(public) == 0:
		return []finding{ok("candidates", "addresses %s, none of them public", strings.Join(other, ", "))}
	default:
		return []finding{ok("candidates", "addresses %s", strings.Join(append(public, other...), ", "))}
	}
}

// sharedSpace is what carriers give to those behind their NAT (RFC 6598).
func sharedSpace() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10) }

func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !sharedSpace().Contains(a)
}
