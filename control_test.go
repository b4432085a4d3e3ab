package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// socketDir is short: a unix socket's path is limited, and t.TempDir has the test's name in it.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func quietLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// startControl serves path until the test ends, or until the returned function is called.
func startControl(t *testing.T, c *control) (stop func()) {
	t.Helper()
	c.log = quietLog()
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestControlStatusAndStop(t *testing.T) {
	path := filepath.Join(socketDir(t), "new", "c.sock")
	stops := make(chan bool, 2)
	stop := startControl(t, &control{
		path:   path,
		report: func(context.Context) report { return report{Snapshot: sampleSnapshot(), RTMP: ":1935"} },
		stop:   func(now bool) { stops <- now },
	})

	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket's mode is %v, want a socket with 0600", st.Mode())
	}
	var r report
	if err := controlCall(t.Context(), path, http.MethodGet, controlStatus, &r); err != nil {
		t.Fatal(err)
	}
	if r.RTMP != ":1935" || len(r.Origins) != 4 || r.Origins[0].ID != "origin-0" {
		t.Errorf("report %+v", r)
	}
	if pid, err := runningInstance(path); err != nil || pid != os.Getpid() {
		t.Errorf("runningInstance = %d, %v; want this process, %d", pid, err, os.Getpid())
	}
	for _, tt := range []struct {
		resource string
		now      bool
	}{{controlStop, false}, {controlStop + "?" + controlNow + "=true", true}} {
		if err := controlCall(t.Context(), path, http.MethodPost, tt.resource, nil); err != nil {
			t.Fatal(err)
		}
		if now := <-stops; now != tt.now {
			t.Errorf("POST %s: now is %v", tt.resource, now)
		}
	}
	if err := controlCall(t.Context(), path, http.MethodGet, controlStop, nil); err == nil {
		t.Error("GET of stop is obeyed")
	}

	stop()
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := runningInstance(path); !errors.Is(err, errNotRunning) {
		t.Errorf("after the end: %v, want errNotRunning", err)
	}
}

func TestControlSingleInstance(t *testing.T) {
	path := filepath.Join(socketDir(t), "c.sock")
	startControl(t, &control{path: path, report: func(context.Context) report { return report{} }})
	err := (&control{path: path, log: quietLog()}).Listen()
	if !errors.Is(err, errAlreadyRunning) || !strings.Contains(err.Error(), "pid") {
		t.Errorf("second instance: %v", err)
	}
	if _, err := runningInstance(path); err != nil {
		t.Errorf("the first one is gone after the second one's try: %v", err)
	}
}

// A killed instance leaves its socket, and a temporary one if it was killed early.
func TestControlReplacesStaleSocket(t *testing.T) {
	path := filepath.Join(socketDir(t), "c.sock")
	for _, name := range []string{path, path + "~"} {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		ln.SetUnlinkOnClose(false)
		ln.Close()
	}
	startControl(t, &control{path: path, report: func(context.Context) report { return report{} }})
	if pid, err := runningInstance(path); err != nil || pid != os.Getpid() {
		t.Errorf("runningInstance = %d, %v", pid, err)
	}
}

func TestControlSparesFiles(t *testing.T) {
	path := filepath.Join(socketDir(t), "c.sock")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&control{path: path, log: quietLog()}).Listen(); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("Listen over a file: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("the file is now %q, %v", text, err)
	}
}
