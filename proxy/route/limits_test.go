package route

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/balancer"
)

// New plays are refused at 90 % of the limit, new publishes at all of it.
func TestMaxSessions(t *testing.T) {
	e := newEnv(t, Config{MaxSessions: 10})
	e.origin("o0")
	var conns []*Conn
	for range 9 {
		conns = append(conns, e.mustConnect("a", balancer.Play))
	}
	if _, err := e.connect("a", balancer.Play, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a tenth play: %v", err)
	}
	conns = append(conns, e.mustConnect("b", balancer.Publish))
	for _, role := range []balancer.Role{balancer.Play, balancer.Publish} {
		if _, err := e.connect("c", role, nil); !errors.Is(err, ErrBusy) {
			t.Errorf("%s of an eleventh session: %v", role, err)
		}
	}
	e.wantHeld(1, 9, 10)
	conns[0].Close()
	if _, err := e.connect("a", balancer.Play, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a play with nine sessions: %v", err)
	}
	conns = append(conns, e.mustConnect("c", balancer.Publish))
	for _, c := range conns {
		c.Close()
	}
	e.wantHeld(0, 0, 0)
	e.mustConnect("a", balancer.Play)
}

// Failed sessions leave room for others.
func TestMaxSessionsAfterFailures(t *testing.T) {
	e := newEnv(t, Config{MaxSessions: 2})
	e.register("o0", deadAddr(t))
	for range 10 {
		if _, err := e.connect("a", balancer.Publish, nil); errors.Is(err, ErrBusy) {
			t.Fatal(err)
		}
	}
	e.wantHeld(0, 0, 0)
}

// A flood of plays that are refused must not make the room for publishes look
// full, not even for a moment.
func TestRefusedPlaysTakeNoRoom(t *testing.T) {
	e := newEnv(t, Config{MaxSessions: 10})
	e.router.sessions.Store(9)
	stop := make(chan struct{})
	var flood sync.WaitGroup
	for range 8 {
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if e.router.admit(balancer.Play) {
						t.Error("a play over 90 %")
						return
					}
				}
			}
		})
	}
	for range 5000 {
		if !e.router.admit(balancer.Publish) {
			t.Error("a publish was refused at 90 %")
			break
		}
		e.router.sessions.Add(-1)
	}
	close(stop)
	flood.Wait()
}

// A proxy without descriptors says that it is busy, and does not blame its origins.
func TestOutOfDescriptors(t *testing.T) {
	var failed []string
	e := newEnv(t, Config{Failed: func(id string) { failed = append(failed, id) }})
	e.origin("o0")
	e.mustConnect("a", balancer.Play).Close() // what the runtime opens once is open
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }()
	for _, role := range []balancer.Role{balancer.Publish, balancer.Play} {
		for range 5 {
			if _, err := e.connect("b", role, nil); !errors.Is(err, ErrBusy) || !errors.Is(err, unix.EMFILE) {
				t.Errorf("%s: %v", role, err)
			}
		}
	}
	e.router.ReportDial(context.Background(), "o0", unix.ENFILE)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if len(failed) > 0 {
		t.Errorf("blamed: %v", failed)
	}
	e.wantHeld(0, 0, 0)
	e.mustConnect("b", balancer.Play)
}

// blackhole is an address that answers no SYN: a listener whose queue is full.
func blackhole(t *testing.T) string {
	t.Helper()
	_, addr, _ := fullQueue(t)
	return addr
}

// fullQueue is a listening socket whose accept queue is full of n connections.
func fullQueue(t *testing.T) (fd int, addr string, n int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr = (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}).String()
	for n = range 10 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
			return fd, addr, n
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue does not fill")
	return 0, "", 0
}

// picks tells when a session is about to dial.
type picks struct {
	balancer.Balancer
	picked chan struct{}
}

func (p *picks) Pick(ctx context.Context, r balancer.Request) (balancer.Lease, error) {
	l, err := p.Balancer.Pick(ctx, r)
	p.picked <- struct{}{}
	return l, err
}

// A session that is cancelled leaves at once and blames nobody.
func TestCancelDuringDial(t *testing.T) {
	e := newEnv(t, Config{DialTimeout: time.Minute})
	e.register("o0", blackhole(t))
	blamed := &reports{Balancer: e.bal}
	p := &picks{Balancer: blamed, picked: make(chan struct{}, 1)}
	e.router.bal = p
	for range 4 {
		ctx, cancel := context.WithCancelCause(context.Background())
		failed := make(chan error, 1)
		go func() {
			_, err := e.router.Connect(ctx, Request{Stream: stream("a"), Role: balancer.Publish, Proto: RTMP, Client: testClient()}, nil)
			failed <- err
		}()
		<-p.picked
		// In the dial or just before it: both must end.
		time.Sleep(5 * time.Millisecond)
		began := time.Now()
		cancel(errors.New("client left"))
		err := <-failed
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("returned after %v", took)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		e.wantHeld(0, 0, 0)
	}
	if blamed.failed != 0 {
		t.Errorf("the origin was blamed %d times", blamed.failed)
	}
}

func TestDialTimeout(t *testing.T) {
	e := newEnv(t, Config{DialTimeout: 50 * time.Millisecond})
	e.register("hung", blackhole(t))
	defer e.pin("a", "hung", balancer.Play)()
	e.origin("live")
	if c := e.mustConnect("a", balancer.Play); c.Lease.Origin.ID != "live" {
		t.Errorf("on %s", c.Lease.Origin.ID)
	}
	if r := New(Config{}, e.bal, nil); r.cfg.DialTimeout != time.Second || r.cfg.Attempts != 3 {
		t.Errorf("defaults: %v, %d", r.cfg.DialTimeout, r.cfg.Attempts)
	}
}

func TestCancelledBefore(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o0")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.router.Connect(ctx, Request{Stream: stream("a"), Role: balancer.Play, Proto: RTMP, Client: testClient()}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	e.wantHeld(0, 0, 0)
}

// Cancelled while try speaks: no other origin is tried.
func TestCancelDuringTry(t *testing.T) {
	e := newEnv(t, Config{})
	e.origin("o0")
	e.origin("o1")
	ctx, cancel := context.WithCancel(context.Background())
	tries := 0
	_, err := e.router.Connect(ctx, Request{Stream: stream("a"), Role: balancer.Play, Proto: RTMP, Client: testClient()}, func(ctx context.Context, _ *Conn) error {
		tries++
		cancel()
		return Retry(ctx.Err())
	})
	if tries != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d tries: %v", tries, err)
	}
	e.wantHeld(0, 0, 0)
}
