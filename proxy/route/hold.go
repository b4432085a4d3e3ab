package route

import (
	"context"
	"net/netip"
	"sync/atomic"

	"srs-proxy/balancer"
)

// Held is the lease of a session that has no connection to its origin.
type Held struct {
	Lease balancer.Lease

	router *Router
	closed atomic.Bool
}

// Hold takes a session of datagrams to the origin of its stream: as Connect, but
// take has to do all that is to be done with an origin. It fails with an error of Retry
// if another origin should be tried. The caller closes the Held when the session ends.
func (r *Router) Hold(ctx context.Context, req Request, take func(ctx context.Context, lease balancer.Lease) error) (*Held, error) {
	lease, err := r.place(ctx, req, func(lease balancer.Lease) error {
		if endpoint(lease.Origin, req.Proto) == "" {
			return noEndpoint(lease, req.Proto)
		}
		return take(ctx, lease)
	})
	if err != nil {
		return nil, err
	}
	return &Held{Lease: lease, router: r}, nil
}

// Publishes says that a client publishes the stream of the lease, until Close; see
// Conn.Publishes.
func (h *Held) Publishes(client netip.Addr) {
	h.router.publishers.add(h.Lease.Stream, publisher{h, client, h.Lease.Origin.ID})
}

// Close gives the lease back. Calls after the first do nothing.
func (h *Held) Close() {
	if h.closed.CompareAndSwap(false, true) {
		h.router.publishers.remove(h.Lease.Stream, h)
		h.router.release(h.Lease)
	}
}
