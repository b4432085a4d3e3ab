package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"srs-proxy/proxy/srt"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// newProxySetup makes the decisions of a proxy without a supervisor: as newSetup, less
// all that is about processes.
func newProxySetup(ctx context.Context, cfg *resolved) (*setup, error) {
	s := &setup{cfg: cfg}
	if err := errors.Join(s.planProxyCPUs(), s.raiseLimits(ctx)); err != nil {
		return nil, err
	}
	return s, nil
}

// followProxy is the setup of a changed configuration, on the machine as it was found at the
// start: by now this process may have only some of its CPUs.
func (s *setup) followProxy(ctx context.Context, cfg *resolved, dry bool) (*setup, error) {
	next := &setup{cfg: cfg, host: s.host, nofile: max(s.nofile, cfg.NoFile)}
	err := next.planProxyCPUs()
	if err == nil && !dry {
		err = next.raiseLimits(ctx)
	}
	return next, err
}

// planProxyCPUs takes all CPUs, or what a quota leaves of them.
func (s *setup) planProxyCPUs() error {
	host := s.host
	if len(host.CPUs) == 0 {
		var err error
		if host, err = runtime.ReadTopology("/"); err != nil {
			return fmt.Errorf("CPUs of this machine: %w", err)
		}
		s.host = host
	}
	if len(s.cfg.ProxyCPUs) == 0 {
		s.cpus.Proxy = host.Allowed()
		if cores := max(1, int(host.Quota+0.01)); host.Quota > 0 && cores < len(s.cpus.Proxy) {
			s.cpus.Proxy = s.cpus.Proxy[:cores] // as many threads, wherever they run
		}
		return nil
	}
	plan, err := host.Plan(runtime.PlanRequest{ProxyCPUs: s.cfg.ProxyCPUs})
	if errors.Is(err, runtime.ErrCPUNotAllowed) {
		return fmt.Errorf("%w; see --proxy-cpus", err)
	}
	s.cpus.Proxy = plan.Proxy
	return err
}

// servedElsewhere is what is known of the config of origins that somebody else runs:
// what the operator wrote down of it.
func (s *setup) servedElsewhere() (served, error) {
	if s.cfg.Vhosts == "" {
		return served{streamIDs: srt.StreamIDs{}}, nil
	}
	root, err := srsconf.ParseFile(s.cfg.Vhosts)
	if err != nil {
		return served{}, fmt.Errorf("vhosts file: %w", err)
	}
	return servedBy(root), nil
}

// isOwn says that an address is one of the proxy's: on one of its ports, at one of this
// machine's addresses.
func (s *setup) isOwn(network string, addr netip.AddrPort) bool {
	for _, l := range s.publicListeners() {
		if l.network != network || l.port != int(addr.Port()) {
			continue
		}
		if ip, err := netip.ParseAddr(l.host); err == nil && !ip.IsUnspecified() && ip.Unmap() != addr.Addr() {
			continue
		}
		if isThisMachine(addr.Addr()) {
			return true
		}
	}
	return false
}

func isThisMachine(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == ip {
			return true
		}
	}
	return false
}
