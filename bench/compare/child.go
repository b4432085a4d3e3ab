package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/bench/meter"
)

// child is a process that we started, with its output in a file.
type child struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// ourVariables begin the names of variables that would change what a child does.
func ourVariable(entry string) bool {
	return strings.HasPrefix(entry, "SRS_") || strings.HasPrefix(entry, "PROXY_") || strings.HasPrefix(entry, "GOMAXPROCS=")
}

// start runs a program in a process group of its own: a Ctrl-C of the terminal is
// ours to pass on, in the right order.
func start(dir, name string, env []string, path string, args ...string) (*child, error) {
	c := &child{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c.cmd = exec.Command(path, args...) //nolint:noctx // stop ends it in its own way
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = dir, out, out
	c.cmd.Env = append(slices.DeleteFunc(c.cmd.Environ(), ourVariable), env...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = c.cmd.Wait() // how it ended is in its log
		close(c.done)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stopPatience is more than a supervisor takes to stop its origins at the worst (12 s).
const stopPatience = 20 * time.Second

// stop asks the child to end, and after a while makes it and all that it started.
func (c *child) stop() {
	family, _ := meter.Family(c.pid())
	_ = c.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-c.done:
		return
	case <-time.After(stopPatience):
	}
	for _, pid := range family {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	<-c.done
}

// explain is an error with the end of the child's output.
func (c *child) explain(err error) error {
	b, _ := os.ReadFile(c.log)
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	if len(lines) > 8 {
		lines = lines[len(lines)-8:]
	}
	return fmt.Errorf("%s: %w; it said:\n%s", c.name, err, bytes.Join(lines, []byte("\n")))
}

// explain adds to an error that the proxy has ended, and what it said.
func (p *peer) explain(err error) error {
	if p.child == nil {
		return err
	}
	select {
	case <-p.child.done:
		return p.child.explain(fmt.Errorf("ended: %s: %w", p.child.cmd.ProcessState, err))
	default:
		return err
	}
}

// accepts waits until the address takes TCP connections.
func (c *child) accepts(ctx context.Context, addr string) error {
	return c.until(ctx, "it does not listen on "+addr, func() bool {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// until waits for a condition, the child's end, or 30 s.
func (c *child) until(ctx context.Context, problem string, is func() bool) error {
	late := time.After(30 * time.Second)
	for !is() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return c.explain(fmt.Errorf("ended: %s", c.cmd.ProcessState))
		case <-late:
			return c.explain(fmt.Errorf("after 30 s %s", problem))
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// pin puts all threads of processes on some CPUs.
func pin(pids []int, cpus unix.CPUSet) error {
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			var tid int
			if _, err := fmt.Sscan(task.Name(), &tid); err != nil {
				continue
			}
			if err := unix.SchedSetaffinity(tid, &cpus); err != nil && err != unix.ESRCH {
				return fmt.Errorf("pin thread %d: %w", tid, err)
			}
		}
	}
	return nil
}
