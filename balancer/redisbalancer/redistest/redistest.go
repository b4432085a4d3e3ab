// Package redistest runs a real redis-server for tests, on a socket in the test's folder,
// and does to it what befalls servers: Kill, Start, Stop, Continue.
package redistest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a redis-server of one test. It keeps nothing on disk.
type Server struct {
	// Addr is the path of its socket.
	Addr string

	t    testing.TB
	args []string
	cmd  *exec.Cmd
}

// Start runs a server until the test ends, with more arguments if there are any. Without
// redis-server the test is skipped.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, nil, append([]string{"--save", "", "--appendonly", "no", "--loglevel", "warning"}, args...))
}

// StartSentinel runs a sentinel, which writes what it finds into its configuration file.
func StartSentinel(t testing.TB, conf string, args ...string) *Server {
	t.Helper()
	return start(t, []string{conf, "--sentinel"}, args)
}

func start(t testing.TB, first, args []string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	// A socket's path has 107 characters at most, which those of t.TempDir may exceed.
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: filepath.Join(dir, "s"), t: t}
	s.args = slices.Concat(first, []string{"--port", "0", "--unixsocket", s.Addr, "--dir", dir}, args)
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.Start()
	return s
}

// Start starts the server again after Kill, empty.
func (s *Server) Start() {
	s.t.Helper()
	s.cmd = exec.CommandContext(context.WithoutCancel(s.t.Context()), "redis-server", s.args...)
	s.cmd.Stdout, s.cmd.Stderr = io.Discard, io.Discard
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := s.Client()
	defer c.Close()
	answers := func() bool {
		err := c.Ping(context.Background()).Err()
		return err == nil || redis.HasErrorPrefix(err, "NOAUTH")
	}
	for end := time.Now().Add(20 * time.Second); !answers(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("redis-server does not answer")
		}
	}
}

// Client is a client of the server, for the test to look; the caller closes it.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1})
}

// Kill ends the server without a warning.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	s.signal(syscall.SIGKILL)
	_ = s.cmd.Wait() // killed
	s.cmd = nil
}

// Stop keeps the server from doing anything until Continue.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Continue ends a Stop.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Error(err)
	}
}
