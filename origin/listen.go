package origin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// slots bound how many connections several listeners have together.
type slots struct{ free atomic.Int64 }

func newSlots(n int) *slots {
	s := &slots{}
	s.free.Store(int64(n))
	return s
}

func (s *slots) take() bool {
	if s.free.Add(-1) >= 0 {
		return true
	}
	s.free.Add(1)
	return false
}

// listener accepts TCP connections within its slots. It outlives every error that
// may pass, such as having no descriptors left.
type listener struct {
	*net.TCPListener
	slots *slots
	log   *slog.Logger
	done  chan struct{}
	once  sync.Once
}

// listenAddress makes SRS's "1935", ":1935" and "ip:1935" one form.
func listenAddress(s string) string {
	if _, err := strconv.ParseUint(s, 10, 16); err == nil {
		return ":" + s
	}
	return s
}

func listen(address string, s *slots, log *slog.Logger) (*listener, error) {
	// Keepalive 15/5/3 and TCP_USER_TIMEOUT find peers that vanished without a FIN.
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	lc.SetMultipathTCP(false) // plain TCP: splice and socket options behave
	l, err := lc.Listen(context.Background(), "tcp", listenAddress(address))
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, fmt.Errorf("%s: not TCP", address)
	}
	return &listener{TCPListener: tcp, slots: s, log: log, done: make(chan struct{})}, nil
}

// Accept returns the next connection there is room for; others are closed at once.
func (l *listener) Accept() (net.Conn, error) {
	wait := 5 * time.Millisecond
	var reported time.Time
	report := func(msg string, args ...any) {
		if time.Since(reported) >= time.Second {
			reported = time.Now()
			l.log.Warn(msg, args...)
		}
	}
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil && l.slots.take():
			return newConn(c, l.slots), nil
		case err == nil:
			_ = c.Close()
			report("connection refused, max_connections reached", "client", c.RemoteAddr())
		case l.closing() || !temporary(err):
			return nil, err
		default:
			report("accept", "err", err)
			select {
			case <-l.done:
				return nil, net.ErrClosed
			case <-time.After(wait):
			}
			wait = min(2*wait, time.Second)
			continue
		}
		wait = 5 * time.Millisecond
	}
}

// temporary names what accept(2) says of one connection or of a shortage.
func temporary(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EPROTO, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *listener) closing() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// Close ends Accept.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.TCPListener.Close()
}

// conn is an accepted connection: it counts its bytes and gives its slot back.
type conn struct {
	*net.TCPConn
	meter    meter
	accepted time.Time
	slots    *slots
	once     sync.Once
}

func newConn(c *net.TCPConn, s *slots) *conn {
	_ = c.SetNoDelay(true)
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(writeStall.Milliseconds()))
		})
	}
	return &conn{TCPConn: c, slots: s, accepted: time.Now()}
}

// Read counts what it reads.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.meter.in.Add(int64(n))
	return n, err
}

// Write counts what it writes.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.meter.out.Add(int64(n))
	return n, err
}

// writeBuffers is writev(2).
func (c *conn) writeBuffers(b *net.Buffers) error {
	n, err := b.WriteTo(c.TCPConn)
	c.meter.out.Add(n)
	return err
}

// Close closes once and gives the slot back.
func (c *conn) Close() error {
	c.once.Do(func() { c.slots.free.Add(1) })
	return c.TCPConn.Close()
}

// gate counts sessions and lets no more in once it is closed.
type gate struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Add(1)
	return true
}

func (g *gate) leave() { g.wg.Done() }

func (g *gate) closeAndWait() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
}
