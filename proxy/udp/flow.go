package udp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flow is a session's way to its origin and back.
type Flow struct {
	shard    *Shard // that opened it
	origin   netip.AddrPort
	local    netip.AddrPort
	receiver Receiver
	closing  atomic.Bool

	connected bool                  // by a socket of its own
	name      unix.RawSockaddrInet4 // of the origin, and
	control   pktinfo4              // the session's address, for the wildcard socket

	mu sync.Mutex // guards fd from being closed, and then another's, while it is written to
	fd int        // of the connected socket; -1 when closed
}

// Open makes a session's way to its origin: from an address of the session's own if
// the origin is on IPv4 loopback, else by a connected socket (of which the system has
// as many as it has ephemeral ports and descriptors). client is whom the source
// address stands for, see source.Pool. Only for the shard's goroutine.
func (sh *Shard) Open(origin, client netip.AddrPort, r Receiver) (*Flow, error) {
	if sh.closed {
		return nil, ErrClosed
	}
	origin = netip.AddrPortFrom(origin.Addr().Unmap(), origin.Port())
	f := &Flow{shard: sh, origin: origin, receiver: r}
	var err error
	if ip := origin.Addr(); ip.Is4() && ip.IsLoopback() {
		err = f.takeSource(client)
	} else {
		err = f.connect()
	}
	if err != nil {
		return nil, fmt.Errorf("open a flow to %s: %w", origin, err)
	}
	sh.counters.flows.Add(1)
	return f, nil
}

func (f *Flow) takeSource(client netip.AddrPort) error {
	source, err := f.shard.server.sources.Take(client)
	if err != nil {
		return err
	}
	f.local = netip.AddrPortFrom(source, f.shard.wildcardPort)
	f.name.Family = unix.AF_INET
	setPort(&f.name.Port, f.origin.Port())
	f.name.Addr = f.origin.Addr().As4()
	f.control.from(source)
	f.shard.bySource[number(source)] = f
	return nil
}

func (f *Flow) connect() error {
	fd, local, err := openConnected(f.origin)
	if err != nil {
		return err
	}
	if err := f.shard.epoll.Add(fd, unix.EPOLLIN, fd); err != nil {
		unix.Close(fd)
		return err
	}
	f.connected, f.fd, f.local = true, fd, local
	f.shard.bySocket[fd] = f
	return nil
}

func number(ip netip.Addr) uint32 {
	b := ip.As4()
	return binary.BigEndian.Uint32(b[:])
}

// Origin is where the flow goes.
func (f *Flow) Origin() netip.AddrPort { return f.origin }

// Local is the session's address as the origin sees it.
func (f *Flow) Local() netip.AddrPort { return f.local }

// ToOrigin sends a datagram to the flow's origin. sh is the shard whose goroutine
// calls, which need not be the one that opened the flow: a client whose port changed
// comes to another, and the origin must not see that. The payload is as with ToClient.
func (f *Flow) ToOrigin(sh *Shard, payload []byte) {
	switch {
	case f.closing.Load():
	case f.connected:
		sh.countSent(&sh.counters.toOrigins, 1, f.write(payload))
	case sh == f.shard:
		if sh.toOrigins.full() {
			sh.flushOrigins()
		}
		if sh.toOrigins.n > 0 && sh.lastFlow == f {
			sh.toOrigins.addSame(payload)
			return
		}
		f.address(sh.toOrigins.add(payload))
		sh.lastFlow = f
	default:
		f.address(sh.across.add(payload))
		sh.countSent(&sh.counters.toOrigins, 1, sh.across.flush(f.shard.wildcard))
	}
}

// write sends to a connected origin and says how many datagrams went, 1 or 0.
func (f *Flow) write(payload []byte) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fd < 0 {
		return 0
	}
	_, err := unix.Write(f.fd, payload)
	return flag(err == nil)
}

func (f *Flow) address(m *unix.Msghdr, _ *envelope) {
	m.Name, m.Namelen = (*byte)(unsafe.Pointer(&f.name)), unix.SizeofSockaddrInet4
	m.Control = (*byte)(unsafe.Pointer(&f.control))
	m.SetControllen(lenPktinfo4)
}

// Close ends the flow, soon, and gives its address back. For any goroutine; calls
// after the first do nothing. FromOrigin may still be called once the first returns,
// until the shard has got to it.
func (f *Flow) Close() {
	if f.closing.CompareAndSwap(false, true) {
		f.shard.Post(f.end) // a shard that has stopped has ended its flows itself
	}
}

// end is Close on the shard's goroutine.
func (f *Flow) end() {
	sh := f.shard
	if f.connected {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(sh.bySocket, f.fd)
		unix.Close(f.fd) // leaves the epoll set by itself
		f.fd = -1
	} else {
		delete(sh.bySource, number(f.local.Addr()))
		sh.server.sources.Release(f.local.Addr())
	}
	sh.counters.flows.Add(-1)
}
