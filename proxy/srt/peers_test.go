package srt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"
	"github.com/datarhei/gosrt/packet"

	"srs-proxy/protocol/srt"
	"srs-proxy/proxy/route"
	"srs-proxy/testkit"
)

// gosrtOrigin is an SRT server of another hand: what is published it gives to players.
type gosrtOrigin struct {
	addr netip.AddrPort

	mu    sync.Mutex // guards bytes
	bytes map[string]int
}

func startGosrt(t *testing.T, passphrase string) *gosrtOrigin {
	t.Helper()
	cfg := gosrt.DefaultConfig()
	ln, err := gosrt.Listen("srt", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	o := &gosrtOrigin{addr: ln.Addr().(*net.UDPAddr).AddrPort(), bytes: make(map[string]int)}
	channels := make(map[string]gosrt.PubSub)
	var sessions sync.WaitGroup
	serve := func(req gosrt.ConnRequest) {
		if req.IsEncrypted() != (passphrase != "") {
			req.Reject(gosrt.REJ_UNSECURE)
			return
		}
		if passphrase != "" && req.SetPassphrase(passphrase) != nil {
			req.Reject(gosrt.REJ_BADSECRET)
			return
		}
		name, _, publish := strings.Cut(req.StreamId(), ",m=publish")
		name = strings.TrimSuffix(name, ",m=request")
		if channels[name] == nil {
			channels[name] = gosrt.NewPubSub(gosrt.PubSubConfig{})
		}
		channel := channels[name]
		conn, err := req.Accept()
		if err != nil {
			return
		}
		sessions.Go(func() {
			defer conn.Close()
			if publish {
				channel.Publish(&counted{conn, o, name})
			} else {
				channel.Subscribe(conn)
			}
		})
	}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			req, err := ln.Accept2()
			if err != nil {
				return
			}
			serve(req)
		}
	}()
	t.Cleanup(func() { ln.Close(); <-accepting; sessions.Wait() })
	return o
}

func (o *gosrtOrigin) received(name string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes[name]
}

// counted counts what is published.
type counted struct {
	gosrt.Conn
	origin *gosrtOrigin
	name   string
}

func (c *counted) ReadPacket() (p packet.Packet, err error) {
	p, err = c.Conn.ReadPacket()
	if err == nil {
		c.origin.mu.Lock()
		c.origin.bytes[c.name] += int(p.Len())
		c.origin.mu.Unlock()
	}
	return p, err
}

// tool starts a program that ends with the test.
func tool(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(name, args...)
	out := &bytes.Buffer{}
	cmd.Stderr = out
	t.Cleanup(func() {
		if cmd.Process != nil {
			_ = cmd.Process.Signal(syscall.SIGCONT)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("%s %s\n%s", name, strings.Join(args, " "), out)
		}
	})
	return cmd
}

func run(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := tool(t, name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// url is where ffmpeg calls.
func url(to netip.AddrPort, id string, options ...string) string {
	return fmt.Sprintf("srt://%s?streamid=%s%s", to, id, strings.Join(append([]string{""}, options...), "&"))
}

// publish has ffmpeg (libsrt) publish a small picture until the test ends.
func publish(t *testing.T, to string) {
	t.Helper()
	run(t, "ffmpeg", "-hide_banner", "-loglevel", "warning", "-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25",
		"-c:v", "mpeg2video", "-g", "10", "-b:v", "300k", "-f", "mpegts", to)
}

// plays has ffmpeg read that many frames.
func plays(t *testing.T, from string, frames int) error {
	t.Helper()
	cmd := tool(t, "ffmpeg", "-hide_banner", "-loglevel", "error", "-i", from, "-frames:v", fmt.Sprint(frames), "-f", "null", "-")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-done
		return context.DeadlineExceeded
	}
}

// libsrt calls through the proxy, with and without a passphrase; keys are agreed on
// past the proxy, so a wrong one is the origin's to refuse.
func TestFFmpeg(t *testing.T) {
	for _, passphrase := range []string{"", "0123456789abcdef"} {
		t.Run("passphrase "+passphrase, func(t *testing.T) {
			e := start(t, Config{}, route.Config{})
			o := startGosrt(t, passphrase)
			e.register("o", o.addr)
			var options []string
			if passphrase != "" {
				options = []string{"passphrase=" + passphrase, "pbkeylen=32"}
			}
			publish(t, url(e.addr(), "#!::r=live/x,m=publish", options...))
			eventually(t, "the origin gets the stream", func() bool { return o.received("#!::r=live/x") > 50_000 })
			if err := plays(t, url(e.addr(), "#!::r=live/x,m=request", options...), 25); err != nil {
				t.Errorf("play: %v", err)
			}
			if passphrase == "" {
				return
			}
			if err := plays(t, url(e.addr(), "#!::r=live/x,m=request", "passphrase=wrong-wrong-wrong"), 1); err == nil {
				t.Error("a play with a wrong passphrase")
			}
			if n := e.server.Stats().Refused[10]; n == 0 {
				t.Errorf("no refusal for a bad secret: %v", e.server.Stats().Refused)
			}
		})
	}
}

// Each step of libsrt's handshake with the proxy is lost once or more.
func TestLostTowardClient(t *testing.T) {
	for _, step := range []struct {
		name  string
		up    bool
		stage srt.Stage
	}{
		{"induction", true, srt.StageInduction},
		{"answer to the induction", false, srt.StageInduction},
		{"conclusion", true, srt.StageConclusion},
		{"answer to the conclusion", false, srt.StageConclusion},
	} {
		t.Run(step.name, func(t *testing.T) {
			e := start(t, Config{}, route.Config{})
			o := startGosrt(t, "")
			e.register("o", o.addr)
			var lost atomic.Int64
			r := startRelay(t, e.addr(), loseFirst(3, step.up, step.stage, &lost))
			publish(t, url(r.addr(), "#!::r=live/x,m=publish"))
			eventually(t, "the origin gets the stream", func() bool { return o.received("#!::r=live/x") > 20_000 })
			if lost.Load() != 3 {
				t.Errorf("%d were lost", lost.Load())
			}
			if n := e.server.Stats().Opened; n != 1 {
				t.Errorf("%d sessions were opened", n)
			}
		})
	}
}

// What time a handshake takes must not become latency: libsrt delivers data at the
// sender's time plus what was agreed on, and what it takes for the sender's time
// comes from the conclusion. Here the origin hears of the caller only after a while.
func TestLatency(t *testing.T) {
	const latency = 200 * time.Millisecond
	e := start(t, Config{DialTimeout: 3 * time.Second}, route.Config{})
	behind, out := startReceiver(t, latency)
	var lost atomic.Int64
	r := startRelay(t, behind, loseFirst(3, true, srt.StageInduction, &lost))
	e.register("o", r.addr())

	send(t, e.addr(), latency, func(b []byte, _ uint64, now time.Time) { binary.BigEndian.PutUint64(b, uint64(now.UnixNano())) })
	var delays []time.Duration
	b := make([]byte, 1316)
	for range 100 {
		if _, err := io.ReadFull(out, b); err != nil {
			t.Fatal(err)
		}
		delays = append(delays, time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(b)))))
	}
	slices.Sort(delays)
	median := delays[len(delays)/2]
	t.Logf("latency %v asked for: least %v, median %v, most %v", latency, delays[0], median, delays[len(delays)-1])
	if lost.Load() != 3 || median < latency-20*time.Millisecond || median > latency+500*time.Millisecond {
		t.Errorf("median %v after %d lost inductions", median, lost.Load())
	}
}

// startReceiver has libsrt listen and give what it receives, when it is due.
func startReceiver(t *testing.T, latency time.Duration) (netip.AddrPort, io.Reader) {
	t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(testkit.FreePort(t)))
	cmd := tool(t, "srt-live-transmit", "-q", fmt.Sprintf("srt://%s?mode=listener&latency=%d", addr, latency.Milliseconds()), "file://con")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listens(t, addr)
	return addr, out
}

// send calls and sends a message, which fill has filled, every 10 ms until the test ends.
func send(t *testing.T, to netip.AddrPort, latency time.Duration, fill func(b []byte, n uint64, now time.Time)) {
	t.Helper()
	cfg := gosrt.DefaultConfig()
	cfg.StreamId, cfg.Latency = "#!::r=live/x,m=publish", latency
	c, err := gosrt.Dial("srt", to.String(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		defer c.Close()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		b := make([]byte, 1316)
		for n := uint64(0); ; n++ {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				fill(b, n, now)
				c.Write(b)
			}
		}
	})
	t.Cleanup(func() { close(stop); sending.Wait() })
}

// A network that loses, doubles and swaps datagrams costs a session through the proxy
// what it costs one straight to the origin: nothing, for SRT sends again.
func TestNoisyNetwork(t *testing.T) {
	const latency = time.Second
	for name, proxied := range map[string]bool{"straight": false, "proxied": true} {
		t.Run(name, func(t *testing.T) {
			e := start(t, Config{}, route.Config{})
			origin, out := startReceiver(t, latency)
			e.register("o", origin)
			to := origin
			if proxied {
				to = e.addr()
			}
			r := startRelay(t, to, nil)
			send(t, r.addr(), latency, func(b []byte, n uint64, _ time.Time) {
				if n == 0 { // libsrt's caller would repeat a handshake, gosrt's does not
					r.mu.Lock()
					r.noisy = true
					r.mu.Unlock()
				}
				binary.BigEndian.PutUint64(b, n)
			})
			b := make([]byte, 1316)
			for want := range uint64(300) {
				if _, err := io.ReadFull(out, b); err != nil {
					t.Fatal(err)
				}
				if n := binary.BigEndian.Uint64(b); n != want {
					t.Fatalf("message %d after %d", n, want)
				}
			}
		})
	}
}

// listens waits until a listener answers.
func listens(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	c := dial(t, addr)
	eventually(t, "the listener answers", func() bool {
		c.conn.Write(c.h.Append(nil, 0, 1))
		return c.read(50*time.Millisecond) != nil
	})
}
