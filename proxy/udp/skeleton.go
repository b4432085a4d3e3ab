package udp

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Listen binds the sockets of all shards, or none.
func (s *Server) Listen() error { return nil }

// Addr is where the server listens, once Listen has returned: a *net.UDPAddr.
func (s *Server) Addr() net.Addr { return &net.UDPAddr{} }

// Shards are the event loops, once Listen has returned.
func (s *Server) Shards() []*Shard { return s.shards }

// Run serves until ctx is cancelled; then all flows are closed.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Close frees the addresses of a server that will not Run.
func (s *Server) Close() {}

// Stats returns the counters.
func (s *Server) Stats() Stats { return Stats{} }

// Shard is one event loop with its sockets.
type Shard struct {
	server *Server
	index  int
}

// Index numbers the shards from 0; it is where a protocol keeps what is the shard's own.
func (sh *Shard) Index() int { return sh.index }

// Now is when the shard began with the datagrams at hand: the time to a millisecond
// or so, for free. Only for the shard's goroutine.
func (sh *Shard) Now() time.Time { return time.Now() }

// ToClient sends a datagram to a client, from the address that the client knows.
// Only for the shard's goroutine; any shard can reach any client. The payload is not
// copied: it must stay as it is until the callback that sends it has returned and the
// shard flushes, so give the callback's own payload or memory that is not reused.
func (sh *Shard) ToClient(to Peer, payload []byte) {}

// Post runs f on the shard's goroutine, soon. For any goroutine; it never blocks and
// says false when the shard has stopped and f will not run.
func (sh *Shard) Post(f func()) bool { return false }

// Open makes a session's way to its origin: from an address of the session's own if
// the origin is on loopback, else by a connected socket. client is whom the source
// address stands for, see source.Pool. Only for the shard's goroutine.
func (sh *Shard) Open(origin, client netip.AddrPort, r Receiver) (*Flow, error) {
	return nil, ErrClosed
}

// Flow is a session's way to its origin and back.
type Flow struct {
	shard  *Shard
	origin netip.AddrPort
	local  netip.AddrPort
}

// ToOrigin sends a datagram to the flow's origin. sh is the shard whose goroutine
// calls, which need not be the one that opened the flow: a client whose port changed
// comes to another. The payload is as with ToClient.
func (f *Flow) ToOrigin(sh *Shard, payload []byte) {}

// Origin is where the flow goes.
func (f *Flow) Origin() netip.AddrPort { return f.origin }

// Local is the session's address as the origin sees it.
func (f *Flow) Local() netip.AddrPort { return f.local }

// Close ends the flow, soon, and gives its address back. For any goroutine; calls
// after the first do nothing. FromOrigin may still be called once the first returns,
// until the shard has got to it.
func (f *Flow) Close() {}
