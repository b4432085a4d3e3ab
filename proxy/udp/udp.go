// Package udp has the sockets of the datagram protocols: few of them, for any
// number of sessions.
//
//	clients ═▶ public socket ─┐                      ┌─▶ wildcard socket ═▶ origins on
//	           (SO_REUSEPORT) ├─ Shard: one goroutine┤   (a source address  this machine
//	clients ◀═════════════════┘   and its Handler    │    for each session)
//	                                                 └─▶ connected socket ═▶ other origins
//	                                                     (one for each session)
//
// A shard is an event loop. Everything that a Handler and a Receiver are called with
// comes from its shard's goroutine, so what belongs to a shard needs no lock. The
// kernel hashes a client's address and port to one shard, which stays the same until
// the client's port changes.
//
// An origin on loopback sees each session as a peer of its own, by a source address
// out of 127.64.0.0/10; its answers come back to one socket and are told apart by the
// address that they were sent to. What did not come from the origin of that session
// is dropped.
//
// Nothing is allocated for a datagram. The package knows no protocol, keeps no
// sessions, and never retries what a socket does not take: datagrams may be lost.
package udp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// MaxDatagram is the longest payload that is passed on, in bytes: an Ethernet frame
// and some. Longer ones are dropped and counted.
const MaxDatagram = 2048

// DefaultTick is how often Handler.Tick is called.
const DefaultTick = time.Second

// ErrClosed says that the shard has stopped.
var ErrClosed = errors.New("the UDP shard has stopped")

// Config of a Server. Zero values mean the defaults.
type Config struct {
	// Listen is "host:port"; ":port" means all interfaces, IPv4 and IPv6.
	Listen string
	// Shards is how many event loops to run: one for each CPU that the proxy may
	// use. 0 means 1.
	Shards int
	// Tick is the period of Handler.Tick; 0 means DefaultTick.
	Tick time.Duration
}

// Sources hands out the addresses that sessions have toward origins on loopback;
// *source.Pool is one.
type Sources interface {
	Take(client netip.AddrPort) (netip.Addr, error)
	Release(netip.Addr)
}

// Peer is a client as the public side sees it. It is comparable: a key for the
// tables of a protocol.
type Peer struct {
	// Addr is where the client sends from. IPv4 is never v4-in-v6, and there is no
	// zone: see Interface.
	Addr netip.AddrPort
	// Local is the address of this host that the client sent to; answers come from it.
	Local netip.Addr
	// Interface is the index of the network interface of a link-local client, 0
	// for all others.
	Interface uint32
}

// Handler is the protocol above the sockets. Its methods are called on the shard's
// goroutine and must not block: while one runs, the shard serves nobody else. One
// Handler serves all shards, so what is not a shard's own needs a lock.
type Handler interface {
	// FromClient takes a datagram that came to the public socket. The payload is
	// valid until FromClient returns; it may be given to ToClient and ToOrigin.
	FromClient(sh *Shard, payload []byte, from Peer)
	// Tick is called every Config.Tick, or as Shard.TickEvery said.
	Tick(sh *Shard, now time.Time)
}

// Receiver is a session's side that faces its origin.
type Receiver interface {
	// FromOrigin takes a datagram that the flow's origin sent, on the goroutine of
	// the shard that opened the flow. The payload is valid until FromOrigin returns;
	// it may be given to ToClient.
	FromOrigin(sh *Shard, payload []byte)
}

// Server has the sockets of one protocol.
type Server struct {
	cfg     Config
	handler Handler
	sources Sources
	log     *slog.Logger
	addr    *net.UDPAddr
	shards  []*Shard
}

// New returns a Server whose datagrams h handles.
func New(cfg Config, h Handler, sources Sources, log *slog.Logger) *Server {
	if cfg.Shards <= 0 {
		cfg.Shards = 1
	}
	if cfg.Tick <= 0 {
		cfg.Tick = DefaultTick
	}
	return &Server{cfg: cfg, handler: h, sources: sources, log: log}
}

// Listen binds the sockets of all shards, or none. SO_REUSEPORT would let us share
// the port with whoever set it too (SRS does) and lose a part of the clients to them,
// so it is proved to be free first.
func (s *Server) Listen() error {
	addr, err := net.ResolveUDPAddr("udp", s.cfg.Listen)
	if err != nil {
		return err
	}
	if err := s.bind(addr); err != nil {
		s.Close()
		return &net.OpError{Op: "listen", Net: "udp", Addr: addr, Err: err}
	}
	return nil
}

func (s *Server) bind(addr *net.UDPAddr) error {
	s.shards = nil // of a Listen that was followed by Close
	probe, family, err := openPublic(addr, 0, false)
	if err != nil {
		return err
	}
	port, err := portOf(probe)
	if closeErr := unix.Close(probe); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	for i := range s.cfg.Shards {
		sh, err := s.newShard(i, addr, family, port)
		if err != nil {
			return err
		}
		s.shards = append(s.shards, sh)
	}
	s.addr = &net.UDPAddr{IP: addr.IP, Port: port, Zone: addr.Zone}
	if s.addr.IP == nil {
		s.addr.IP = net.IPv6unspecified
	}
	return nil
}

// Addr is where the server listens, once Listen has returned: a *net.UDPAddr.
func (s *Server) Addr() net.Addr { return s.addr }

// Shards are the event loops, once Listen has returned.
func (s *Server) Shards() []*Shard { return s.shards }

// Run serves until ctx is cancelled; then all flows are closed.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	g, ctx := errgroup.WithContext(ctx)
	for _, sh := range s.shards {
		stop := context.AfterFunc(ctx, sh.stop)
		defer stop()
		g.Go(sh.run)
	}
	return g.Wait()
}

// Close frees the addresses of a server that does not Run.
func (s *Server) Close() {
	for _, sh := range s.shards {
		sh.close()
	}
}
