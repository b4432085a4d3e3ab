package httpserver

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"srs-proxy/testkit"
)

// 500 clients that leave in every phase, half of them by a reset: nothing stays.
func TestAbortedClientsLeaveNothing(t *testing.T) {
	o := newRawOrigin(t, func(c *rawConn, head string) {
		switch {
		case strings.Contains(head, "/mute"):
		case strings.Contains(head, "/missing"):
			c.send("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
			return
		default:
			io.WriteString(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"+strings.Repeat("x", 10000))
		}
		io.Copy(io.Discard, c)
	})
	e := start(t, func(c *Config) { c.IdleTimeout = time.Second }, o.addr, testkit.FreeAddr(t))
	baseGoroutines, baseFiles := goruntime.NumGoroutine(), openFiles(t)

	requests := []string{
		"", "GET /live/a.flv HT", "GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n", "GET /live/mute.flv HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /live/a.flv HTTP/1.0\r\n\r\n", "GET /live/missing-1.ts HTTP/1.1\r\nHost: x\r\n\r\n", "GET /live/a.mp4 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /live/mute.m3u8 HTTP/1.1\r\nHost: x\r\n\r\n", "GET /live/a.m3u8 HTTP/1.1\r\nHost: x\r\n\r\n", "GET /live/a.ts?spbhid=" + tokenA + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", "\x00\x01\x02",
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for i := range 500 {
		request, wait, reset := requests[i%len(requests)], time.Duration(rnd.IntN(8))*time.Millisecond, i%2 == 0
		wg.Go(func() {
			c, err := net.Dial("tcp", e.addr)
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(c, request)
			time.Sleep(wait) // phases, not a condition: any will do
			if reset {
				c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
		})
		if i%50 == 49 {
			wg.Wait()
		}
	}
	eventually(t, "every session is over", func() bool {
		st := e.Stats()
		return st.Active == 0 && st.RequestsActive == 0 && st.Clients.Active == 0 && st.Accepted == st.Closed && st.Clients.Accepted == 500
	})
	eventually(t, "no lease is left", func() bool {
		statuses, _ := e.bal.Origins(context.Background())
		return statuses[0].Players+statuses[1].Players == 0 && e.router.Sessions() == 0
	})
	e.dropIdle()
	eventually(t, "goroutines and descriptors are back where they were", func() bool {
		// The relay keeps up to 64 idle pipes of two descriptors.
		return goruntime.NumGoroutine() <= baseGoroutines+2 && openFiles(t) <= baseFiles+2+2*64
	})
	if st := e.Stats(); st.Panics != 0 {
		t.Errorf("%d panics", st.Panics)
	}
}

// The counters agree at any moment, not only at rest.
func TestCountersAgreeUnderLoad(t *testing.T) {
	o := newRawOrigin(t, func(c *rawConn, _ string) { c.send(flvHead + "3\r\nFLV\r\n0\r\n\r\n") })
	e := start(t, nil, o.addr)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					e.get(fmt.Sprintf("/live/s%d.flv", i))
				}
			}
		})
	}
	for range 200 {
		if st := e.Stats(); st.Accepted != st.Active+st.Closed || st.Requests != st.RequestsActive+st.RequestsDone {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
