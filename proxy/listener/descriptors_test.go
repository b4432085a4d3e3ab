package listener

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// child is the test binary as a server that is short of descriptors.
type child struct {
	addr   string
	stdin  io.Closer
	stdout *bufio.Reader
	log    bytes.Buffer
	wait   func() error
}

func startChild(t *testing.T) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	// The race detector's second at exit serves nobody here.
	cmd.Env = append(os.Environ(), childEnv+"=1", "GORACE=atexit_sleep_ms=0")
	c := &child{wait: cmd.Wait}
	cmd.Stderr = &c.log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	c.stdin, c.stdout = in, bufio.NewReader(out)
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("child: %v; %s", err, c.log.String())
	}
	c.addr = strings.TrimSpace(line)
	return c
}

// stop ends the child and returns what it says of itself.
func (c *child) stop(t *testing.T) childResult {
	t.Helper()
	c.stdin.Close()
	var r childResult
	if err := json.NewDecoder(c.stdout).Decode(&r); err != nil {
		t.Errorf("child's result: %v", err)
	}
	if err := c.wait(); err != nil {
		t.Fatalf("child: %v; %s", err, c.log.String())
	}
	return r
}

// visit connects, and tells whether the server greeted or hung up. Neither
// within 10 s means a dead port.
func visit(addr string) (c net.Conn, greeted bool, err error) {
	c, err = net.Dial("tcp", addr)
	if err != nil {
		return nil, false, err
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err = io.ReadFull(c, make([]byte, 6))
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		c.Close()
		return nil, false, errors.New("the port is dead: neither served nor refused")
	}
	return c, err == nil, nil
}

// fill connects until a client is refused.
func fill(t *testing.T, addr string) (held []net.Conn) {
	t.Helper()
	for range 10 * spare {
		c, greeted, err := visit(addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if !greeted {
			return held
		}
		held = append(held, c)
	}
	t.Fatalf("%d clients served by a process that has %d descriptors", len(held), spare)
	return nil
}

// An accept error (EMFILE) left the existing proxy's port dead.
func TestDefect5_AcceptErrorLeavesThePortAlive(t *testing.T) {
	c := startChild(t)
	began := time.Now()
	for range 2 {
		held := fill(t, c.addr)
		if len(held) == 0 {
			t.Fatal("nobody served")
		}
		// A crowd that comes while there is none free is turned away, all of it.
		var crowd sync.WaitGroup
		for range 30 {
			crowd.Go(func() {
				v, greeted, err := visit(c.addr)
				if err != nil || greeted {
					t.Errorf("one of the crowd: served %v, %v", greeted, err)
				}
				if v != nil {
					v.Close()
				}
			})
		}
		crowd.Wait()
		for _, h := range held {
			h.Close()
		}
		served := false
		for until := time.Now().Add(20 * time.Second); !served && time.Now().Before(until); {
			var v net.Conn
			var err error
			if v, served, err = visit(c.addr); err != nil {
				t.Fatal(err)
			}
			v.Close()
		}
		if !served {
			t.Fatal("nobody is served after descriptors became free")
		}
	}
	r := c.stop(t)
	if r.Stats.Refused < 62 || r.Stats.Accepted < 2 || r.Stats.Accepted != r.Stats.Active+r.Stats.Closed {
		t.Errorf("%+v", r.Stats)
	}
	lines := strings.Count(c.log.String(), "out of descriptors")
	if most := int(time.Since(began).Seconds()) + 1; lines < 1 || lines > most {
		t.Errorf("%d log lines, want at least 1 and at most %d", lines, most)
	}
}

func TestCloseWithoutDescriptors(t *testing.T) {
	c := startChild(t)
	held := fill(t, c.addr)
	r := c.stop(t)
	if r.Stats.Active != int64(len(held)) || r.Left > 0 {
		t.Errorf("%+v with %d clients", r, len(held))
	}
}
