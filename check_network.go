package main

import (
	"fmt"
	"strings"

	"srs-proxy/proxy/webrtc/candidate"
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

// checkCandidates says at which addresses clients of WebRTC will be told to reach us,
// by the choice that the proxy makes.
func checkCandidates(f *facts) []finding {
	if fixed := f.cfg.Candidates; len(fixed) > 0 {
		var names []string
		for _, c := range fixed {
			names = append(names, c.String())
		}
		return []finding{ok("candidates", "WebRTC offers %s, as --candidate says", strings.Join(names, ", "))}
	}
	chosen, why := candidate.Choose(f.addresses)
	var names []string
	public := false
	for _, a := range chosen {
		names = append(names, a.String())
		public = public || candidate.Public(a.Addr)
	}
	text := fmt.Sprintf("WebRTC offers %s: %s", strings.Join(names, ", "), why)
	if !public {
		return []finding{warn("candidates", "%s", text)}
	}
	return []finding{ok("candidates", "%s", text)}
}
