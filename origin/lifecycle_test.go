package origin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"srs-proxy/protocol/rtmp"
	"srs-proxy/testkit"
)

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	beats := make(chan map[string]any, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fail.Load() {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		var b map[string]any
		if r.URL.Path != "/beat/secret" || r.Method != http.MethodPost || json.NewDecoder(r.Body).Decode(&b) != nil {
			b = nil
		}
		beats <- b
	}))
	defer server.Close()

	cfg := testConfig()
	cfg.Heartbeat = Heartbeat{Enabled: true, Interval: 20 * time.Millisecond, URL: server.URL + "/beat/secret", DeviceID: "dev1", Ports: true, IP: "192.0.2.1"}
	o := start(t, cfg)
	b := <-beats
	for k, want := range map[string]any{"device_id": "dev1", "ip": "192.0.2.1", "server": o.serverID, "service": o.serviceID, "pid": strconv.Itoa(os.Getpid())} {
		if b[k] != want {
			t.Errorf("%s is %v, want %v", k, b[k], want)
		}
	}
	for k, want := range map[string][]string{"rtmp": cfg.RTMPListen, "http": cfg.HTTPListen, "api": cfg.APIListen} {
		if got := fmt.Sprint(b[k]); got != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", k, got, want)
		}
	}
	<-beats // and again

	for _, tt := range [][3]string{
		{"udp", "8000", "[udp://0.0.0.0:8000]"}, {"udp", ":8000", "[udp://0.0.0.0:8000]"}, {"tcp", "127.0.0.1:8000", "[tcp://127.0.0.1:8000]"},
		{"udp", "[::1]:8000", "[udp://[::1]:8000]"}, {"udp", "", "[]"},
	} {
		if got := fmt.Sprint(endpoint(nil, tt[0], tt[1])); got != tt[2] {
			t.Errorf("%s of %q is %s, want %s", tt[0], tt[1], got, tt[2])
		}
	}

	if got := fmt.Sprint(barePorts([]string{"0.0.0.0:1935", "[::]:1936", "127.0.0.1:1937", ":1938"})); got != "[1935 1936 127.0.0.1:1937 :1938]" {
		t.Errorf("listeners are told as %s", got)
	}

	fail.Store(true)
	o.await("warning", func() bool { return strings.Contains(o.logs.String(), "level=WARN msg=heartbeat") })
	fail.Store(false)
	o.await("recovery", func() bool { return strings.Contains(o.logs.String(), "heartbeat works again") })
	if log := o.logs.String(); strings.Contains(log, "secret") {
		t.Errorf("the log tells the token in the URL:\n%s", log)
	}
}

func TestListenFailsWhole(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	free := testkit.FreeAddr(t)
	cfg := testConfig()
	cfg.PIDFile = filepath.Join(t.TempDir(), "origin.pid")
	cfg.RTMPListen, cfg.HTTPListen = []string{free}, []string{busy.Addr().String()}
	err = New(cfg, discard()).Listen()
	if err == nil || !strings.Contains(err.Error(), "listen for http") || !strings.Contains(err.Error(), busy.Addr().String()) {
		t.Fatalf("a busy port: %v", err)
	}
	l, err := net.Listen("tcp", free)
	if err != nil {
		t.Fatalf("the other port is still taken: %v", err)
	}
	_ = l.Close()
	if _, err := os.Stat(cfg.PIDFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pid file stays: %v", err)
	}
}

// TestPIDFile needs another process: fcntl locks do not exclude their own.
func TestPIDFile(t *testing.T) {
	if path := os.Getenv("ORIGIN_TEST_PIDFILE"); path != "" {
		_, err := lockPIDFile(path)
		fmt.Printf("child: %v\n", err)
		return
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "origin.pid")
	p, err := lockPIDFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Not by os.ReadFile: closing any descriptor of the file drops the process's locks.
	if b, err := exec.Command("cat", path).Output(); err != nil || string(b) != strconv.Itoa(os.Getpid()) {
		t.Errorf("pid file %q, %v", b, err)
	}
	second := func() string {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPIDFile$")
		cmd.Env = append(os.Environ(), "ORIGIN_TEST_PIDFILE="+path)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if out, want := second(), fmt.Sprintf("already running as pid %d", os.Getpid()); !strings.Contains(out, want) {
		t.Errorf("a second process got %q, want %q", out, want)
	}
	p.remove()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pid file stays: %v", err)
	}
	if out := second(); !strings.Contains(out, "child: <nil>") {
		t.Errorf("after the end a second process got %q", out)
	}
}

func TestStopEndsSessions(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.PIDFile = filepath.Join(t.TempDir(), "origin.pid")
	o := New(cfg, discard())
	if err := o.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	to := &testOrigin{Origin: o, t: t}
	pub := to.publisher("a")
	pub.video(0, avcConfig())
	pub.video(0, avcFrame(true, 10))
	to.awaitStream("/live/a", false, true)
	player := to.player("a")
	flv, _, _ := to.raw("GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n")
	half := to.dialTCP() // in the handshake
	_, _, idle := to.raw("GET /none.flv HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = idle

	began := time.Now()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not end")
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("took %v", d)
	}
	pub.closed()
	player.closed()
	buf := make([]byte, 64<<10)
	for _, c := range []*net.TCPConn{flv, half.conn} {
		for {
			if _, err := c.Read(buf); err != nil {
				var ne net.Error
				if errors.As(err, &ne) && ne.Timeout() {
					t.Error("a connection stays open")
				}
				break
			}
		}
	}
	if len(o.hub.clients) != 0 {
		t.Errorf("%d clients stay", len(o.hub.clients))
	}
	for _, addr := range slices.Concat(o.RTMPAddrs(), o.HTTPAddrs(), o.APIAddrs()) {
		l, err := net.Listen("tcp", addr.String())
		if err != nil {
			t.Errorf("port is still taken: %v", err)
			continue
		}
		_ = l.Close()
	}
	if _, err := os.Stat(cfg.PIDFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pid file stays: %v", err)
	}
}

// TestChurnLeavesNothing: sessions of every kind that end in every way give back
// their slots, and the hub forgets them.
func TestChurnLeavesNothing(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.HLSEnabled = false
	o := start(t, cfg)
	slots := o.Origin.rtmp[0].slots
	for i := range 60 {
		name := fmt.Sprint("s", i%7)
		pub, _ := o.dial(o.rtmpURL("/live"))
		pub.createStream()
		pub.call("publish", nil, name, "live")
		_ = pub.w.WriteMessage(rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Payload: avcFrame(true, 5000)})
		player, _ := o.dial(o.rtmpURL("/live"))
		player.createStream()
		player.call("play", nil, name)
		half := o.dialTCP()
		_, _ = half.conn.Write([]byte{3, 0, 0})
		flv, err := net.Dial("tcp", o.HTTPAddrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(flv, "GET /live/%s.flv HTTP/1.1\r\nHost: x\r\n\r\n", name)
		if i%2 == 0 {
			_ = player.conn.SetLinger(0) // RST
			_ = pub.conn.SetLinger(0)
		}
		for _, c := range []net.Conn{pub.conn, player.conn, half.conn, flv} {
			_ = c.Close()
		}
	}
	o.await("slots and maps are as before", func() bool {
		o.hub.mu.Lock()
		defer o.hub.mu.Unlock()
		return slots.free.Load() == int64(cfg.MaxConnections) && len(o.hub.streams) == 0 && len(o.hub.clients) == 0
	})
}
