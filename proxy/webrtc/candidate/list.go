package candidate

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"srs-proxy/protocol/sdp"
)

// How long what was found is believed. Addresses of a machine come and go with its
// leases and failovers; names change as their owners' providers do.
const (
	detectTTL = 10 * time.Second
	nameTTL   = time.Minute
)

// resolveTimeout bounds one lookup of a name: a client waits for its answer.
const resolveTimeout = time.Second

// maxNames bounds the names that are remembered, as clients bring some.
const maxNames = 256

// Config of a List.
type Config struct {
	// Fixed are the candidates that the operator chose; none means to detect.
	Fixed []Spec
	// TCP has each candidate offered over TCP too.
	TCP bool
}

// Request is what the candidates of one answer depend on.
type Request struct {
	// Local is where the proxy takes media: its port is the default one, and an
	// address that is not a wildcard is the only one that can be detected.
	Local netip.AddrPort
	// EIP is what the client asked for, as SRS has it: IP or IP:port; may be empty.
	EIP string
	// Host is the host of the client's request, with a port or without.
	Host string
}

// Lookup finds the addresses of a name; net.Resolver's LookupNetIP is one.
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// List makes the candidates of answers.
type List struct {
	log       *slog.Logger
	addresses func() ([]Address, error)
	lookup    Lookup

	mu       sync.Mutex // guards the following
	cfg      Config
	detected []Address
	detectAt time.Time
	told     string // what was logged last
	names    map[string]resolved
}

type resolved struct {
	addrs []netip.Addr
	until time.Time
}

// New returns a List.
func New(cfg Config, log *slog.Logger) *List {
	return &List{cfg: cfg, log: log, addresses: Addresses, lookup: net.DefaultResolver.LookupNetIP, names: make(map[string]resolved)}
}

// SetFixed changes the operator's choice, for answers from now on.
func (l *List) SetFixed(fixed []Spec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg.Fixed = fixed
}

// For lists the candidates of one answer, the preferred one first. A client that names
// one by EIP gets that, and the others behind it, as it does from SRS.
func (l *List) For(ctx context.Context, req Request) []sdp.Candidate {
	l.mu.Lock()
	cfg := l.cfg
	l.mu.Unlock()
	var specs []Spec
	if eip, err := Parse(req.EIP); err == nil {
		specs = append(specs, eip)
	}
	if len(cfg.Fixed) > 0 {
		for _, f := range cfg.Fixed {
			specs = append(specs, l.resolve(ctx, f, true)...)
		}
	} else {
		specs = append(specs, l.hostOf(ctx, req.Host)...)
		for _, a := range l.detect(req.Local) {
			specs = append(specs, Spec{Host: a.Addr.String()})
		}
	}
	var udp, tcp []sdp.Candidate
	for i, s := range specs {
		if s.Port == 0 {
			s.Port = int(req.Local.Port())
		}
		c := sdp.Candidate{Host: s.Host, Port: s.Port}
		if slices.Contains(udp, c) || i > maxSpecs+maxDetected {
			continue
		}
		udp = append(udp, c)
		if cfg.TCP {
			c.TCP = true
			tcp = append(tcp, c)
		}
	}
	return append(udp, tcp...)
}

// hostOf is the host that the client asked: what it reached once, it reaches again.
// It is what makes a machine behind a NAT work without a setting, and SRS's
// api_as_candidates. Loopback says nothing to anybody else.
func (l *List) hostOf(ctx context.Context, hostport string) []Spec {
	s, err := Parse(hostport)
	if err != nil || s.Host == "localhost" || strings.HasSuffix(s.Host, ".localhost") {
		return nil
	}
	s.Port = 0 // of HTTP
	var outside []Spec
	for _, r := range l.resolve(ctx, s, false) {
		if ip, err := netip.ParseAddr(r.Host); err == nil && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			outside = append(outside, r)
		}
	}
	return outside
}

// resolve makes a name addresses, which is all that some clients take. A name of the
// operator's that cannot be resolved stays one: others may know it.
func (l *List) resolve(ctx context.Context, s Spec, keep bool) []Spec {
	if _, err := netip.ParseAddr(s.Host); err == nil {
		return []Spec{s}
	}
	name := strings.ToLower(strings.TrimSuffix(s.Host, "."))
	now := time.Now()
	l.mu.Lock()
	known, ok := l.names[name]
	l.mu.Unlock()
	if !ok || now.After(known.until) {
		known = l.ask(ctx, name, known, now)
	}
	if len(known.addrs) == 0 {
		if keep {
			return []Spec{s}
		}
		return nil
	}
	var out []Spec
	for _, a := range known.addrs[:min(len(known.addrs), maxDetected)] {
		out = append(out, Spec{a.Unmap().String(), s.Port})
	}
	return out
}

// ask looks a name up. After a failure what was known before holds on.
func (l *List) ask(ctx context.Context, name string, before resolved, now time.Time) resolved {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found := resolved{addrs: before.addrs, until: now.Add(nameTTL)}
	addrs, err := l.lookup(ctx, "ip", name)
	if err != nil {
		l.log.Debug("a candidate's name was not resolved", "proto", "rtc", "name", name, "cause", err)
		found.until = now.Add(detectTTL)
	} else {
		found.addrs = addrs
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.names) >= maxNames {
		clear(l.names)
	}
	l.names[name] = found
	return found
}

// detect finds this machine's addresses, and logs them when they are others than before.
func (l *List) detect(local netip.AddrPort) []Address {
	if a := local.Addr().Unmap(); a.IsValid() && !a.IsUnspecified() {
		return []Address{{Addr: a}}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.detected == nil || now.After(l.detectAt.Add(detectTTL)) {
		all, err := l.addresses()
		if err != nil {
			l.log.Warn("addresses of this machine", "proto", "rtc", "cause", err)
		}
		chosen, why := Choose(all)
		l.detected, l.detectAt = chosen, now
		l.tellLocked(chosen, why)
	}
	if local.Addr().Is4() { // 0.0.0.0: no IPv6 there
		return slices.DeleteFunc(slices.Clone(l.detected), func(a Address) bool { return !a.Is4() })
	}
	return l.detected
}

func (l *List) tellLocked(chosen []Address, why string) {
	names := make([]string, 0, len(chosen))
	for _, a := range chosen {
		names = append(names, a.String())
	}
	text := strings.Join(names, ", ")
	if text == l.told {
		return
	}
	l.told = text
	l.log.Info("WebRTC candidates detected", "proto", "rtc", "candidates", text, "because", why)
}

// Announce logs what clients will be told, for whoever reads the log at the start.
func (l *List) Announce(ctx context.Context, local netip.AddrPort) {
	l.mu.Lock()
	fixed := l.cfg.Fixed
	l.mu.Unlock()
	if len(fixed) == 0 {
		l.detect(local)
		return
	}
	var names []string
	for _, f := range fixed {
		for _, s := range l.resolve(ctx, f, true) {
			names = append(names, s.String())
		}
	}
	l.log.Info("WebRTC candidates", "proto", "rtc", "candidates", strings.Join(names, ", "), "because", "--candidate says so")
}
