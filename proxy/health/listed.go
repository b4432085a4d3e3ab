package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"srs-proxy/balancer"
)

// Listing is an origin that does not register, as an operator writes it down: with IP
// addresses, or with one host name in all of them, of which there is an origin at each
// address, as Kubernetes' headless Services and StatefulSets have it.
type Listing struct {
	Name string
	// Endpoints are "host:port".
	Endpoints balancer.Endpoints
}

const (
	// resolveEvery is how often a name is looked up, and resolveSoon how often while it
	// has no address or an origin of it does not answer: DNS servers are asked by many.
	resolveEvery = 5 * time.Second
	resolveSoon  = time.Second
	// resolveTimeout is that of the system's resolver for one server.
	resolveTimeout = 5 * time.Second
	// maxAddresses bounds what one name brings.
	maxAddresses = 256
)

var errNoAddress = errors.New("the name has no address that can be connected to")

// host is a name with the addresses that it has had lately.
type host struct {
	looking bool // a lookup is under way
	due     time.Time
	// seen is when an answer last had the address. One that no answer has for the TTL is
	// listed no more: some DNS servers give a part of their addresses at a time.
	seen    map[netip.Addr]time.Time
	failing bool // the last lookup did, and that was logged
}

// hostOf is the name in the addresses of a listing, "" where they are IP addresses.
func (l Listing) hostOf() string { return HostName(l.Endpoints.RTMP) }

// HostName is the host name of "host:port", "" where that is an IP address or no address at all.
func HostName(addr string) string {
	host, _, _ := net.SplitHostPort(addr) // "" where there is none
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return host
}

// at is the origin of a listing that is at ip.
func (l Listing) at(ip netip.Addr) Origin {
	o := Origin{Name: l.Name, Endpoints: l.Endpoints, Static: true}
	for _, e := range []*string{&o.Endpoints.RTMP, &o.Endpoints.HTTP, &o.Endpoints.API, &o.Endpoints.SRT, &o.Endpoints.RTC} {
		if _, port, err := net.SplitHostPort(*e); err == nil {
			*e = net.JoinHostPort(ip.String(), port)
		}
	}
	o.ID = o.Endpoints.RTMP
	return o
}

// List makes these the origins that do not register, in place of those that were. One
// that is not among them any more gets no new streams, and is forgotten when its sessions
// have ended. Names are looked up by Run, from now on: one that cannot be resolved is
// logged and tried again, as a Service without a ready pod has no address either.
func (m *Monitor) List(ctx context.Context, all []Listing) {
	hosts := make(map[string]*host)
	m.mu.Lock()
	m.listed = slices.Clone(all)
	for _, l := range all {
		if name := l.hostOf(); name != "" {
			hosts[name] = cmp.Or(m.hosts[name], hosts[name], &host{seen: make(map[netip.Addr]time.Time)})
			hosts[name].due = time.Now()
		}
	}
	m.hosts = hosts
	m.mu.Unlock()
	m.relist(ctx)
}

// unresolved are the names that it is time to look up.
func (m *Monitor) unresolved(now time.Time) (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, h := range m.hosts {
		if !h.looking && !now.Before(h.due) {
			h.looking = true
			names = append(names, name)
		}
	}
	return names
}

// resolve looks a name up once.
func (m *Monitor) resolve(ctx context.Context, name string) {
	asked, cancel := context.WithTimeout(ctx, resolveTimeout)
	found, err := m.cfg.Lookup(asked, name)
	cancel()
	found = usable(found)
	if err == nil && len(found) == 0 {
		err = errNoAddress
	}
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	m.mu.Lock()
	h := m.hosts[name]
	if h == nil {
		m.mu.Unlock()
		return // it is listed no more
	}
	h.looking = false
	h.due = now.Add(resolveEvery)
	switch {
	case err == nil:
		h.take(found, now, m.cfg.TTL)
	case len(h.seen) == 0:
		h.due = now.Add(resolveSoon)
	}
	if failing := err != nil; failing != h.failing {
		h.failing = failing
		if failing {
			m.log.Warn("the name of a listed origin cannot be resolved; it is tried again, and addresses that it had stay", "host", name, "addresses", len(h.seen), "cause", err)
		} else {
			m.log.Info("the name of a listed origin can be resolved", "host", name, "addresses", len(h.seen))
		}
	}
	m.mu.Unlock()
	m.relist(ctx)
	if !m.allUp(name) {
		m.soon(name, now.Add(resolveSoon))
	}
}

// take adds an answer to what is known.
func (h *host) take(found []netip.Addr, now time.Time, ttl time.Duration) {
	for _, ip := range found {
		h.seen[ip] = now
	}
	for ip, at := range h.seen {
		if now.Sub(at) > ttl {
			delete(h.seen, ip)
		}
	}
}

// soon has a name looked up then, unless that is to be earlier.
func (m *Monitor) soon(name string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.hosts[name]; h != nil && h.due.After(at) {
		h.due = at
	}
}

// allUp says that the origins of a name get streams.
func (m *Monitor) allUp(name string) bool {
	for _, o := range m.origins(name) {
		if known := m.member(o.Endpoints.RTMP); known == nil || !known.status().Up {
			return false
		}
	}
	return true
}

// relist makes the members that do not register those that are listed, at the addresses
// that their names have now.
func (m *Monitor) relist(ctx context.Context) {
	m.listing.Lock()
	defer m.listing.Unlock()
	wanted, gone := m.compare()
	for _, o := range gone {
		o.unlist()
		if o.expire(ctx) {
			m.forget(o.status().Endpoints.RTMP, o)
		}
	}
	for _, o := range wanted {
		if o.ID != o.Endpoints.RTMP && m.taken(o) {
			m.log.Warn("the origin is known by its address: another one of its name still has sessions", "name", o.ID, "address", o.Endpoints.RTMP)
			o.ID = o.Endpoints.RTMP
		}
		err := m.admit(ctx, o)
		if errors.Is(err, errGone) {
			err = m.admit(ctx, o)
		}
		if err != nil {
			m.log.Warn("the listed origin is not taken in", "origin", o.ID, "cause", err)
		}
	}
}

// compare tells the origins that are listed and not known so, and the members that
// were.
func (m *Monitor) compare() (wanted []Origin, gone []*member) {
	all := make(map[string]bool)
	for _, o := range m.origins("") {
		key := o.Endpoints.RTMP
		if all[key] {
			continue // two names of one place
		}
		all[key] = true
		if known := m.member(key); known != nil {
			if was := known.status(); was.Static && was.Endpoints == o.Endpoints {
				continue
			}
		}
		wanted = append(wanted, o)
	}
	for _, o := range m.all() {
		if was := o.status(); was.Static && !all[was.Endpoints.RTMP] {
			gone = append(gone, o)
		}
	}
	return wanted, gone
}

// origins are those that are listed, at the addresses that their names have: all of
// them, or those of one name.
func (m *Monitor) origins(only string) (all []Origin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.listed {
		name := l.hostOf()
		if only != "" && name != only {
			continue
		}
		if name == "" {
			all = append(all, Origin{ID: cmp.Or(l.Name, l.Endpoints.RTMP), Name: l.Name, Endpoints: l.Endpoints, Static: true})
			continue
		}
		for _, ip := range slices.SortedFunc(maps.Keys(m.hosts[name].seen), netip.Addr.Compare) {
			all = append(all, l.at(ip))
		}
	}
	return all
}

func (m *Monitor) member(key string) *member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members[key]
}

// taken says that another place has the origin's ID.
func (m *Monitor) taken(o Origin) bool {
	for _, other := range m.all() {
		if s := other.status(); s.ID == o.ID && s.Endpoints.RTMP != o.Endpoints.RTMP {
			return true
		}
	}
	return false
}

// usable are the addresses of a name that origins can be at. Where there are some of
// IPv4, those of IPv6 are left out: they would be the same origins once more.
func usable(found []netip.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, ip := range found {
		switch ip = ip.Unmap(); {
		case ip.IsUnspecified(), ip.IsMulticast(), ip.Zone() != "", !ip.IsValid():
		case ip.Is4():
			four = append(four, ip)
		default:
			six = append(six, ip)
		}
	}
	if len(four) == 0 {
		four = six
	}
	return four[:min(len(four), maxAddresses)]
}

// lookup asks the system's resolver, hosts file and all.
func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	return found, nil
}
