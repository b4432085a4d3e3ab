package load

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"srs-proxy/origin"
	"srs-proxy/protocol/rtmp"
	"srs-proxy/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.IgnoreSRTDial()...) }

// newOrigin runs the built-in origin and says where its RTMP and HTTP are.
func newOrigin(t *testing.T) (rtmpAddr, httpAddr string) {
	t.Helper()
	cfg := origin.DefaultConfig()
	cfg.RTMPListen, cfg.HTTPListen = []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}
	o := runOrigin(t, cfg)
	return o.RTMPAddrs()[0].String(), o.HTTPAddrs()[0].String()
}

// runOrigin runs an origin until the test's end.
func runOrigin(t *testing.T, cfg origin.Config) *origin.Origin {
	t.Helper()
	o := origin.New(cfg, slog.New(slog.DiscardHandler))
	if err := o.Listen(); err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, o.Run)
	return o
}

func runUntilCleanup(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func newLoad(t *testing.T) *Load {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, l.Run)
	return l
}

// small is a stream of 50 frames a second.
func small() Stream { return Stream{FPS: 50, FrameSize: 3000, GOP: 25} }

func publish(t *testing.T, l *Load, url string) *Publisher {
	t.Helper()
	p, err := l.Publish(url, small())
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the publisher runs", p.Running)
	return p
}

func play(t *testing.T, l *Load, url string, of *Publisher) *Player {
	t.Helper()
	p, err := l.Play(url, of)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the first frame", p.Running)
	return p
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 20 s: %s", what)
		}
	}
}

// measure opens a window of half a second and reports it. On a machine that is too busy
// to send anything in that time, it does so again.
func measure(t *testing.T, l *Load) *Report {
	t.Helper()
	for range 20 {
		_, ends := l.Window(10*time.Millisecond, 500*time.Millisecond)
		time.Sleep(time.Until(ends))
		l.Drain(t.Context(), 20*time.Second)
		if r := l.Report(); r.Published.Frames >= 20 {
			return r
		}
	}
	t.Fatal("nothing was published in 20 windows")
	return nil
}

// What arrives is what was published times the players, to the byte.
func TestDeliveredIsPublishedTimesPlayers(t *testing.T) {
	rtmpAddr, httpAddr := newOrigin(t)
	l := newLoad(t)
	a, b := publish(t, l, "rtmp://"+rtmpAddr+"/live/a?secret=1"), publish(t, l, "rtmp://"+rtmpAddr+"/live/b")
	for range 3 {
		play(t, l, "rtmp://"+rtmpAddr+"/live/a", a)
		play(t, l, "http://"+httpAddr+"/live/b.flv", b)
	}
	for range 2 { // the second window knows nothing of the first
		r := measure(t, l)
		if r.Published.Frames > 200 { // twice what it is: those that were late come at once
			t.Errorf("published %d frames in 0.5 s of 2 x 50 a second", r.Published.Frames)
		}
		if r.Published.Bytes != r.Published.Frames*3000 || r.Expected.Bytes != 3*r.Published.Bytes || r.Delivered != r.Expected {
			t.Errorf("published %+v, expected %+v, delivered %+v", r.Published, r.Expected, r.Delivered)
		}
		if r.Lost() != 0 || r.Loss() != 0 || r.Disordered != 0 || r.Damaged != 0 || r.Foreign != 0 || r.Failed() != 0 {
			t.Errorf("%v", r)
		}
		if r.Age.Count() != r.Delivered.Frames || r.First.Count() != 6 || r.Prelude.Count() != 6 || r.Prelude.Quantile(1) > r.First.Quantile(1) {
			t.Errorf("%d ages, %d first frames, %d preludes: %v", r.Age.Count(), r.First.Count(), r.Prelude.Count(), r)
		}
	}
}

// relay is a bad one: after the handshake it lets edit decide what becomes of each
// message for the player, and when.
func relay(t *testing.T, to string, edit func(n int, m rtmp.Message) []rtmp.Message) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		player, err := ln.Accept()
		if err != nil {
			return
		}
		defer player.Close()
		server, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer server.Close()
		if _, err := rtmp.AcceptHandshake(player); err != nil {
			return
		}
		if err := rtmp.DialHandshake(server, netip.Addr{}); err != nil {
			return
		}
		up := make(chan struct{})
		go func() {
			defer close(up)
			io.Copy(server, player)
			server.Close()
		}()
		defer func() { player.Close(); <-up }()
		in, out := rtmp.NewReader(server, rtmp.Limits{}), rtmp.NewWriter(player)
		for n := 0; ; {
			m, err := in.ReadMessage()
			if err != nil {
				return
			}
			edited := []rtmp.Message{m}
			if m.Type == rtmp.TypeVideo {
				n++
				edited = edit(n, m)
			}
			if err := out.WriteMessages(edited...); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// A relay that loses, damages, repeats or holds up frames is told from a good one.
func TestBadRelaysAreSeen(t *testing.T) {
	const held = 120 * time.Millisecond
	tests := []struct {
		name string
		edit func(n int, m rtmp.Message) []rtmp.Message
		seen func(r *Report) bool
	}{
		{"good", func(_ int, m rtmp.Message) []rtmp.Message { return []rtmp.Message{m} },
			func(r *Report) bool {
				return r.Lost() == 0 && r.Disordered == 0 && r.Damaged == 0 && r.Delivered == r.Expected
			}},
		{"loses each fifth", func(n int, m rtmp.Message) []rtmp.Message {
			if n%5 == 0 {
				return nil
			}
			return []rtmp.Message{m}
		}, func(r *Report) bool {
			return r.Lost() >= r.Expected.Frames/5-1 && r.Lost() <= r.Expected.Frames/5+1 && r.Loss() > .1
		}},
		{"cuts each fifth short", func(n int, m rtmp.Message) []rtmp.Message {
			if n%5 == 0 {
				m.Payload = m.Payload[:len(m.Payload)-1]
			}
			return []rtmp.Message{m}
		}, func(r *Report) bool { return r.Damaged >= r.Expected.Frames/5-1 && r.Lost() == r.Damaged }},
		{"repeats each fifth", func(n int, m rtmp.Message) []rtmp.Message {
			if n%5 == 0 {
				return []rtmp.Message{m, m}
			}
			return []rtmp.Message{m}
		}, func(r *Report) bool { return r.Disordered >= r.Expected.Frames/5-1 && r.Lost() == 0 }},
		{"holds some up", func(n int, m rtmp.Message) []rtmp.Message {
			if n%15 == 0 { // at least once in a window
				time.Sleep(held)
			}
			return []rtmp.Message{m}
		}, func(r *Report) bool { return r.Lost() == 0 && r.Age.Quantile(1) >= held*8/10 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr, _ := newOrigin(t)
			l := newLoad(t)
			p := publish(t, l, "rtmp://"+addr+"/live/a")
			bad, err := l.Play("rtmp://"+relay(t, addr, tt.edit)+"/live/a", p)
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the first frame", bad.Running)
			if r := measure(t, l); !tt.seen(r) {
				t.Errorf("%v", r)
			}
		})
	}
}

func TestErrorsAreCounted(t *testing.T) {
	addr, httpAddr := newOrigin(t)
	l := newLoad(t)
	publish(t, l, "rtmp://"+addr+"/live/a")
	for _, url := range []string{"rtmp://" + addr + "/live/a"} { // busy: it has a publisher
		if _, err := l.Publish(url, small()); err != nil {
			t.Fatal(err)
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	for _, url := range []string{"rtmp://" + free.Addr().String() + "/live/a", "http://" + httpAddr + "/live/no/such.flv/a.flv?x=secret"} {
		if _, err := l.Play(url, nil); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "two sessions have failed", func() bool { return l.Report().Failed() >= 2 })
	for text := range l.Report().Errors {
		if strings.Contains(text, "secret") {
			t.Errorf("an error shows a query: %s", text)
		}
	}
	for _, url := range []string{"rtmp://127.0.0.1", "rtmp://127.0.0.1/live", "rtmp://127.0.0.1/live/", "ftp://127.0.0.1/live/a", "http://127.0.0.1/a", "://"} {
		if _, err := l.Play(url, nil); err == nil {
			t.Errorf("%q is played", url)
		}
	}
}

// A stopped session is no error, and a released one is forgotten.
func TestStopAndRelease(t *testing.T) {
	addr, _ := newOrigin(t)
	l := newLoad(t)
	p := publish(t, l, "rtmp://"+addr+"/live/a")
	a, b := play(t, l, "rtmp://"+addr+"/live/a", p), play(t, l, "rtmp://"+addr+"/live/a", p)
	a.Stop()
	waitFor(t, "it has stopped", func() bool { return l.Report().RunningPlayers == 1 })
	if r := l.Report(); r.RunningPlayers != 1 || r.Players != 2 || r.Failed() != 0 {
		t.Errorf("%v", r)
	}
	l.Release(nil, []*Player{a, b})
	p.Stop()
	if r := l.Report(); r.Players != 0 || r.RunningPublishers != 0 || r.Failed() != 0 {
		t.Errorf("%v", r)
	}
}
