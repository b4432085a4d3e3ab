package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errNotRunning says that no instance answers on the control socket.
var errNotRunning = errors.New("srs-proxy is not running")

// controlTimeout bounds one exchange with a running instance: it answers from
// memory, so a second is long, and a stopped process (SIGSTOP) must not hang us.
const controlTimeout = 5 * time.Second

// dialControl connects to a running instance.
func dialControl(ctx context.Context, path string) (*net.UnixConn, error) {
	d := net.Dialer{Timeout: controlTimeout}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return c.(*net.UnixConn), nil
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nobody answers on %s", errNotRunning, path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("control socket %s belongs to another user; run as that user or as root", path)
	default:
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
}

// runningInstance is the pid of the instance that answers on path.
func runningInstance(path string) (int, error) {
	c, err := dialControl(context.Background(), path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	return peerPID(c)
}

// peerPID is the process that listens on the other end, by the kernel's word
// (SO_PEERCRED). It is 0 if that process is in another pid namespace.
func peerPID(c *net.UnixConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("control socket: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("control socket: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("control socket: SO_PEERCRED: %w", credErr)
	}
	return int(cred.Pid), nil
}

// controlCall makes one request and decodes the answer into out, unless that is nil.
func controlCall(ctx context.Context, path, method, resource string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialControl(ctx, path)
		},
	}
	defer transport.CloseIdleConnections()

	req, err := http.NewRequestWithContext(ctx, method, "http://control"+resource, http.NoBody)
	if err != nil {
		return fmt.Errorf("control socket %s: %w", path, err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("the instance on %s does not answer within %s", path, controlTimeout)
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		msg, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("control socket %s: %s %s: %s %s", path, method, resource, resp.Status, msg)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("control socket %s: %s: %w", path, resource, err)
	}
	return nil
}

// processEnd waits for the end of a process that it has hold of (pidfd), so
// that a recycled pid cannot be taken for it.
type processEnd struct {
	pid  int
	fd   int    // -1 where the kernel or a foreign pid namespace denies it
	path string // the control socket, asked instead then
}

// holdInstance takes hold of the instance that listens on path.
func holdInstance(path string) (*processEnd, error) {
	c, err := dialControl(context.Background(), path)
	if err != nil {
		return nil, err
	}
	// The connection stays open while the pid becomes a descriptor.
	defer func() { _ = c.Close() }()
	pid, err := peerPID(c)
	if err != nil {
		return nil, err
	}
	p := &processEnd{pid: pid, fd: -1, path: path}
	if pid > 0 {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			p.fd = fd
		}
	}
	return p, nil
}

func (p *processEnd) Close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
	}
}

// Wait returns nil when the process has ended, or ctx's error.
func (p *processEnd) Wait(ctx context.Context) error {
	for ctx.Err() == nil {
		gone, err := p.gone(50 * time.Millisecond)
		if gone || err != nil {
			return err
		}
	}
	return ctx.Err()
}

// gone waits a moment for the end.
func (p *processEnd) gone(moment time.Duration) (bool, error) {
	if p.fd < 0 {
		time.Sleep(moment)
		_, err := runningInstance(p.path)
		return errors.Is(err, errNotRunning), nil
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(moment.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return false, fmt.Errorf("wait for pid %d: %w", p.pid, err)
	}
	return n > 0, nil
}
