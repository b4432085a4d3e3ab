// Package epoll waits for many sockets at once without a thread of its own:
//
//	sockets ─▶ epoll(7) ─▶ Go's netpoller ─▶ the goroutine in Wait
//
// The epoll is one more descriptor of Go's netpoller, so a wait parks the goroutine. A
// wait in a system call instead, of which Go's scheduler knows, loses its processor
// after 20 us, and from then on the runtime's monitor thread looks every 20 us
// whether there is another one to take: at media rates that costs more than the
// relaying (docs/RELAY.md). For the same reason no system call here is one that
// the scheduler is told of.
package epoll

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Batch is how many events one Wait reports at most.
const Batch = 128

// Set is what is watched. It is for one goroutine at a time.
type Set struct {
	fd     int
	file   *os.File
	wait   syscall.RawConn
	poll   func(fd uintptr) bool // look, made once
	ready  int                   // how many of events
	failed error
	events [Batch]unix.EpollEvent
}

// New returns an empty set, which has to be closed.
func New() (*Set, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // by which NewFile knows that it belongs into the netpoller
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &Set{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	if s.wait, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	s.poll = s.look
	return s, nil
}

// Add watches a descriptor for events (unix.EPOLLIN...), which Wait reports under the
// name, in their Fd.
func (s *Set) Add(fd int, events uint32, name int) error {
	return s.control(unix.EPOLL_CTL_ADD, fd, events, name)
}

// Change watches it for other events.
func (s *Set) Change(fd int, events uint32, name int) error {
	return s.control(unix.EPOLL_CTL_MOD, fd, events, name)
}

// Remove ends that. A descriptor that is closed, and whose duplicates are, goes by itself.
func (s *Set) Remove(fd int) error { return s.control(unix.EPOLL_CTL_DEL, fd, 0, 0) }

func (s *Set) control(op, fd int, events uint32, name int) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(name)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.fd, op, fd, &ev))
}

// SetDeadline ends waits from t on; the zero time is none.
func (s *Set) SetDeadline(t time.Time) error { return s.file.SetReadDeadline(t) }

// Wait returns what is ready, as soon as anything is; it is valid until the next
// Wait. The error is os.ErrDeadlineExceeded after the deadline, another one after Close.
func (s *Set) Wait() ([]unix.EpollEvent, error) {
	s.ready, s.failed = 0, nil
	if err := s.wait.Read(s.poll); err != nil {
		return nil, err
	}
	return s.events[:s.ready], s.failed
}

// look reports whether there is something to return.
func (s *Set) look(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&s.events)), Batch, 0, 0, 0)
		switch errno {
		case 0:
			s.ready = int(n)
			return s.ready > 0
		case unix.EINTR:
		default:
			s.failed = os.NewSyscallError("epoll_pwait", errno)
			return true
		}
	}
}

// Close ends the set and a Wait; what was watched stays open.
func (s *Set) Close() error { return s.file.Close() }
