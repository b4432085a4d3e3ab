package main

import (
	"bytes"
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
	return controlAsk(ctx, path, method, resource, nil, out)
}

// controlAsk is controlCall with a body.
func controlAsk(ctx context.Context, path, method, resource string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	resp, err := controlSend(ctx, path, method, resource, in)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("control socket %s: %s: %w", path, resource, err)
	}
	return nil
}

// controlSend makes one request. Its error is what the instance answered, in case
// that was no success.
func controlSend(ctx context.Context, path, method, resource string, in any) (*http.Response, error) {
	transport := &http.Transport{
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: controlTimeout,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialControl(ctx, path)
		},
	}
	body := io.Reader(http.NoBody)
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("control socket %s: %w", path, err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+resource, body)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	resp, err := transport.RoundTrip(req)
	if nerr, ok := errors.AsType[net.Error](err); ok && nerr.Timeout() || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("the instance on %s does not answer within %s", path, controlTimeout)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, controlBody))
	var answer controlError
	if err := json.Unmarshal(text, &answer); err == nil && answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
		return nil, fmt.Errorf("the instance on %s is of another version, which cannot do this; restart it (down, up) to have it", path)
	}
	return nil, fmt.Errorf("control socket %s: %s %s: %s %s", path, method, resource, resp.Status, text)
}

// errDetached says that this command ends and what it asked for does not.
var errDetached = errors.New("it goes on without this command; see srs-proxy status")

// controlOperate asks for an operation and hands on its progress, until it is done.
// ctx ends the listening, not the operation.
func controlOperate(ctx context.Context, path, resource string, in any, progress func(line string) error) (opResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := controlSend(ctx, path, http.MethodPost, resource, in)
	if err != nil {
		if ctx.Err() != nil {
			err = errDetached
		}
		return opResult{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	// It speaks at least every opAlive.
	silence := time.AfterFunc(opSilence, func() {
		cancel(fmt.Errorf("the instance on %s has said nothing for %s; see srs-proxy status", path, opSilence))
	})
	defer silence.Stop()
	for lines := json.NewDecoder(resp.Body); ; {
		var e opEvent
		if err := lines.Decode(&e); err != nil {
			return opResult{}, operateError(ctx, err)
		}
		silence.Reset(opSilence)
		if e.Progress != "" {
			if err := progress(e.Progress); err != nil {
				return opResult{}, err
			}
		}
		if e.Done != nil {
			return *e.Done, nil
		}
	}
}

// opSilence is far longer than an operation is silent.
const opSilence = 5 * opAlive

func operateError(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.Canceled):
		return errDetached
	case cause != nil:
		return cause
	default:
		return fmt.Errorf("the instance ended before it was done: %w", err)
	}
}

// askOrigins is what is known of a running instance's origins at once.
func askOrigins(ctx context.Context, path string) (originsReport, error) {
	var r originsReport
	err := controlCall(ctx, path, http.MethodGet, controlOrigins, &r)
	return r, err
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
