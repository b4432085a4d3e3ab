package srt

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/route"
	"srs-proxy/testkit"
)

// stuckLog is a log that nobody reads.
type stuckLog struct {
	slog.Handler
	read chan struct{}
}

func (l stuckLog) Enabled(context.Context, slog.Level) bool  { return true }
func (l stuckLog) Handle(context.Context, slog.Record) error { <-l.read; return nil }
func (l stuckLog) WithAttrs([]slog.Attr) slog.Handler        { return l }

// Who reads the log has stopped: media go on, and so do calls and their ends.
func TestStuckLog(t *testing.T) {
	log := stuckLog{read: make(chan struct{})}
	e := startLogged(t, Config{}, route.Config{}, slog.New(log))
	t.Cleanup(func() { close(log.read) }) // before the server is stopped
	o := startOrigin(t)
	e.register("o", o.addr())
	witness := dial(t, e.addr())
	witness.call("live/x")
	for range 3 {
		c := dial(t, e.addr())
		c.call("live/x")
		c.echo()
		c.send(srt.AppendShutdown(nil, c.peer, 0))
	}
	eventually(t, "the origin hears of the ends", func() bool { return o.shutdowns() == 3 })
	witness.echo()
}

// An origin that is stopped in the middle of a handshake costs its own callers a
// refusal, and nobody else anything. (An older proxy waited for it in its only loop.)
func TestStoppedOrigin(t *testing.T) {
	e := start(t, Config{}, route.Config{})
	well := startOrigin(t)
	e.register("well", well.addr())
	witness := dial(t, e.addr())
	witness.call("#!::r=live/witness,m=publish")

	behind := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(testkit.FreePort(t)))
	libsrt := run(t, "srt-live-transmit", "-q", fmt.Sprintf("srt://%s?mode=listener", behind), "file://con")
	listens(t, behind)
	var stopped atomic.Bool
	r := startRelay(t, behind, func(up bool, p srt.Packet) bool {
		h, err := srt.ParseHandshake(p)
		if err == nil && up && h.Stage == srt.StageConclusion && stopped.CompareAndSwap(false, true) {
			_ = libsrt.Process.Signal(syscall.SIGSTOP)
		}
		return false
	})
	e.register("stopped", r.addr())
	e.pin("x", "stopped")

	var callers sync.WaitGroup
	began := time.Now()
	for i := range 20 {
		c := dial(t, e.addr())
		callers.Go(func() {
			c.tryCall(fmt.Sprintf("#!::r=live/x,m=request,caller=%d", i))
		})
	}
	var worst time.Duration
	for time.Since(began) < 1500*time.Millisecond { // longer than an origin may take
		sent := time.Now()
		witness.echo()
		worst = max(worst, time.Since(sent))
		time.Sleep(2 * time.Millisecond)
	}
	callers.Wait()
	t.Logf("the longest that the witness waited: %v", worst)
	if worst > 800*time.Millisecond { // less than an origin may take to answer
		t.Errorf("the witness waited %v", worst)
	}
	if !stopped.Load() {
		t.Error("no handshake came as far as the conclusion")
	}
	if st := e.server.Stats(); st.Opened != 21 {
		t.Errorf("%d sessions were opened, refused %v", st.Opened, st.Refused) // 20 found the other origin
	}
}
