package route

import (
	"net/netip"
	"slices"
	"sync"

	"srs-proxy/balancer"
)

// publishers knows who publishes what through this proxy. An origin sees the
// proxy's address in place of the client's.
type publishers struct {
	mu       sync.Mutex                      // guards byStream
	byStream map[balancer.Stream][]publisher // oldest first
}

type publisher struct {
	session any // *Conn or *Held
	client  netip.Addr
	origin  string
}

// Publishes says that a client publishes the stream of c's lease, until c closes.
// Of two it is the first: an origin refuses the other one, or has seen the first go
// when we have not yet.
func (c *Conn) Publishes(client netip.Addr) {
	c.router.publishers.add(c.Lease.Stream, publisher{c, client, c.Lease.Origin.ID})
}

func (p *publishers) add(s balancer.Stream, who publisher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byStream == nil {
		p.byStream = make(map[balancer.Stream][]publisher)
	}
	p.byStream[s] = append(p.byStream[s], who)
}

func (p *publishers) remove(s balancer.Stream, session any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := slices.DeleteFunc(p.byStream[s], func(o publisher) bool { return o.session == session })
	if len(left) == 0 {
		delete(p.byStream, s)
	} else {
		p.byStream[s] = left
	}
}

// Publisher is the address of the client that publishes a stream through this
// proxy, and the origin it does so at.
func (r *Router) Publisher(s balancer.Stream) (client netip.Addr, originID string, ok bool) {
	p := &r.publishers
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.byStream[s]
	if len(all) == 0 {
		return netip.Addr{}, "", false
	}
	return all[0].client, all[0].origin, true
}
