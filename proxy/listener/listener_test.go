package listener

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listen(t *testing.T, addr string, cfg Config) *Listener {
	t.Helper()
	l, err := Listen(addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// dialFrom connects from an address of this host.
func dialFrom(t *testing.T, from string, l net.Addr) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", l.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t *testing.T, l *Listener) *Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*Conn)
}

// refused waits for the hang-up.
func refused(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := c.Read(make([]byte, 1))
	if nerr, ok := err.(net.Error); err == nil || ok && nerr.Timeout() {
		t.Errorf("not refused: %v", err)
	}
}

func TestPerIP(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Config{PerIP: 2})
	conns := make(chan *Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(conns)
				return
			}
			conns <- c.(*Conn)
		}
	}()
	const a, b = "127.0.0.1", "127.0.0.2"
	dialFrom(t, a, l.Addr())
	first := <-conns
	dialFrom(t, a, l.Addr())
	second := <-conns
	if first.IP != netip.MustParseAddr(a) {
		t.Errorf("client %v", first.IP)
	}
	refused(t, dialFrom(t, a, l.Addr()))
	refused(t, dialFrom(t, a, l.Addr()))
	dialFrom(t, b, l.Addr())
	other := <-conns
	if other.IP != netip.MustParseAddr(b) {
		t.Errorf("client %v", other.IP)
	}
	if got, want := l.Stats(), (Stats{Accepted: 3, Active: 3, Refused: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	first.Close()
	first.Close() // counts once
	dialFrom(t, a, l.Addr())
	third := <-conns
	refused(t, dialFrom(t, a, l.Addr()))
	for _, c := range []*Conn{second, third, other} {
		c.Close()
	}
	if got, want := l.Stats(), (Stats{Accepted: 4, Closed: 4, Refused: 3}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.byIP) != 0 {
		t.Errorf("addresses still counted: %v", l.byIP)
	}
}

func TestPerIPDefaultAndOff(t *testing.T) {
	if l := listen(t, "127.0.0.1:0", Config{}); l.perIP != DefaultPerIP {
		t.Errorf("default limit %d", l.perIP)
	}
	l := listen(t, "127.0.0.1:0", Config{PerIP: -1})
	for range 20 {
		dialFrom(t, "127.0.0.1", l.Addr())
		accept(t, l)
	}
}

// A limit that is changed holds for who comes next.
func TestSetPerIP(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Config{PerIP: 1})
	dialFrom(t, "127.0.0.1", l.Addr())
	accept(t, l)
	l.SetPerIP(2)
	dialFrom(t, "127.0.0.1", l.Addr())
	accept(t, l)
	l.SetPerIP(1)
	conns := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			conns <- c
		}
	}()
	refused(t, dialFrom(t, "127.0.0.1", l.Addr()))
	l.SetPerIP(-1)
	dialFrom(t, "127.0.0.1", l.Addr())
	<-conns
	if l.SetPerIP(0); l.perIP != DefaultPerIP {
		t.Errorf("default limit %d", l.perIP)
	}
}

// On a socket for both families an IPv4 client is the same as elsewhere.
func TestClientAddressOnAllInterfaces(t *testing.T) {
	l := listen(t, ":0", Config{})
	port := l.Addr().(*net.TCPAddr).Port
	dialFrom(t, "127.0.0.3", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if got := accept(t, l).IP; got != netip.MustParseAddr("127.0.0.3") {
		t.Errorf("client %v", got)
	}
}

func option(t *testing.T, c syscall.Conn, level, name int) int {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var v int
	cerr := rc.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), level, name) })
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAcceptedSocketOptions(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Config{})
	dialFrom(t, "127.0.0.1", l.Addr())
	c := accept(t, l)
	for _, o := range []struct {
		name                string
		level, option, want int
	}{
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 5},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000},
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{"SO_PROTOCOL (no multipath TCP)", unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP},
	} {
		if got := option(t, c.TCPConn, o.level, o.option); got != o.want {
			t.Errorf("%s is %d, want %d", o.name, got, o.want)
		}
	}
	if got := option(t, l.ln, unix.SOL_SOCKET, unix.SO_PROTOCOL); got != unix.IPPROTO_TCP {
		t.Errorf("the listener's SO_PROTOCOL is %d", got)
	}
}

func TestSetTimeoutsFails(t *testing.T) {
	if err := SetTimeouts(-1); !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v", err)
	}
}

func TestListenFails(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Config{})
	if _, err := Listen(l.Addr().String(), Config{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second listener: %v", err)
	}
	if _, err := Listen("no address", Config{}); err == nil {
		t.Error("no error for a bad address")
	}
}

func TestCloseEndsAccept(t *testing.T) {
	before := descriptors()
	l := listen(t, "127.0.0.1:0", Config{})
	const accepters = 3
	type result struct {
		c   net.Conn
		err error
	}
	ended := make(chan result)
	for range accepters {
		go func() {
			c, err := l.Accept()
			ended <- result{c, err}
		}()
	}
	client := dialFrom(t, "127.0.0.1", l.Addr())
	first := <-ended
	if first.err != nil {
		t.Fatal(first.err)
	}
	defer first.c.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range accepters - 1 {
		if r := <-ended; !errors.Is(r.err, net.ErrClosed) {
			t.Errorf("accept ended with %v", r.err)
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	// A client that was accepted stays.
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := first.c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	// A late want of descriptors opens nothing.
	l.refuseQueued(unix.EMFILE)
	if now := descriptors(); now > before+2 {
		t.Errorf("%d descriptors, %d before: want the two ends of a connection more", now, before)
	}
}

// Accepted = Active + Closed at every moment, and nothing stays.
func TestChurn(t *testing.T) {
	const workers, each = 20, 100
	warm := listen(t, "127.0.0.1:0", Config{}) // opens the poller
	warm.Close()
	before := descriptors()
	l := listen(t, "127.0.0.1:0", Config{PerIP: workers})
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { greet(c) })
		}
	})
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		var last Stats
		for {
			s := l.Stats()
			if s.Accepted != s.Active+s.Closed || s.Active < 0 || s.Accepted < last.Accepted || s.Closed < last.Closed {
				t.Errorf("%+v after %+v", s, last)
				return
			}
			last = s
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	var clients sync.WaitGroup
	for range workers {
		clients.Go(func() {
			for served := 0; served < each; {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				// The server may count the last one out a moment after its client left:
				// this one is refused then.
				if _, err := io.ReadFull(c, make([]byte, 6)); err == nil {
					served++
				}
				c.Close()
			}
		})
	}
	clients.Wait()
	l.Close()
	serving.Wait()
	close(stop)
	watching.Wait()
	if s := l.Stats(); s.Accepted != workers*each || s.Active != 0 || s.Closed != workers*each {
		t.Errorf("%+v", s)
	}
	if len(l.byIP) != 0 {
		t.Errorf("addresses still counted: %v", l.byIP)
	}
	if now := descriptors(); now > before {
		t.Errorf("%d descriptors, %d before", now, before)
	}
}

// A connection that somebody else has closed is counted until Close, and still says whose
// it was.
func TestForget(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Config{})
	client := dialFrom(t, "127.0.0.1", l.Addr())
	c := accept(t, l)
	if want := client.LocalAddr().(*net.TCPAddr).AddrPort(); c.Addr() != want {
		t.Errorf("client %v, want %v", c.Addr(), want)
	}
	before := c.Addr()
	c.TCPConn.Close()
	c.Forget()
	if l.Stats().Active != 1 || c.Addr() != before {
		t.Errorf("%+v, client %v", l.Stats(), c.Addr())
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil || l.Stats().Active != 0 {
		t.Errorf("%v, %+v", err, l.Stats())
	}
}
