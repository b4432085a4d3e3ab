package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Where blocks of ports are sought: below the ephemeral range of Linux, out of
// which any client's port may come.
const (
	portsFrom = 10000
	portsTo   = 32700
	perOrigin = 10 // as the port plan has it
)

// taken are the blocks of this process: tests run in parallel.
var taken struct {
	mu    sync.Mutex
	ports map[int]bool
}

// block is a run of ports of one instance: the public ones first.
type block struct {
	RTMP, HTTP, API, SRT, WebRTC int
	base                         int // of the origins
	last                         int
}

// freePorts finds a block for so many origins, every port of which can be bound.
func freePorts(t *testing.T, origins int) block {
	t.Helper()
	taken.mu.Lock()
	defer taken.mu.Unlock()
	n := (origins + 1) * perOrigin
	for range 200 {
		first := portsFrom + rand.IntN((portsTo-portsFrom-n)/perOrigin)*perOrigin
		b := block{RTMP: first, HTTP: first + 1, API: first + 2, SRT: first + 3, WebRTC: first + 4, base: first + perOrigin, last: first + n - 1}
		if !b.free() {
			continue
		}
		if taken.ports == nil {
			taken.ports = make(map[int]bool)
		}
		for p := first; p <= b.last; p++ {
			taken.ports[p] = true
		}
		t.Cleanup(func() {
			taken.mu.Lock()
			defer taken.mu.Unlock()
			for p := first; p <= b.last; p++ {
				delete(taken.ports, p)
			}
		})
		return b
	}
	t.Fatalf("no %d free ports in a row from %d to %d", n, portsFrom, portsTo)
	return block{}
}

func (b block) free() bool {
	for p := b.RTMP; p <= b.last; p++ {
		if taken.ports[p] || bindable(p) != nil {
			return false
		}
	}
	return true
}

// bindable binds a port as nobody shares it: without SO_REUSEPORT, on all
// interfaces, so that a listener on any address is seen.
func bindable(port int) error {
	for _, network := range []string{"tcp4", "udp4"} {
		if err := bind(network, port); err != nil {
			return err
		}
	}
	return nil
}

func bind(network string, port int) error {
	addr := fmt.Sprintf("0.0.0.0:%d", port)
	if network == "udp4" {
		c, err := net.ListenPacket(network, addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	return ln.Close()
}
