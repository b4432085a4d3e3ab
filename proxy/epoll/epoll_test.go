package epoll

import (
	"errors"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newSet(t *testing.T) *Set {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newPipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func write(t *testing.T, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte{1}); err != nil {
		t.Fatal(err)
	}
}

func TestWaitReportsWhatIsReadyUntilItIsRead(t *testing.T) {
	s := newSet(t)
	r, w := newPipe(t)
	if err := s.Add(r, unix.EPOLLIN, 7); err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() { // while Wait waits, or before: both have to do
		defer close(written)
		time.Sleep(10 * time.Millisecond)
		_, _ = unix.Write(w, []byte{1})
	}()
	for range 3 { // level-triggered
		events, err := s.Wait()
		if err != nil || len(events) != 1 || events[0].Fd != 7 || events[0].Events != unix.EPOLLIN {
			t.Fatalf("%v, %v", events, err)
		}
	}
	<-written
	var buf [8]byte
	if _, err := unix.Read(r, buf[:]); err != nil {
		t.Fatal(err)
	}
	if err := s.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if events, err := s.Wait(); !errors.Is(err, os.ErrDeadlineExceeded) || len(events) != 0 {
		t.Fatalf("%v, %v of what was read", events, err)
	}
	// The deadline can be moved, and what comes after it still counts.
	if err := s.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	write(t, w)
	if events, err := s.Wait(); err != nil || len(events) != 1 {
		t.Fatalf("%v, %v", events, err)
	}
}

func TestChangeAndRemove(t *testing.T) {
	s := newSet(t)
	r, w := newPipe(t)
	write(t, w)
	if err := errors.Join(s.Add(r, unix.EPOLLIN, 1), s.Add(w, unix.EPOLLOUT, 2), s.Change(w, 0, 2)); err != nil {
		t.Fatal(err)
	}
	if events, err := s.Wait(); err != nil || len(events) != 1 || events[0].Fd != 1 {
		t.Fatalf("%v, %v; the writer is watched for nothing", events, err)
	}
	if err := errors.Join(s.Remove(r), s.Change(w, unix.EPOLLOUT, 3)); err != nil {
		t.Fatal(err)
	}
	if events, err := s.Wait(); err != nil || len(events) != 1 || events[0].Fd != 3 {
		t.Fatalf("%v, %v; the reader is not watched", events, err)
	}
	if err := s.Add(-1, unix.EPOLLIN, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: %v", err)
	}
}

func TestCloseEndsWait(t *testing.T) {
	s := newSet(t)
	ended := make(chan error)
	go func() {
		_, err := s.Wait()
		ended <- err
	}()
	time.Sleep(10 * time.Millisecond)
	s.Close()
	if err := <-ended; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

func TestWaitDoesNotAllocate(t *testing.T) {
	s := newSet(t)
	r, w := newPipe(t)
	if err := s.Add(r, unix.EPOLLIN, 1); err != nil {
		t.Fatal(err)
	}
	write(t, w)
	if n := testing.AllocsPerRun(1000, func() {
		if events, err := s.Wait(); err != nil || len(events) != 1 {
			t.Fatal(events, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a wait", n)
	}
}
