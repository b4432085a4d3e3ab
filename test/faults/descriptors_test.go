package faults

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// crowdOf is how many idle connections each address opens: less than one may have.
	crowdOf = 1000
	// roomFor is how many descriptors the flood finds, at most.
	roomFor = 1000
	// fullWithin is how long the flood may take to fill it.
	fullWithin = 10 * time.Second
)

// TestDescriptors floods srs-proxy with connections on which nothing comes, until it
// has no descriptor left: those that are in go on, and others come in again when the
// flood is over.
func TestDescriptors(t *testing.T) {
	long(t)
	s := suite.size
	// A session has two sockets and two pipes at most; what is there without load is
	// some for each origin.
	limit := 6*(s.publishers+s.players) + 8*s.origins + 100 + roomFor
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil || own.Cur < uint64(2*limit+1000) {
		t.Skipf("this process may have %d descriptors, and %d are needed (%v)", own.Cur, 2*limit+1000, err)
	}
	in := newInstance(t, s.origins, s.origins)
	// As one that is started with a low limit: what is raised by itself is no limit.
	in.within = []string{"prlimit", fmt.Sprintf("--nofile=%d:%d", limit, limit)}
	in.start()
	in.waitReady(s.origins)
	// The memory of a first flood stays for the next one: Go gives it back later than in
	// a minute. What more floods add to it would be a leak.
	c := newCrowd(3*limit/crowdOf, in.rtmp, in.http)
	time.Sleep(felt)
	c.leave()
	l, f := in.loaded("descriptors of srs-proxy exhausted by idle connections")
	repeat(t, in, l, f, func(round int) []string { return descriptorsRound(in, l, f, limit, round) })
}

func descriptorsRound(in *instance, l *load, f *fault, limit, round int) (wrong []string) {
	before := in.mustStatus()
	l.mark()
	// To both: how many may be in the RTMP handshake is limited as well.
	c := newCrowd(3*limit/crowdOf, in.rtmp, in.http)
	defer c.leave()
	full, ok := time.Time{}, false
	for !ok && time.Since(l.marked) < fullWithin {
		full, ok = in.logged("", "out of descriptors", l.marked)
		time.Sleep(20 * time.Millisecond)
	}
	if !ok {
		wrong = append(wrong, fmt.Sprintf("%d idle connections did not exhaust the descriptors: %s", c.came.Load(), usageOf(in.pid())))
	} else {
		f.detected.add(full.Sub(l.marked))
	}
	time.Sleep(time.Until(l.marked.Add(felt)))
	wrong = append(wrong, l.unharmed(nil, f)...)
	c.leave()
	took, err := in.awaitPublish(fmt.Sprintf("after-crowd%d", round), time.Now().Add(5*time.Second))
	f.took.add(took)
	if err != nil || took > time.Second {
		wrong = append(wrong, fmt.Sprintf("%s after the flood a new name is let in: %v", ms(took), err))
	}
	fresh := newcomersAt(in.rtmp, fmt.Sprintf("crowd%d", round), 50*time.Millisecond)
	time.Sleep(500 * time.Millisecond)
	wrong = append(wrong, fresh.end(f)...)
	wrong = append(wrong, l.unharmed(nil, f)...)
	wrong = append(wrong, l.single()...)
	return append(wrong, in.siblings(before, nil)...)
}

// awaitPublish is how long it takes until a name is let in.
func (in *instance) awaitPublish(name string, limit time.Time) (time.Duration, error) {
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		peer, err := openPublish(in.rtmp, name)
		if err == nil {
			err = peer.holds(stay)
			peer.conn.Close()
		}
		if err == nil {
			return time.Since(start) - stay, nil
		}
		if time.Now().After(limit) {
			return time.Since(start), err
		}
	}
}

// crowd is connections on which nothing comes. Who is hung up on comes again.
type crowd struct {
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	came   atomic.Int64
}

// newCrowd is crowdOf connections from each of some addresses, to one server or another.
func newCrowd(addresses int, servers ...string) *crowd {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{cancel: cancel}
	for i := range addresses {
		c.tasks.Go(func() { c.flood(ctx, net.IPv4(127, 0, 2, byte(i+1)), servers[i%len(servers)]) })
	}
	return c
}

func (c *crowd) flood(ctx context.Context, from net.IP, to string) {
	var open []net.Conn // a ring, when it is full
	defer func() {
		for _, conn := range open {
			conn.Close()
		}
	}()
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: from}}
	for i := 0; ctx.Err() == nil; i++ {
		conn, err := d.DialContext(ctx, "tcp4", to)
		if err != nil {
			pause(ctx, firstRetry)
			continue
		}
		c.came.Add(1)
		if len(open) < crowdOf {
			open = append(open, conn)
			continue
		}
		open[i%crowdOf].Close()
		open[i%crowdOf] = conn
		pause(ctx, time.Millisecond)
	}
}

// leave may be called again.
func (c *crowd) leave() {
	c.cancel()
	c.tasks.Wait()
}
