package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// Every byte arrives, in order, both ways at once.
func TestBytesAreExact(t *testing.T) {
	const size = 64 << 20
	s := start(t, New(Config{}), nil)
	var all sync.WaitGroup
	sent, received := make([][32]byte, 2), make([][32]byte, 2)
	for i, ends := range [][2]*net.TCPConn{{s.client, s.origin}, {s.origin, s.client}} {
		all.Go(func() {
			sent[i] = sendRandom(t, ends[0], size, byte(i))
			_ = ends[0].CloseWrite()
		})
		all.Go(func() {
			h := sha256.New()
			n, err := io.Copy(h, ends[1])
			if err != nil || n != size {
				t.Errorf("received %d bytes, %v", n, err)
			}
			received[i] = [32]byte(h.Sum(nil))
		})
	}
	all.Wait()
	if sent[0] != received[0] || sent[1] != received[1] {
		t.Error("what arrived is not what was sent")
	}
	if _, err := s.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got, want := s.pair.Bytes(), (Result{FromClient: size, FromOrigin: size}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// sendRandom writes bytes in pieces of odd sizes and returns their hash.
func sendRandom(t *testing.T, w io.Writer, size int, seed byte) [32]byte {
	src := rand.NewChaCha8([32]byte{seed})
	pieces := rand.New(rand.NewPCG(1, uint64(seed)))
	h := sha256.New()
	b := make([]byte, 200_000)
	for size > 0 {
		piece := b[:min(size, []int{1, 7, 1461, 4097, 65537, 199_999}[pieces.IntN(6)])]
		_, _ = src.Read(piece) // never fails
		h.Write(piece)
		if _, err := w.Write(piece); err != nil {
			t.Error(err)
			break
		}
		size -= len(piece)
	}
	return [32]byte(h.Sum(nil))
}

func TestHalfClose(t *testing.T) {
	for name, ends := range map[string]func(s *session) (first, second *net.TCPConn){
		"client first": func(s *session) (a, b *net.TCPConn) { return s.client, s.origin },
		"origin first": func(s *session) (a, b *net.TCPConn) { return s.origin, s.client },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, New(Config{}), nil)
			first, second := ends(s)
			write(t, first, []byte("question"))
			if err := first.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			expect(t, second, "question")
			expectEnd(t, second)
			write(t, second, []byte("answer"))
			expect(t, first, "answer")
			if err := second.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			expectEnd(t, first)
			if _, err := s.wait(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if b := s.pair.Bytes(); b.FromClient+b.FromOrigin != int64(len("question")+len("answer")) {
				t.Errorf("%+v", b)
			}
		})
	}
}

// tail is what a side has to say last.
func tail() []byte { return bytes.Repeat([]byte("the last words "), 70_000)[:1<<20] }

// A side that writes and leaves at once is heard to the end, by a slow reader too.
func TestTailOfAClosedSide(t *testing.T) {
	s := start(t, New(Config{}), func(s *session) { smallBuffers(t, s.client, s.pair.client) })
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := s.origin.Write(tail()); err != nil {
			t.Error(err)
		}
		s.origin.Close()
	})
	all.Go(func() {
		var got bytes.Buffer
		for {
			_, err := io.CopyN(&got, s.client, 16<<10)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Error(err)
				break
			}
			time.Sleep(time.Millisecond) // slow
		}
		if !bytes.Equal(got.Bytes(), tail()) {
			t.Errorf("%d of %d bytes arrived", got.Len(), len(tail()))
		}
		s.client.Close()
	})
	all.Wait()
	if _, err := s.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// The reader of the tail goes on talking (an RTMP player acknowledges) to a side
// that has left: that its words find nobody must not cost it the tail. Nor that
// it has no more to say.
func TestTailOutlivesAHangUp(t *testing.T) {
	for _, leaves := range []string{"client", "origin"} {
		for _, then := range []string{"talks", "ends"} {
			t.Run(leaves+" leaves, the other "+then, func(t *testing.T) {
				var leaver, reader *net.TCPConn
				s := start(t, New(Config{}), func(s *session) {
					leaver, reader = s.client, s.origin
					leaverSide, readerSide := s.pair.client, s.pair.origin
					if leaves == "origin" {
						leaver, reader, leaverSide, readerSide = reader, leaver, readerSide, leaverSide
					}
					smallBuffers(t, reader, readerSide)
					if err := leaverSide.SetReadBuffer(1 << 20); err != nil {
						t.Fatal(err)
					}
				})
				last := tail()[:512<<10]
				write(t, leaver, last)
				eventually(t, "the tail has left its sender", func() bool { return unacked(t, leaver) == 0 })
				leaver.Close()
				eventually(t, "the pair sees the hang-up", func() bool {
					write(t, reader, []byte("acknowledged"))
					return s.hungUp()
				})
				if then == "ends" {
					if err := reader.CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				got := make([]byte, len(last))
				for at := 0; at < len(got); at += 16 << 10 {
					if _, err := io.ReadFull(reader, got[at:at+16<<10]); err != nil {
						t.Fatalf("%d of %d bytes arrived: %v", at, len(got), err)
					}
					time.Sleep(20 * time.Millisecond) // slow: over the grace in all
				}
				if !bytes.Equal(got, last) {
					t.Error("the tail is not what was sent")
				}
				expectEnd(t, reader)
				if took, err := s.wait(); took > linger/2 || !errors.Is(err, errHangup) {
					t.Errorf("ended after %v: %v", took, err)
				}
			})
		}
	}
}

// patient is a relay that waits for long after an end.
func patient() *Relay {
	r := New(Config{})
	r.linger, r.grace = time.Hour, time.Hour
	return r
}

// The publisher of an origin that died is closed at once: nothing is left for it.
func TestPublisherOfADeadOriginIsClosedAtOnce(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"reset":  func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() },
		"closed": func(c *net.TCPConn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, patient(), nil)
			var publishing sync.WaitGroup
			defer publishing.Wait()
			publishing.Go(func() {
				for {
					if _, err := s.client.Write(make([]byte, 1000)); err != nil {
						return
					}
					time.Sleep(time.Millisecond)
				}
			})
			expect(t, s.origin, string(make([]byte, 5000)))
			leave(s.origin)
			took, err := s.wait()
			if took > linger/5 {
				t.Errorf("closed after %v", took)
			}
			if err == nil {
				t.Error("no cause")
			}
		})
	}
}

func TestResetEndsTheOtherSideAtOnce(t *testing.T) {
	for name, who := range map[string]func(s *session) (resets, other *net.TCPConn){
		"client": func(s *session) (a, b *net.TCPConn) { return s.client, s.origin },
		"origin": func(s *session) (a, b *net.TCPConn) { return s.origin, s.client },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, patient(), nil)
			resets, other := who(s)
			write(t, resets, []byte("x"))
			expect(t, other, "x")
			reset(t, resets)
			took, err := s.wait()
			if took > linger/5 || !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("ended after %v: %v", took, err)
			}
			_, rerr := other.Read(make([]byte, 1))
			if nerr, ok := rerr.(net.Error); rerr == nil || ok && nerr.Timeout() {
				t.Errorf("the other side: %v", rerr)
			}
		})
		t.Run(name+" under load", func(t *testing.T) {
			s := start(t, patient(), nil)
			resets, other := who(s)
			var load sync.WaitGroup
			defer load.Wait()
			feed(&load, other)
			if _, err := io.CopyN(io.Discard, resets, 1<<20); err != nil {
				t.Fatal(err)
			}
			reset(t, resets)
			if took, err := s.wait(); took > linger/5 || err == nil {
				t.Errorf("ended after %v: %v", took, err)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	states := map[string]func(s *session, load *sync.WaitGroup){
		"idle": func(*session, *sync.WaitGroup) {},
		"flowing": func(s *session, load *sync.WaitGroup) {
			feed(load, s.client)
			load.Go(func() { _, _ = io.Copy(io.Discard, s.origin) })
			eventually(s.t, "bytes flow", func() bool { return s.pair.Bytes().FromClient > 1<<20 })
		},
		"stalled both ways": func(s *session, load *sync.WaitGroup) {
			feed(load, s.client)
			feed(load, s.origin)
			s.stalled(&s.pair.up)
			s.stalled(&s.pair.down)
		},
		"lingering": func(s *session, _ *sync.WaitGroup) {
			_ = s.client.CloseWrite()
			expectEnd(s.t, s.origin)
		},
	}
	for name, prepare := range states {
		t.Run(name, func(t *testing.T) {
			best := time.Hour
			for range 5 {
				func() {
					s := start(t, New(Config{}), func(s *session) { smallBuffers(t, s.client, s.origin, s.pair.client, s.pair.origin) })
					var load sync.WaitGroup
					defer load.Wait()
					prepare(s, &load)
					why := errors.New("kicked")
					s.cancel(why)
					took, err := s.wait()
					if err != why {
						t.Errorf("Run: %v, want the cancel's cause", err)
					}
					best = min(best, took)
				}()
			}
			if best > 50*time.Millisecond {
				t.Errorf("the quickest of 5 took %v", best)
			}
		})
	}
}

// stalled waits until a direction moves no more.
func (s *session) stalled(d *direction) {
	s.t.Helper()
	last, since := int64(-1), time.Now()
	eventually(s.t, d.String()+" stalls", func() bool {
		if n := d.moved.Load(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 50*time.Millisecond
	})
}

func TestCancelledBefore(t *testing.T) {
	client, origin := tcpPair(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("shutting down")
	cancel(why)
	if err := New(Config{}).Pair(client, origin).Run(ctx); err != why {
		t.Errorf("Run: %v", err)
	}
}

func TestClosedSockets(t *testing.T) {
	client, other := tcpPair(t)
	origin, _ := tcpPair(t)
	client.Close()
	if err := New(Config{}).Pair(client, origin).Run(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	_ = other
}

// What the prelude set is forgotten.
func TestEarlierDeadlinesAreCleared(t *testing.T) {
	s := start(t, New(Config{}), func(s *session) {
		_ = s.pair.client.SetDeadline(time.Unix(1, 0))
		_ = s.pair.origin.SetDeadline(time.Unix(1, 0))
	})
	write(t, s.client, []byte("up"))
	expect(t, s.origin, "up")
	write(t, s.origin, []byte("down"))
	expect(t, s.client, "down")
}

// A stalled reader stops the writer: no more is taken than the pipe and the
// sockets hold, and all of it arrives once the reader goes on.
func TestBackPressure(t *testing.T) {
	s := start(t, New(Config{}), func(s *session) { smallBuffers(t, s.client, s.origin, s.pair.client, s.pair.origin) })
	_ = s.origin.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	n, err := s.origin.Write(make([]byte, 64<<20))
	if nerr, ok := err.(net.Error); !ok || !nerr.Timeout() {
		t.Fatalf("%d bytes written, %v", n, err)
	}
	if most := pipeSize + 4*128<<10; n > most {
		t.Errorf("%d bytes were taken for a reader that reads none, want at most %d", n, most)
	}
	s.origin.Close()
	got, err := io.Copy(io.Discard, s.client)
	if err != nil || got != int64(n) {
		t.Errorf("%d of %d bytes arrived, %v", got, n, err)
	}
}

// After one side's end the other has its time and no more.
func TestLinger(t *testing.T) {
	for name, ends := range map[string]func(s *session) (ends, stays *net.TCPConn){
		"client ends": func(s *session) (a, b *net.TCPConn) { return s.client, s.origin },
		"origin ends": func(s *session) (a, b *net.TCPConn) { return s.origin, s.client },
	} {
		t.Run(name, func(t *testing.T) {
			r := New(Config{})
			if r.linger != 5*time.Second {
				t.Errorf("linger is %v", r.linger)
			}
			r.linger = 300 * time.Millisecond
			s := start(t, r, nil)
			first, second := ends(s)
			began := time.Now()
			if err := first.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			expectEnd(t, second)
			write(t, second, []byte("still here"))
			expect(t, first, "still here")
			if _, err := s.wait(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if took := time.Since(began); took < r.linger {
				t.Errorf("ended after %v", took)
			}
		})
	}
}

// The kernel ends a viewer whose window stays closed, and Run says so.
func TestZeroWindowPeerIsEnded(t *testing.T) {
	s := start(t, New(Config{}), func(s *session) {
		smallBuffers(t, s.client, s.pair.client)
		rc, err := s.pair.client.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		cerr := rc.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500)
		})
		if err := errors.Join(cerr, err); err != nil {
			t.Fatal(err)
		}
	})
	var load sync.WaitGroup
	defer load.Wait()
	feed(&load, s.origin) // and the client never reads
	if _, err := s.wait(); !errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("Run: %v, want %v", err, unix.ETIMEDOUT)
	}
}

func TestPrologue(t *testing.T) {
	s := start(t, New(Config{}), func(s *session) {
		s.pair.Prologue = func() error {
			b := make([]byte, 5)
			if _, err := io.ReadFull(s.pair.origin, b); err != nil {
				return err
			}
			_, err := s.pair.client.Write(bytes.ToUpper(b))
			return err
		}
	})
	write(t, s.client, []byte("the client's bytes flow"))
	expect(t, s.origin, "the client's bytes flow")
	write(t, s.origin, []byte("first, then the rest"))
	expect(t, s.client, "FIRST, then the rest")
}

func TestPrologueFails(t *testing.T) {
	refused := errors.New("refused")
	s := start(t, New(Config{}), func(s *session) { s.pair.Prologue = func() error { return refused } })
	if took, err := s.wait(); !errors.Is(err, refused) || took > linger/2 {
		t.Errorf("after %v: %v", took, err)
	}
}

// A prologue that waits is stopped with the pair, by cancel and by the client's end.
func TestPrologueIsStopped(t *testing.T) {
	wait := func(s *session) {
		s.pair.Prologue = func() error { _, err := s.pair.origin.Read(make([]byte, 1)); return err }
	}
	s := start(t, New(Config{}), wait)
	why := errors.New("kicked")
	s.cancel(why)
	if _, err := s.wait(); err != why {
		t.Errorf("cancelled: %v", err)
	}
	s = start(t, New(Config{}), wait)
	reset(t, s.client)
	if took, err := s.wait(); !errors.Is(err, unix.ECONNRESET) || took > linger/2 {
		t.Errorf("client's reset: after %v: %v", took, err)
	}
}

// A linger is never prolonged.
func TestDeadlineOnlyMovesNearer(t *testing.T) {
	p := New(Config{}).Pair(nil, nil)
	p.noteEnd(&p.up)
	first := p.deadline
	p.noteEnd(&p.down)
	if first.IsZero() || !p.deadline.Equal(first) {
		t.Errorf("the deadline is %v and was %v", p.deadline, first)
	}
}

// There are as many pipes as busy directions, however many pairs there are.
func TestPipesAreOfBusyDirections(t *testing.T) {
	const pairs, busy = 300, 20
	r := New(Config{})
	before := descriptors(t)
	var load sync.WaitGroup
	defer load.Wait()
	var sessions []*session
	for i := range pairs {
		s := start(t, r, func(s *session) {
			if i < busy {
				smallBuffers(t, s.client, s.origin, s.pair.client, s.pair.origin)
			}
		})
		write(t, s.client, []byte("ping"))
		expect(t, s.origin, "ping")
		write(t, s.origin, []byte("pong"))
		expect(t, s.client, "pong")
		sessions = append(sessions, s)
	}
	const ends = 4 // sockets of a pair, the applications' included
	eventually(t, "idle pairs hold no pipe", func() bool { return descriptors(t) <= before+ends*pairs+8 })
	for _, s := range sessions[:busy] {
		feed(&load, s.origin) // and the client does not read
	}
	for _, s := range sessions[:busy] {
		s.stalled(&s.pair.down)
	}
	pipes := descriptors(t) - before - ends*pairs
	if pipes < 2*busy || pipes > 2*busy+8 {
		t.Errorf("%d descriptors of pipes for %d busy directions", pipes, busy)
	}
	for _, s := range sessions {
		s.stop()
	}
	r.Close()
	eventually(t, "no descriptor is kept when all has ended", func() bool { return descriptors(t) == before })
}

func TestIdlePipesAreBounded(t *testing.T) {
	before := descriptors(t)
	p := pipePool{most: 3 * pipesKept}
	var out []*pipe
	for range 2 * pipesKept {
		out = append(out, p.get())
	}
	for i, pp := range out {
		if pp.buf != nil {
			t.Fatal("no pipe to be had")
		}
		if i == 0 {
			pp.held = 1 // bytes inside
		}
		p.put(pp)
	}
	if got := descriptors(t) - before; got != 2*pipesKept || len(p.free) != pipesKept {
		t.Errorf("%d descriptors, %d pipes kept", got, len(p.free))
	}
	for _, pp := range p.free {
		if pp == out[0] {
			t.Error("a pipe with bytes inside was kept")
		}
	}
	if p.made != pipesKept {
		t.Errorf("%d pipes are counted", p.made)
	}
	if p.close(); p.made != 0 || descriptors(t) != before {
		t.Errorf("%d pipes are counted after close, %d descriptors left", p.made, descriptors(t)-before)
	}
}

// With as many pipes as may be in use, sessions go on without: every byte arrives, what
// has to wait is held in memory, and no more of it than there is.
func TestPipesAreBounded(t *testing.T) {
	const most, busy = 2, 8
	before := descriptors(t)
	r := New(Config{Pipes: most})
	defer r.Close()
	var sessions []*session
	sums := make([]chan [32]byte, busy)
	const size = 3 << 20
	for i := range busy {
		s := start(t, r, func(s *session) {
			smallBuffers(t, s.client, s.origin, s.pair.client, s.pair.origin)
		})
		sessions = append(sessions, s)
		sums[i] = make(chan [32]byte, 1)
		go func() { sums[i] <- sendRandom(t, s.origin, size, byte(i)) }()
	}
	pipes := 0
	for i, s := range sessions {
		s.stalled(&s.pair.down)
		held := make(chan pipe, 1)
		s.pair.loop.order(s.pair, func(_ *loop, pair *Pair) { held <- *pair.down.pipe })
		p := <-held
		if p.buf == nil {
			pipes++
		} else if cap(p.buf) > max(2*p.held+64, bufferSize/2) && p.held <= bufferSize/2 {
			t.Errorf("session %d holds %d bytes in %d", i, p.held, cap(p.buf))
		}
	}
	const ends = 4 // sockets of a pair, the applications' included
	if got := descriptors(t) - before - ends*busy - 2; pipes != most || got > 2*most {
		t.Errorf("%d pipes, %d descriptors of pipes; %d pipes may be", pipes, got, most)
	}
	for i, s := range sessions {
		h := sha256.New()
		if _, err := io.CopyN(h, s.client, size); err != nil {
			t.Fatal(err)
		}
		if want := <-sums[i]; [32]byte(h.Sum(nil)) != want {
			t.Errorf("session %d: what arrived is not what was sent", i)
		}
	}
}

// What waits in a buffer costs as much as it is, and the buffer serves the next.
func TestShelve(t *testing.T) {
	var p pipePool
	for _, tt := range []struct {
		held  int
		small bool
	}{{0, true}, {1, true}, {bufferSize / 2, true}, {bufferSize/2 + 1, false}, {bufferSize, false}} {
		pp := p.get()
		pp.buf = pp.buf[:bufferSize]
		for i := range pp.buf {
			pp.buf[i] = byte(i * 7)
		}
		pp.held = tt.held
		want := bytes.Clone(pp.residue())
		got := p.shelve(pp)
		if !bytes.Equal(got.residue(), want) || got.held != tt.held {
			t.Errorf("%d bytes held: %d are left, or others", tt.held, got.held)
		}
		if small := got != pp; small != tt.small || small && (p.buffer != pp || cap(got.buf) > 2*tt.held+64) {
			t.Errorf("%d bytes held: in a buffer of %d, and the large one is free: %v", tt.held, cap(got.buf), p.buffer == pp)
		}
		if p.put(got); p.buffer != pp {
			t.Errorf("%d bytes held: the large buffer is not the idle one", tt.held)
		}
	}
}

// Whatever ended them, 500 pairs leave nothing behind.
func TestNothingIsLeft(t *testing.T) {
	running := goleak.IgnoreCurrent()
	r := New(Config{})
	before := descriptors(t)
	for batch := range 10 {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			var all sync.WaitGroup
			for i := range 50 {
				s := start(t, r, nil)
				all.Go(func() {
					if _, err := s.client.Write(make([]byte, 1000*i)); err != nil {
						t.Error(err)
					}
					switch i % 5 {
					case 0:
						s.client.Close()
					case 1:
						s.origin.Close()
					case 2:
						s.cancel(errors.New("kicked"))
					case 3:
						_ = s.client.SetLinger(0)
						s.client.Close()
					case 4:
						_ = s.origin.SetLinger(0)
						s.origin.Close()
					}
				})
			}
			all.Wait()
		})
	}
	goleak.VerifyNone(t, running)
	l := r.loops[0]
	l.mu.Lock() // as the goroutine that has ended did
	if got, want := descriptors(t)-before, 2+2*len(l.pipes.free); got != want {
		t.Errorf("%d descriptors are left, %d of them of the loop and its kept pipes", got, want)
	}
	if len(l.free) != len(l.ends)-1 || len(l.closing) != 0 || l.pairs.Load() != 0 {
		t.Errorf("of %d places %d are free, %d pairs linger, %d live", len(l.ends)-1, len(l.free), len(l.closing), l.pairs.Load())
	}
	l.mu.Unlock()
	r.Close()
	if got := descriptors(t) - before; got != 0 {
		t.Errorf("%d descriptors are left after Close", got)
	}
}

// Small messages cost no memory.
func TestWakeUpsDoNotAllocate(t *testing.T) {
	s := start(t, New(Config{}), nil)
	b := make([]byte, 100)
	n := testing.AllocsPerRun(200, func() {
		_, _ = s.client.Write(b)
		_, _ = io.ReadFull(s.origin, b)
		_, _ = s.origin.Write(b)
		_, _ = io.ReadFull(s.client, b)
	})
	if n != 0 {
		t.Errorf("%v allocations a round trip", n)
	}
}

func BenchmarkRelay(b *testing.B) {
	client, clientSide := tcpPair(b)
	origin, originSide := tcpPair(b)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(Config{}).Pair(clientSide, originSide).Run(ctx) }()
	const piece = 1 << 20
	go func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := origin.Write(buf); err != nil {
				return
			}
		}
	}()
	b.SetBytes(piece)
	b.ReportAllocs()
	buf := make([]byte, piece)
	for b.Loop() {
		if _, err := io.ReadFull(client, buf); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	<-done
}

func TestFirstCause(t *testing.T) {
	stopped := fmt.Errorf("up: %w", errTimeout)
	hangup := fmt.Errorf("down: %w: %w", errHangup, unix.EPIPE)
	failed := fmt.Errorf("up: %w", unix.ETIMEDOUT)
	for _, tt := range []struct{ down, up, want error }{
		{nil, nil, nil},
		{stopped, stopped, nil},
		{nil, stopped, nil},
		{hangup, nil, hangup},
		{nil, hangup, hangup},
		{stopped, hangup, hangup},
		{hangup, failed, failed},
		{failed, hangup, failed},
		{stopped, failed, failed},
	} {
		if got := firstCause(tt.down, tt.up); got != tt.want {
			t.Errorf("of %v and %v: %v, want %v", tt.down, tt.up, got, tt.want)
		}
	}
}
