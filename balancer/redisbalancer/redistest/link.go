package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Link is a way to a server that can be cut: then nothing passes, in neither direction,
// and nobody is told, as when a network is partitioned.
type Link struct {
	ln net.Listener
	to string

	mu    sync.Mutex // guards the following
	open  *sync.Cond
	cut   bool
	ended bool
	conns map[net.Conn]struct{}
}

// NewLink is a way to s until the test ends.
func NewLink(t testing.TB, s *Server) *Link {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{ln: ln, to: s.Addr, conns: make(map[net.Conn]struct{})}
	l.open = sync.NewCond(&l.mu)
	var all sync.WaitGroup
	all.Go(func() { l.accept(&all) })
	t.Cleanup(func() {
		l.end()
		all.Wait()
	})
	return l
}

// Addr is where the server is to be found at the end of the link.
func (l *Link) Addr() string { return l.ln.Addr().String() }

// Cut lets nothing pass any more.
func (l *Link) Cut() { l.set(true) }

// Mend lets pass what waits, and what comes.
func (l *Link) Mend() { l.set(false) }

func (l *Link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	l.open.Broadcast()
}

func (l *Link) end() {
	_ = l.ln.Close() // the test is over
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.open.Broadcast()
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *Link) accept(all *sync.WaitGroup) {
	for {
		c, err := l.ln.Accept()
		if err != nil {
			return
		}
		up, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: l.to, Net: "unix"})
		if err != nil {
			_ = c.Close()
			continue
		}
		l.mu.Lock()
		l.conns[c], l.conns[up] = struct{}{}, struct{}{}
		if l.ended {
			_, _ = c.Close(), up.Close()
		}
		l.mu.Unlock()
		all.Go(func() { l.copy(c, up) })
		all.Go(func() { l.copy(up, c) })
	}
}

func (l *Link) copy(to, from net.Conn) {
	defer func() {
		_, _ = to.Close(), from.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, from)
	}()
	_, _ = io.Copy(to, gated{l, from})
}

// gated delivers what it has read when the link is open.
type gated struct {
	l    *Link
	from net.Conn
}

func (g gated) Read(b []byte) (int, error) {
	n, err := g.from.Read(b)
	g.l.mu.Lock()
	defer g.l.mu.Unlock()
	for g.l.cut && !g.l.ended {
		g.l.open.Wait()
	}
	return n, err
}
