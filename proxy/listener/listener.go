// Package listener accepts TCP clients and never stops doing so.
//
//	kernel queue ─▶ Accept ─▶ *Conn (counted by client IP, keepalive on)
//	                  └ out of descriptors: refuse one with the reserve, wait, go on
//
// It knows no protocol but TLS. Accept returns an error only after Close.
package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/proxy/rawconn"
)

// DefaultPerIP is how many connections one client address may have open.
const DefaultPerIP = 1024

// A peer is dead after 15 s of silence and three unanswered probes 5 s apart, or
// when what was sent to it is not acknowledged for 30 s (a viewer with a closed
// window included).
const (
	keepaliveIdle     = 15
	keepaliveInterval = 5
	keepaliveCount    = 3
	userTimeout       = 30_000 // ms
)

// How long Accept waits after an error: the first time and at most.
const (
	retryFirst = 5 * time.Millisecond
	retryMost  = time.Second
)

// refuseMost is how many clients are turned away in one go when descriptors run
// out; the queue itself holds no more (net.core.somaxconn).
const refuseMost = 4096

// Config of a Listener.
type Config struct {
	// PerIP is how many connections one client address may have open at a time;
	// 0 means DefaultPerIP, negative means no limit.
	PerIP int
	Log   *slog.Logger
	// TLS makes the connections TLS; nil leaves them plain.
	TLS *tls.Config
}

// Listener is a net.Listener of *Conn.
type Listener struct {
	ln  *net.TCPListener
	tls *tls.Config // see Config
	log *slog.Logger

	accepted atomic.Int64
	closed   atomic.Int64
	refused  atomic.Int64
	done     chan struct{}
	once     sync.Once
	drained  atomic.Bool

	mu       sync.Mutex // guards the following fields
	perIP    int        // see Config
	byIP     map[netip.Addr]int
	reserve  *os.File  // given up for a moment when descriptors run out; nil after Close
	shut     bool      // Close was called
	lastFull time.Time // when a want of descriptors was last logged
}

// Conn is an accepted connection. Its TCPConn is the socket itself, for splice(2);
// where there is TLS, that has the encrypted bytes.
type Conn struct {
	*net.TCPConn
	IP   netip.Addr
	port uint16

	raw  *rawconn.Conn // TCPConn, to read and write
	tls  *tls.Conn     // over raw; nil for a plain one
	l    *Listener
	once sync.Once
}

// Stats are a listener's counters: Accepted = Active + Closed.
type Stats struct {
	Accepted, Active, Closed int64
	// Refused counts clients that were turned away: over the limit of their
	// address, or for want of descriptors.
	Refused int64
}

// Plus is the sum of two listeners' counters.
func (s Stats) Plus(o Stats) Stats {
	return Stats{Accepted: s.Accepted + o.Accepted, Active: s.Active + o.Active, Closed: s.Closed + o.Closed, Refused: s.Refused + o.Refused}
}

// Listen binds addr ("host:port", or ":port" for all interfaces). Multipath TCP
// stays off: it hides the socket from TCP options and from splice's fast path.
func Listen(addr string, cfg Config) (*Listener, error) {
	lc := net.ListenConfig{Control: control, KeepAlive: -1}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	l := &Listener{ln: ln.(*net.TCPListener), perIP: cfg.PerIP, tls: cfg.TLS, log: cfg.Log, done: make(chan struct{}), byIP: make(map[netip.Addr]int)}
	if l.perIP == 0 {
		l.perIP = DefaultPerIP
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.openReserve()
	return l, nil
}

// SetPerIP changes the limit of a Config. Clients that are over it already stay.
func (l *Listener) SetPerIP(n int) {
	if n == 0 {
		n = DefaultPerIP
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.perIP = n
}

// control sets what the accepted sockets inherit.
func control(_, _ string, rc syscall.RawConn) error {
	var err error
	cerr := rc.Control(func(fd uintptr) { err = SetTimeouts(int(fd)) })
	return errors.Join(cerr, err)
}

// SetTimeouts sets keepalive and TCP_USER_TIMEOUT on a socket.
func SetTimeouts(fd int) error {
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepaliveIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepaliveInterval},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepaliveCount},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set socket option %d/%d: %w", o.level, o.name, err)
		}
	}
	return nil
}

// Addr is where the listener listens.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Accept waits for the next client; the net.Conn is a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	wait := retryFirst
	for {
		c, err := l.ln.AcceptTCP()
		switch {
		case err == nil:
			if conn := l.admit(c); conn != nil {
				return conn, nil
			}
			wait = retryFirst
			continue
		case errors.Is(err, net.ErrClosed):
			if l.drained.Load() {
				<-l.done // the server goes on for those that it has
			}
			return nil, err
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
			l.refuseQueued(err)
		case errors.Is(err, unix.ECONNABORTED):
			continue // the client left while it was queued
		default:
			l.log.Warn("accept failed, going on", "listen", l.Addr(), "cause", err)
		}
		select {
		case <-l.done:
			return nil, net.ErrClosed
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
}

// admit counts the client, or turns it away and returns nil.
func (l *Listener) admit(c *net.TCPConn) *Conn {
	a, _ := c.RemoteAddr().(*net.TCPAddr)
	ip := a.AddrPort().Addr().Unmap()
	l.mu.Lock()
	full := l.perIP > 0 && l.byIP[ip] >= l.perIP
	if !full {
		l.byIP[ip]++
	}
	l.mu.Unlock()
	if full {
		l.refused.Add(1)
		c.Close()
		return nil
	}
	l.accepted.Add(1)
	conn := &Conn{TCPConn: c, IP: ip, port: a.AddrPort().Port(), l: l, raw: rawconn.New(c)}
	if l.tls != nil {
		conn.tls = tls.Server(conn.raw, l.tls)
	}
	return conn
}

// Addr is the client's address and port.
func (c *Conn) Addr() netip.AddrPort { return netip.AddrPortFrom(c.IP, c.port) }

// Forget lets go of a connection without TLS that somebody else has closed. After it only
// Addr, IP, TLS and Close may be used; until Close the client is counted.
func (c *Conn) Forget() { c.TCPConn, c.raw = nil, nil }

// Close closes the connection; the first call counts it out.
func (c *Conn) Close() error {
	var err error
	if c.TCPConn != nil {
		err = c.TCPConn.Close()
	}
	c.once.Do(func() {
		c.l.closed.Add(1)
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		if c.l.byIP[c.IP]--; c.l.byIP[c.IP] <= 0 {
			delete(c.l.byIP, c.IP)
		}
	})
	return err
}

// refuseQueued gives up the reserve descriptor to take the waiting clients off the
// queue and hang up, so that they learn of it at once.
func (l *Listener) refuseQueued(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		return
	}
	if now := time.Now(); now.Sub(l.lastFull) >= time.Second {
		l.lastFull = now
		l.log.Error("out of descriptors: refusing new clients; raise --nofile", "listen", l.Addr(), "cause", cause)
	}
	if l.reserve != nil {
		l.reserve.Close()
		l.reserve = nil
	}
	rc, err := l.ln.SyscallConn()
	if err == nil {
		_ = rc.Control(l.hangUpLocked) // fails only on a closed socket
	}
	l.openReserve()
}

// hangUpLocked accepts and closes until the queue is empty. It never blocks: the
// queue may be empty by now, or the descriptor in other hands.
func (l *Listener) hangUpLocked(fd uintptr) {
	for range refuseMost {
		c, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		unix.Close(c)
		l.refused.Add(1)
	}
}

func (l *Listener) openReserve() {
	// Without one (out of descriptors already) the next error tries again.
	l.reserve, _ = os.Open(os.DevNull)
}

// Stats returns the counters.
func (l *Listener) Stats() Stats {
	closed := l.closed.Load() // before accepted, so that Active is never negative
	accepted := l.accepted.Load()
	return Stats{Accepted: accepted, Active: accepted - closed, Closed: closed, Refused: l.refused.Load()}
}

// Drain gives the address up, so that clients are refused and go elsewhere. Accept waits
// for Close.
func (l *Listener) Drain() error {
	l.drained.Store(true)
	return l.ln.Close()
}

// Close stops listening; connections stay.
func (l *Listener) Close() error {
	err := l.ln.Close()
	if l.drained.Load() {
		err = nil
	}
	l.once.Do(func() {
		close(l.done)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.shut = true
		if l.reserve != nil {
			l.reserve.Close()
			l.reserve = nil
		}
	})
	return err
}
