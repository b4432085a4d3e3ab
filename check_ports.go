package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// portFacts is one port that up would listen on, and how an attempt to went.
type portFacts struct {
	// flag places a public port; origin has a port of its own.
	flag   string
	origin string

	network string
	address
	err error
	// holder is who has it, when it is taken.
	holder string
}

func (p portFacts) String() string {
	if p.origin != "" {
		return fmt.Sprintf("port %d/%s (%s)", p.port, p.network, p.origin)
	}
	return fmt.Sprintf("port %d/%s (%s)", p.port, p.network, p.flag)
}

// holdersShown is of how many taken ports of origins the owner is looked for: it
// takes a walk through all processes.
const holdersShown = 4

// tryPorts binds every port for a moment, as up will.
func (s *setup) tryPorts(ctx context.Context, origins []originFacts) []portFacts {
	var all []portFacts
	for _, l := range s.publicListeners() {
		all = append(all, portFacts{flag: l.flag, network: l.network, address: l.address})
	}
	for _, o := range origins {
		for _, l := range o.listeners {
			a := address{host: l.Addr.Addr().String(), port: int(l.Addr.Port())}
			if a.wildcard() {
				a.host = ""
			}
			all = append(all, portFacts{origin: o.id, network: l.Network, address: a})
		}
	}
	looked := 0
	for i := range all {
		p := &all[i]
		p.err = tryListen(ctx, p.network, net.JoinHostPort(p.host, strconv.Itoa(p.port)))
		if isBusy(p.err) && (p.origin == "" || looked < holdersShown) {
			p.holder = portHolder(p.network, p.port)
			if p.origin != "" {
				looked++
			}
		}
	}
	return all
}

// tryListen proves that an address can be bound without SO_REUSEPORT.
func tryListen(ctx context.Context, network, listen string) error {
	var lc net.ListenConfig
	var c io.Closer
	var err error
	if network == "udp" {
		c, err = lc.ListenPacket(ctx, network, listen)
	} else {
		c, err = lc.Listen(ctx, network, listen)
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// checkPortPlan: the origins' ports lie where nobody else looks for any.
func checkPortPlan(f *facts) []finding {
	switch {
	case f.cpusErr != nil:
		return nil
	case f.portPlanErr != nil:
		return []finding{fail("portplan", "%v", f.portPlanErr)}
	}
	first, last := f.setup.ports.Ports(0).RTMP, f.setup.ports.Last(len(f.setup.cpus.Origins))
	if f.kernel.EphemeralLo == runtime.Unknown {
		return []finding{ok("portplan", "origins use %d-%d", first, last)}
	}
	return []finding{ok("portplan", "origins use %d-%d, outside the ephemeral range %d-%d", first, last, f.kernel.EphemeralLo, f.kernel.EphemeralHi)}
}

// checkPorts has a line for each public port and one for those of the origins.
func checkPorts(f *facts) []finding {
	if f.instanceErr == nil {
		return []finding{ok("ports", "in use by the running instance, pid %d", f.instance)}
	}
	var found []finding
	var busy, refused []portFacts
	origins := 0
	for _, p := range f.ports {
		switch {
		case p.origin == "":
			found = append(found, checkPublicPort(f, p))
			continue
		case isBusy(p.err):
			busy = append(busy, p)
		case p.err != nil:
			refused = append(refused, p)
		}
		origins++
	}
	if len(busy) > 0 {
		var parts []string
		for _, p := range busy[:min(len(busy), holdersShown)] {
			parts = append(parts, fmt.Sprintf("%s is held by %s", p, p.holder))
		}
		if n := len(busy) - len(parts); n > 0 {
			parts = append(parts, fmt.Sprintf("and %d more", n))
		}
		found = append(found, fail("ports", "%s", strings.Join(parts, "; ")).fixedBy("%s", freeUp(busy[0], "port-base")))
	}
	if len(refused) > 0 {
		found = append(found, fail("ports", "%s: %v", refused[0], unwrapListen(refused[0].err)))
	}
	if origins > 0 && len(busy)+len(refused) == 0 {
		found = append(found, ok("ports", "%d ports of %d origins are free", origins, len(f.origins)))
	}
	return found
}

func checkPublicPort(f *facts, p portFacts) finding {
	switch {
	case p.err == nil && p.port != 0 && f.kernel.Ephemeral(p.port):
		return warn("ports", "%s is free, but lies in the kernel's ephemeral range: an outgoing connection can take it while up does not run", p).
			fixedBy("%s", reservePorts(f.kernel, p.port))
	case p.err == nil:
		return ok("ports", "%s is free", p)
	case isBusy(p.err):
		return fail("ports", "%s is held by %s", p, p.holder).fixedBy("%s", freeUp(p, p.flag))
	case errors.Is(p.err, unix.EACCES):
		return fail("ports", "%s: ports below %d need a privilege", p, f.kernel.FirstFreePort).
			fixedBy("sudo setcap cap_net_bind_service=+ep \"$(command -v srs-proxy)\"")
	case errors.Is(p.err, unix.EADDRNOTAVAIL):
		return fail("ports", "%s: %s is no address of this machine; choose another --%s", p, p.host, p.flag).fixedBy("ip -brief address")
	default:
		return fail("ports", "%s: %v; choose another --%s", p, unwrapListen(p.err), p.flag)
	}
}

// freeUp says how to be rid of a holder whose pid is known.
func freeUp(p portFacts, flag string) string {
	if pid, ok := strings.CutPrefix(p.holder, "pid "); ok {
		pid, _, _ = strings.Cut(pid, " ")
		return fmt.Sprintf("kill %s (or choose another --%s)", pid, flag)
	}
	proto := "t"
	if p.network == "udp" {
		proto = "u"
	}
	return fmt.Sprintf("sudo ss -%sanp 'sport = :%d' (or choose another --%s)", proto, p.port, flag)
}

// unwrapListen takes away the address that net puts into its errors: the line
// has it already.
func unwrapListen(err error) error {
	if oe, ok := errors.AsType[*net.OpError](err); ok {
		return oe.Err
	}
	return err
}

// reservePorts keeps the kernel from giving a port away, and keeps what is reserved.
func reservePorts(k runtime.Kernel, port int) string {
	var list []string
	for _, r := range append(slices.Clone(k.Reserved), runtime.PortRange{Lo: port, Hi: port}) {
		if r.Lo == r.Hi {
			list = append(list, strconv.Itoa(r.Lo))
			continue
		}
		list = append(list, fmt.Sprintf("%d-%d", r.Lo, r.Hi))
	}
	return "sudo sysctl -w net.ipv4.ip_local_reserved_ports=" + strings.Join(list, ",")
}

// loopbackSince is the SRS that takes an address for RTC and SRT.
func loopbackSince() srsconf.Version { return srsconf.Version{Major: 7, Revision: 67} }

// checkExposed: an origin is reached through the proxy. One that listens on all
// interfaces can be reached past it.
func checkExposed(f *facts) []finding {
	var open []string
	old, lo, hi, n := true, 0, 0, 0
	for _, o := range f.origins {
		for _, l := range o.listeners {
			if l.Addr.Addr().IsLoopback() {
				continue
			}
			n++
			port := int(l.Addr.Port())
			if lo == 0 || port < lo {
				lo = port
			}
			hi = max(hi, port)
			old = old && (strings.HasPrefix(l.Directive, "rtc_server") || strings.HasPrefix(l.Directive, "srt_server"))
			if len(open) < holdersShown {
				open = append(open, fmt.Sprintf("%d/%s (%s, %s)", port, l.Network, o.id, l.Directive))
			}
		}
	}
	if n == 0 {
		return nil
	}
	text := strings.Join(open, ", ")
	if n > len(open) {
		text += fmt.Sprintf(" and %d more", n-len(open))
	}
	why := "they are reached past the proxy"
	if v := f.setup.version; old && v.Major > 0 && !v.AtLeast(loopbackSince()) {
		why = fmt.Sprintf("SRS before %s has no way not to (this is %s)", loopbackSince(), v)
	}
	return []finding{warn("exposed", "origins listen on other addresses than loopback: %s; %s", text, why).fixedBy("%s", closeOff(lo, hi))}
}

// closeOff lets only this machine itself reach a range of ports.
func closeOff(lo, hi int) string {
	ports := strconv.Itoa(lo)
	if hi > lo {
		ports = fmt.Sprintf("%d-%d", lo, hi)
	}
	return fmt.Sprintf(`echo 'table inet srs_proxy { chain input { type filter hook input priority -10; iif != lo meta l4proto { tcp, udp } th dport %s drop; }; }' | sudo nft -f -`, ports)
}
