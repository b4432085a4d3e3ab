package httpserver

import (
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An origin whose accept queue is full, as a thousand players at once make it, drops
// SYNs, and the kernel sends the next one a second later. A file does not wait for
// that: it is asked for as soon as there is room, and the origin is not to blame.
func TestFileOfAnOriginWithAFullAcceptQueue(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	socket := os.NewFile(uintptr(fd), "listener")
	defer socket.Close()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	ln, err := net.FileListener(socket)
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	full := false
	for range 10 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if nerr, ok := err.(net.Error); ok && nerr.Timeout() { //nolint:errorlint // as net returns it
			full = true
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if !full {
		t.Fatal("the queue does not fill")
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "part") })}
	served := make(chan struct{})
	defer func() {
		srv.Close()
		ln.Close()
		<-served
	}()
	e := start(t, nil, addr)
	begin := time.Now()
	time.AfterFunc(300*time.Millisecond, func() {
		defer close(served)
		_ = srv.Serve(ln) // until Close
	})
	resp, body := e.get("/live/a-1.mp4")
	if took := time.Since(begin); resp.StatusCode != 200 || body != "part" || took > 900*time.Millisecond {
		t.Errorf("%d %q after %s", resp.StatusCode, body, took)
	}
}
