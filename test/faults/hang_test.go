package faults

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"
)

// TestHang stops an origin (SIGSTOP) while clients are everywhere in the handshake:
// some of them talk to that origin. It is replaced, and who did not hang with it
// notices nothing.
func TestHang(t *testing.T) {
	long(t)
	in, l, f := loaded(t, "SIGSTOP of one origin, handshakes in flight")
	repeat(t, in, l, f, func(round int) []string { return hangRound(in, l, f, in.victims(round, 1)[0], round) })
}

func hangRound(in *instance, l *load, f *fault, victim originStatus, round int) (wrong []string) {
	hit := in.namesOf([]originStatus{victim})
	before := in.mustStatus()
	halves := halfOpen(in.rtmp, 50)
	defer halves.close()
	fresh := newcomersAt(in.rtmp, fmt.Sprintf("hang%d", round), 20*time.Millisecond)
	time.Sleep(200 * time.Millisecond)
	l.mark()
	if err := syscall.Kill(victim.PID, syscall.SIGSTOP); err != nil {
		return append(fresh.end(f), fmt.Sprintf("stop %s, pid %d: %v", victim.ID, victim.PID, err))
	}
	time.Sleep(time.Second)
	wrong = fresh.end(f)
	wrong = append(wrong, l.recover(hit, afterHang, f)...)
	time.Sleep(time.Until(l.marked.Add(felt)))
	wrong = append(wrong, l.unharmed(hit, f)...)
	wrong = append(wrong, l.single()...)
	wrong = append(wrong, in.siblings(before, []originStatus{victim})...)
	if at, ok := in.logged(victim.ID, "origin hangs", l.marked); ok {
		f.detected.add(at.Sub(l.marked))
	} else {
		wrong = append(wrong, "the log does not say that "+victim.ID+" hangs")
	}
	return wrong
}

// connections are clients that stopped in the middle of the handshake.
type connections struct{ open []net.Conn }

func halfOpen(addr string, n int) *connections {
	c := &connections{}
	for i := range n {
		conn, err := net.DialTimeout("tcp", addr, openTimeout)
		if err != nil {
			continue
		}
		_, _ = conn.Write(append([]byte{3}, make([]byte, 30*i)...)) // C0 and a part of C1
		c.open = append(c.open, conn)
	}
	return c
}

func (c *connections) close() {
	for _, conn := range c.open {
		conn.Close()
	}
}
