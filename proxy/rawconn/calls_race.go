//go:build race

package rawconn

import (
	"errors"
	"syscall"
)

// The race detector takes what one side writes before it sends as done before the other side
// receives, in one process, but only of the calls of package syscall.

func receive(fd uintptr, b []byte) (int, syscall.Errno) { return known(syscall.Read, fd, b) }

func send(fd uintptr, b []byte) (int, syscall.Errno) { return known(syscall.Write, fd, b) }

func known(do func(fd int, b []byte) (int, error), fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, err := do(int(fd), b)
		if errno, ok := errors.AsType[syscall.Errno](err); !ok {
			return n, 0
		} else if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
