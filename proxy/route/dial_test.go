package route

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/balancer"
)

// TestFullAcceptQueue: a thousand clients at once fill an origin's accept queue,
// and the kernel drops the SYN of whoever comes then. The origin is well: the dial
// has to succeed when the queue has room again, not when the kernel's own next SYN
// is due, which is the end of the dial timeout.
func TestFullAcceptQueue(t *testing.T) {
	fd, addr, waiting := fullQueue(t)
	e := newEnv(t, Config{})
	e.register("a", addr)

	accepted := make(chan struct{})
	time.AfterFunc(300*time.Millisecond, func() {
		defer close(accepted)
		for range waiting {
			c, _, err := unix.Accept(fd)
			if err != nil {
				t.Error(err)
				return
			}
			unix.Close(c)
		}
	})
	start := time.Now()
	if _, err := e.connect("x", balancer.Play, nil); err != nil {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	<-accepted
}
