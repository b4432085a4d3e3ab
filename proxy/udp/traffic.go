package udp

import (
	"sync/atomic"
)

func (sh *Shard) readPublic() {
	n, _ := sh.in.receive(sh.public)
	sh.counters.fromClients.Add(int64(n))
	for i := range n {
		payload, whole := sh.in.payload(i)
		from, ok := sh.in.envelopes[i].peer(sh.family)
		if !whole || !ok {
			sh.counters.tooLong.Add(1)
			continue
		}
		sh.server.handler.FromClient(sh, payload, from)
	}
}

// readWildcard tells sessions apart by the address that a datagram was sent to. Any
// process of this host can send there; only what the session's origin sent is taken.
func (sh *Shard) readWildcard() {
	n, _ := sh.in.receive(sh.wildcard)
	sh.counters.fromOrigins.Add(int64(n))
	for i := range n {
		payload, whole := sh.in.payload(i)
		if !whole {
			sh.counters.tooLong.Add(1)
			continue
		}
		e := &sh.in.envelopes[i]
		f := sh.bySource[e.sentTo()]
		if f == nil || !e.has4() || e.from4() != f.origin {
			sh.counters.strangers.Add(1)
			continue
		}
		sh.deliver(f, payload)
	}
}

// readConnected takes what the kernel has found to be from the flow's origin.
func (sh *Shard) readConnected(f *Flow) {
	n, _ := sh.in.receive(f.fd) // an error is that of an earlier datagram, such as a refusal
	sh.counters.fromOrigins.Add(int64(n))
	for i := range n {
		if payload, whole := sh.in.payload(i); whole {
			sh.deliver(f, payload)
		} else {
			sh.counters.tooLong.Add(1)
		}
	}
}

func (sh *Shard) deliver(f *Flow, payload []byte) {
	if !f.closing.Load() {
		f.receiver.FromOrigin(sh, payload)
	}
}

// ToClient sends a datagram to a client, from the address that the client knows.
// Only for the shard's goroutine; any shard can reach any client. The payload is not
// copied: it must stay as it is until the callback that sends it has returned and the
// shard has flushed, so give the callback's own payload or memory that is not reused.
func (sh *Shard) ToClient(to Peer, payload []byte) {
	if sh.toClients.full() {
		sh.flushClients()
	}
	if sh.toClients.n > 0 && sh.lastPeer == to {
		sh.toClients.addSame(payload)
		return
	}
	m, e := sh.toClients.add(payload)
	e.toPeer(sh.family, to, m)
	sh.lastPeer = to
}

// flush sends what a batch has brought about, before the batch's buffers are reused.
func (sh *Shard) flush() {
	sh.flushClients()
	sh.flushOrigins()
}

func (sh *Shard) flushClients() {
	if n := sh.toClients.n; n > 0 {
		sh.countSent(&sh.counters.toClients, n, sh.toClients.flush(sh.public))
	}
}

func (sh *Shard) flushOrigins() {
	if n := sh.toOrigins.n; n > 0 {
		sh.countSent(&sh.counters.toOrigins, n, sh.toOrigins.flush(sh.wildcard))
	}
}

func (sh *Shard) countSent(c *atomic.Int64, all, sent int) {
	c.Add(int64(sent))
	if sent < all {
		sh.counters.unsent.Add(int64(all - sent))
	}
}
