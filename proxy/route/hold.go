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
	moved  atomic.Bool
	tell   func() // Request.Moved
}

// Moved tells what Request.Moved does, to who looks now and then.
func (h *Held) Moved() bool { return h.moved.Load() }

// leave makes it moved.
func (h *Held) leave() {
	h.moved.Store(true)
	if h.tell != nil {
		h.tell()
	}
}

// Hold takes a session of datagrams to the origin of its stream: as Connect, but
// take has to do all that is to be done with an origin. It fails with an error of Retry
// if another origin should be tried. The caller closes the Held when the session ends.
func (r *Router) Hold(ctx context.Context, req Request, take func(ctx context.Context, lease balancer.Lease) error) (*Held, error) {
	lease, err := r.place(ctx, req, func(ctx context.Context, lease balancer.Lease) error {
		if endpoint(lease.Origin, req.Proto) == "" {
			return noEndpoint(lease, req.Proto)
		}
		return take(ctx, lease)
	})
	if err != nil {
		return nil, err
	}
	h := &Held{Lease: lease, router: r, tell: req.Moved}
	if req.Role == balancer.Play {
		r.streams.play(lease, h, h.leave)
	}
	return h, nil
}

// Publishes says that a client publishes the stream of the lease, until Close, which
// the origin has accepted; see Conn.Publishes and Conn.Accepted.
func (h *Held) Publishes(client netip.Addr) {
	h.router.streams.publish(h.Lease, h, client, h.leave)
	h.router.streams.accept(h.Lease, h)
}

// Close gives the lease back. Calls after the first do nothing.
func (h *Held) Close() {
	if h.closed.CompareAndSwap(false, true) {
		h.router.streams.remove(h.Lease.Stream, h)
		l := h.Lease
		l.Served = l.Role == balancer.Publish // or it would not be held
		h.router.release(l)
	}
}
