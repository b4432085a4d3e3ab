package rawconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns both ends of a connection.
func pair(t *testing.T) (c *Conn, peer *net.TCPConn) {
	t.Helper()
	nc, peer := testkit.TCPPair(t)
	return New(nc), peer
}

// More than a socket takes goes through whole, to a reader that begins late.
func TestByTheByte(t *testing.T) {
	c, peer := pair(t)
	want := bytes.Repeat([]byte("0123456789abcde\n"), 1<<20) // 16 MiB
	wrote := make(chan error, 1)
	go func() {
		n, err := c.Write(want)
		if err == nil && n != len(want) {
			err = io.ErrShortWrite
		}
		wrote <- errors.Join(err, c.CloseWrite())
	}()
	time.Sleep(50 * time.Millisecond) // the socket is full
	got, err := io.ReadAll(New(peer))
	if werr := <-wrote; werr != nil || err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v, %v", len(got), len(want), err, werr)
	}
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("read of nothing: %d, %v", n, err)
	}
}

// Whoever waits is woken by a deadline and by Close, with the errors of net.TCPConn.
func TestWaitsEnd(t *testing.T) {
	full := make([]byte, 64<<20)
	for name, wait := range map[string]func(c *Conn) (int, error){
		"read":  func(c *Conn) (int, error) { return c.Read(make([]byte, 1)) },
		"write": func(c *Conn) (int, error) { return c.Write(full) },
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := pair(t)
			if err := c.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			n, err := wait(c)
			if nerr, ok := errors.AsType[net.Error](err); !ok || !nerr.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("deadline: %v", err)
			}
			if name == "write" && (n == 0 || n == len(full)) {
				t.Errorf("%d bytes were written", n)
			}
			if err := c.SetDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { _, err := wait(c); ended <- err }()
			time.Sleep(50 * time.Millisecond)
			c.Close()
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("close: %v", err)
			}
		})
	}
}

func TestReset(t *testing.T) {
	c, peer := pair(t)
	if err := peer.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write: %v", err)
	}
}

func TestQuiet(t *testing.T) {
	c, peer := pair(t)
	if !c.Quiet() {
		t.Error("nothing came")
	}
	loud := func(what string) {
		t.Helper()
		for until := time.Now().Add(10 * time.Second); c.Quiet(); time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("not heard: %s", what)
			}
		}
	}
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	loud("a byte")
	if n, err := c.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	peer.Close()
	loud("a close")
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v, want EOF", err)
	}
	c.Close()
	if c.Quiet() {
		t.Error("a closed one is no good")
	}
}
