package webrtc_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goruntime "runtime"

	"srs-proxy/proxy/webrtc"
)

// Sessions cost neither descriptors nor goroutines, and leave nothing behind.
func TestManySessions(t *testing.T) {
	const sessions, origins = 2000, 8
	s := start(t, webrtc.Config{Shards: 4})
	var os8 []*origin
	for range origins {
		os8 = append(os8, startOrigin(t))
	}
	var ends atomic.Int64
	var all []webrtc.Session
	var clients []*client
	for n := range sessions {
		se := session(n, os8[n%origins])
		se.OnEnd = func(webrtc.End) { ends.Add(1) }
		all = append(all, add(t, s, se))
	}
	// The test's own sockets are there before it counts.
	for range sessions {
		clients = append(clients, dial(t, s, "127.0.0.1"))
	}
	descriptors, goroutines := openFiles(t), goruntime.NumGoroutine()
	for n, c := range clients {
		c.ask(string(check(t, all[n])))
	}
	for n, c := range clients {
		c.ask(rtp(fmt.Sprint("media of ", n)))
	}
	if n := openFiles(t); n != descriptors {
		t.Errorf("%d descriptors with %d sessions, %d without", n, sessions, descriptors)
	}
	if n := goruntime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines with %d sessions, %d without", n, sessions, goroutines)
	}
	st := s.Stats()
	if st.Sessions != sessions || st.Addresses != sessions || st.UDP.Flows != sessions || s.sources.InUse() != sessions {
		t.Errorf("%+v, %d source addresses", st, s.sources.InUse())
	}
	// Strangers are no loss: other programs of the machine may send to this port.
	if st.UDP.Unsent+st.Homeless+st.Unbound > 0 || st.UDP.FromOrigins-st.UDP.Strangers != st.UDP.ToClients {
		t.Errorf("lost on the way: %+v", st)
	}
	for i, o := range os8 {
		got, by := o.seen()
		if len(by) != sessions/origins {
			t.Errorf("origin %d saw %d peers, want %d", i, len(by), sessions/origins)
		}
		for _, d := range got {
			if n, ok := strings.CutPrefix(d, rtp("media of ")); ok && !isOf(n, i, origins) {
				t.Errorf("origin %d got the media of session %s", i, n)
			}
		}
	}
	for _, se := range all {
		s.Remove(se.Username())
	}
	eventually(t, "every table is empty", func() bool {
		st := s.Stats()
		return st.Sessions == 0 && st.Addresses == 0 && st.UDP.Flows == 0 && s.sources.InUse() == 0 && ends.Load() == sessions
	})
}

func isOf(n string, i, origins int) bool {
	var number int
	_, err := fmt.Sscan(n, &number)
	return err == nil && number%origins == i
}

func openFiles(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// flood is a session that is connected, for measuring.
func flood(t testing.TB, shards int) (*server, *client, *origin, webrtc.Session) {
	s, o := start(t, webrtc.Config{Shards: shards}), newOrigin(t)
	se := add(t, s, session(1, o))
	c := dial(t, s, "127.0.0.1")
	c.send(string(check(t, se)))
	buf := make([]byte, 2048)
	if _, _, err := o.ReadFromUDPAddrPort(buf); err != nil {
		t.Fatal(err)
	}
	return s, c, o, se
}

// Media costs no allocation in either direction, and neither do checks.
func TestNoAllocationPerDatagram(t *testing.T) {
	s, c, o, se := flood(t, 1)
	in, _ := s.Lookup(se.Username())
	media, proof, buf := []byte(rtp(strings.Repeat("x", 1200))), check(t, se), make([]byte, 2048)
	_ = o.SetReadDeadline(time.Now().Add(time.Minute))
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	trip := func(up []byte) {
		if _, err := c.Write(up); err != nil {
			t.Fatal(err)
		}
		if _, _, err := o.ReadFromUDPAddrPort(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := o.WriteToUDPAddrPort(media, in.Local); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	for name, up := range map[string][]byte{"media": media, "a check": proof} {
		if n := testing.AllocsPerRun(2000, func() { trip(up) }); n != 0 {
			t.Errorf("%v allocations for %s up and media down", n, name)
		}
	}
}
