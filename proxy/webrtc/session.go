package webrtc

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/relay"
	"srs-proxy/proxy/udp"
)

// maxPaths is how many addresses of one client are known at a time: those of all its
// interfaces, and a few that it had before.
const maxPaths = 8

// session is one that was added.
type session struct {
	Session
	server   *Server
	username string
	password []byte // LocalPwd, which is not kept twice
	added    time.Time

	// client is where the client was last proved to be: where answers go. nil before
	// it was proved, and when its address has been taken over.
	client atomic.Pointer[udp.Peer]
	flow   atomic.Pointer[udp.Flow] // opened by the first proof over UDP

	// When something last came from the client and from the origin, see Server.since.
	heard, answered atomic.Int64

	datagramsIn, bytesIn   atomic.Int64
	datagramsOut, bytesOut atomic.Int64

	mu        sync.Mutex // guards the following fields, and Session's Stream and Role
	ended     bool
	paths     []path     // of the client's, oldest first
	tcp       *tcpClient // nil unless the client is there over TCP
	flowErr   error      // why there is no flow
	announced bool       // the log knows that the client came
	told      bool       // and of flowErr
}

// path is an address of a client and the shard that it comes to.
type path struct {
	shard *udp.Shard
	peer  udp.Peer
}

// tcpClient is a session's client that is there over TCP.
type tcpClient struct {
	peer netip.AddrPort
	end  context.CancelCauseFunc
	pair atomic.Pointer[relay.Pair] // nil until the origin is reached
}

// moved is what went through it so far.
func (t *tcpClient) moved() relay.Result {
	if pair := t.pair.Load(); pair != nil {
		return pair.Bytes()
	}
	return relay.Result{}
}

// moveTo makes an address that was proved the one to answer to. As with SRS, the
// latest proof counts, whether it nominates its path or not: a client's NAT may have
// given it another port, of which it knows nothing.
func (se *session) moveTo(peer udp.Peer) {
	old := se.client.Load()
	if old != nil && *old == peer {
		return
	}
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.ended {
		return
	}
	moved := peer // so that only a move allocates
	se.client.Store(&moved)
	if old != nil {
		se.server.moves.Add(1)
	}
}

// addPath notes an address. If there are too many, it returns the one that was given
// up for it. It says false if the session has ended.
func (se *session) addPath(p path) (oldest path, ok bool) {
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.ended {
		return path{}, false
	}
	if len(se.paths) == maxPaths {
		oldest = se.paths[0]
		se.paths = slices.Delete(se.paths, 0, 1)
	}
	se.paths = append(se.paths, p)
	return oldest, true
}

// losePath is called when an address is another session's.
func (se *session) losePath(p path) {
	se.mu.Lock()
	defer se.mu.Unlock()
	se.paths = slices.DeleteFunc(se.paths, func(q path) bool { return q == p })
	if c := se.client.Load(); c != nil && *c == p.peer {
		se.client.Store(nil)
	}
}

// openFlow makes the way to the origin; the shard whose goroutine calls will be the
// flow's for good.
func (se *session) openFlow(sh *udp.Shard, from udp.Peer) {
	se.mu.Lock()
	defer se.mu.Unlock()
	if se.ended || se.flow.Load() != nil {
		return
	}
	flow, err := sh.Open(se.UDP, from.Addr, se)
	if err != nil {
		se.flowErr = err // for the sweep to log: the shard must not wait for a log
		return
	}
	se.answered.Store(se.server.since(sh.Now()))
	se.flow.Store(flow)
}

// Info is a session as it stands.
type Info struct {
	Username string
	Stream   balancer.Stream
	Role     balancer.Role
	OriginID string
	Since    time.Time
	// Media is the client's proved address, invalid before the first request that
	// proves it. Local is the session's address as its origin sees it, over UDP.
	Media, Local netip.AddrPort
	TCP          bool // the client is there over TCP
	// Payload bytes, with the framing over TCP; datagrams over UDP only.
	BytesIn, BytesOut         int64 // from the client, to the client
	DatagramsIn, DatagramsOut int64
}

// info is the session as it stands.
func (se *session) info() Info {
	in := Info{
		Username: se.username, OriginID: se.OriginID, Since: se.added,
		DatagramsIn: se.datagramsIn.Load(), DatagramsOut: se.datagramsOut.Load(),
	}
	if c := se.client.Load(); c != nil {
		in.Media = c.Addr
	}
	if f := se.flow.Load(); f != nil {
		in.Local = f.Local()
	}
	se.mu.Lock()
	defer se.mu.Unlock()
	in.Stream, in.Role = se.Stream, se.Role
	in.BytesIn, in.BytesOut = se.bytesIn.Load(), se.bytesOut.Load()
	if se.tcp != nil {
		moved := se.tcp.moved()
		in.TCP, in.Media = true, se.tcp.peer
		in.BytesIn += moved.FromClient
		in.BytesOut += moved.FromOrigin
	}
	return in
}
