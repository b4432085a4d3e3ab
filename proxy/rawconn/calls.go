//go:build !race

package rawconn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func receive(fd uintptr, b []byte) (int, syscall.Errno) {
	return call(unix.SYS_RECVFROM, fd, b, unix.MSG_DONTWAIT)
}

func send(fd uintptr, b []byte) (int, syscall.Errno) {
	return call(unix.SYS_SENDTO, fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}
