package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// readKeys sends what is pressed until the context ends, and returns an error
// when the terminal is gone. A read of a terminal cannot be cancelled, so it
// waits with poll(2), together with a pipe that ends the wait.
func readKeys(ctx context.Context, tty *os.File, keys chan<- key) error {
	wake, end, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	defer func() { _ = wake.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = end.Close() })
	defer func() {
		if stop() {
			_ = end.Close()
		}
	}()
	fds := []unix.PollFd{
		{Fd: int32(tty.Fd()), Events: unix.POLLIN},
		{Fd: int32(wake.Fd()), Events: unix.POLLIN},
	}
	var d keyDecoder
	buf := make([]byte, 256)
	for ctx.Err() == nil {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("read keys: %w", err)
		}
		if fds[0].Revents == 0 {
			continue
		}
		fds[0].Revents = 0
		n, err := unix.Read(int(tty.Fd()), buf)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return fmt.Errorf("read keys: %w", err)
		case n == 0:
			return fmt.Errorf("read keys: %w", io.EOF)
		}
		for _, k := range d.feed(buf[:n]) {
			select {
			case keys <- k:
			case <-ctx.Done():
			}
		}
	}
	return nil
}
