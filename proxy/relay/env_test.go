package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/testkit"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// session is a pair at work between two applications.
type session struct {
	t              *testing.T
	client, origin *net.TCPConn // the applications' ends
	pair           *Pair
	cancel         context.CancelCauseFunc
	ended          chan struct{}
	err            error // of Run, once ended
}

// start runs a pair; prepare, if not nil, may set it up before.
func start(t *testing.T, r *Relay, prepare func(*session)) *session {
	t.Helper()
	client, clientSide := tcpPair(t)
	origin, originSide := tcpPair(t)
	s := &session{t: t, client: client, origin: origin, pair: r.Pair(clientSide, originSide), ended: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(context.Background())
	s.cancel = cancel
	if prepare != nil {
		prepare(s)
	}
	go func() {
		defer close(s.ended)
		s.err = s.pair.Run(ctx)
		clientSide.Close()
		originSide.Close()
	}()
	t.Cleanup(s.stop)
	return s
}

func (s *session) stop() {
	s.cancel(errors.New("the test is over"))
	<-s.ended
	s.client.Close()
	s.origin.Close()
}

// hungUp asks the loop whether a receiver takes no more.
func (s *session) hungUp() bool {
	answer := make(chan bool, 1)
	s.pair.loop.order(s.pair, func(_ *loop, p *Pair) { answer <- p.hungUp })
	select {
	case hungUp := <-answer:
		return hungUp
	case <-s.ended:
		return s.pair.hungUp
	case <-time.After(100 * time.Millisecond): // it was asked before Run had begun
		return false
	}
}

// wait returns what Run returned and how long that took.
func (s *session) wait() (time.Duration, error) {
	s.t.Helper()
	began := time.Now()
	select {
	case <-s.ended:
		return time.Since(began), s.err
	case <-time.After(patience):
		s.t.Fatal("the pair does not end")
		return 0, nil
	}
}

func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	a, b = testkit.TCPPair(t)
	_ = a.SetDeadline(time.Now().Add(patience))
	return a, b
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testkit.Within(t, patience, what, ok)
}

func write(t testing.TB, c *net.TCPConn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// expect reads exactly these bytes.
func expect(t testing.TB, c *net.TCPConn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

// expectEnd reads the end of the stream, and nothing before it.
func expectEnd(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d bytes, %v; want the end", n, err)
	}
}

// unacked is what was written to a connection and has not reached the peer's
// kernel.
func unacked(t testing.TB, c *net.TCPConn) int {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	cerr := rc.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	return n
}

// reset closes a connection with a RST.
func reset(t testing.TB, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// smallBuffers bounds what the kernel holds for the connections, in bytes.
func smallBuffers(t testing.TB, conns ...*net.TCPConn) {
	t.Helper()
	for _, c := range conns {
		if err := errors.Join(c.SetReadBuffer(32<<10), c.SetWriteBuffer(32<<10)); err != nil {
			t.Fatal(err)
		}
	}
}

// descriptors counts the open ones of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names) - 1 // without the one that counts
}

// feed writes for ever, until the connection takes no more.
func feed(wg *sync.WaitGroup, c *net.TCPConn) {
	wg.Go(func() {
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
}
