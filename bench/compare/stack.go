package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/bench/load"
	"srs-proxy/bench/meter"
)

// stack is what a case runs on: one origin, and the peers in front of it.
type stack struct {
	dir       string
	children  []*child
	ours      *peer
	peers     []*peer
	skipped   []string // lines about the peers that there are not
	software  string   // what the origin is
	originPID int
	origin    endpoints
	cpus      unix.CPUSet // of our proxy, and so of all of them
}

// peer is one way to the origin.
type peer struct {
	name string
	endpoints
	child *child // nil for direct
	pids  []int  // whose costs are the proxy's
	// atStart is its own memory (meter.Footprint.Anon) before the first session, in bytes, and idle the share of a
	// CPU that it used then.
	atStart uint64
	idle    float64
	// liveAtStart is what it kept of that, as live says it.
	liveAtStart uint64
	// stream is where nginx passes HTTP through byte by byte; "" where HTTP is that anyway.
	stream string
	// control is our unix socket; others have none.
	control string
}

// status is what we read of `srs-proxy status -o json`.
type status struct {
	Software string
	PID      int
	Origins  []struct {
		PID   int
		State string
		Ports struct{ RTMP, HTTP, API, RTC, SRT int }
	}
}

// newStack brings up our proxy with its one origin, and the other peers in front of
// that same origin.
func newStack(ctx context.Context, o options, c benchCase) (_ *stack, err error) {
	dir, err := os.MkdirTemp("", "srs-proxy-bench-")
	if err != nil {
		return nil, err
	}
	s := &stack{dir: dir}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are of another user
		return nil, err
	}
	ours, err := s.startOurs(ctx, o, c)
	if err != nil {
		return nil, err
	}
	for _, name := range o.peers {
		if !c.has(name) {
			continue
		}
		p, err := ours, error(nil)
		if name != peerOurs {
			p, err = s.startPeer(ctx, name, o)
		}
		if err != nil {
			return nil, err
		}
		if p != nil {
			s.peers = append(s.peers, p)
		}
	}
	return s, nil
}

// startOurs runs `srs-proxy up` with one origin.
func (s *stack) startOurs(ctx context.Context, o options, c benchCase) (*peer, error) {
	base, err := freePorts()
	if err != nil {
		return nil, err
	}
	first, err := freePorts()
	if err != nil {
		return nil, err
	}
	state, overlay := filepath.Join(s.dir, "state"), filepath.Join(s.dir, "vhost.conf")
	if err := os.WriteFile(overlay, []byte(c.vhost()), 0o600); err != nil {
		return nil, err
	}
	software := o.srs
	if software == "" || c.builtin {
		software = "builtin"
	}
	e := endpointsFrom(first)
	var env []string
	if o.profile != "" && c.kind == holding {
		env = append(env, "GODEBUG=memprofilerate=4096") // bytes between samples: sessions are small
	}
	child, err := start(s.dir, peerOurs, env, o.binary, "up", "--origins", "1", "--srs", software, "--port-base", fmt.Sprint(base),
		"--rtmp", e.RTMP, "--http", e.HTTP, "--api", e.API, "--webrtc", e.RTC, "--srt", e.SRT, "--candidate", "127.0.0.1",
		"--state-dir", state, "--vhosts", overlay, "--hook-relay", "off", "--cgroup", "off", "--rtmp-to-rtc", "off", "--pprof",
		// One address makes all the load.
		"--max-connections-per-ip", "100000", "--max-udp-sessions-per-ip", "100000", "--max-handshaking", "20000")
	if err != nil {
		return nil, err
	}
	s.children = append(s.children, child)
	s.ours = &peer{name: peerOurs, endpoints: e, child: child, pids: []int{child.pid()}, control: filepath.Join(state, "control.sock")}
	if err := s.findOrigin(ctx); err != nil {
		return nil, err
	}
	if err := unix.SchedGetaffinity(child.pid(), &s.cpus); err != nil {
		return nil, fmt.Errorf("affinity of srs-proxy: %w", err)
	}
	return s.ours, nil
}

// findOrigin waits until our proxy has its origin ready, and notes its process and ports.
func (s *stack) findOrigin(ctx context.Context) error {
	var st status
	if err := s.ours.child.until(ctx, "its origin is not ready", func() bool {
		b, err := s.ours.ask(ctx, "/v1/status")
		return err == nil && json.Unmarshal(b, &st) == nil && len(st.Origins) == 1 && st.Origins[0].State == "ready"
	}); err != nil {
		return err
	}
	s.software, s.originPID = st.Software, st.Origins[0].PID
	ports := st.Origins[0].Ports
	s.origin = endpoints{loopback(ports.RTMP), loopback(ports.HTTP), loopback(ports.API), loopback(ports.RTC), loopback(ports.SRT)}
	return nil
}

// ask gets a path from our control socket.
func (p *peer) ask(ctx context.Context, path string) ([]byte, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.control)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://control"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, res.Status)
	}
	return b, err
}

// goroutines is how many our proxy has, 0 for others.
func (p *peer) goroutines(ctx context.Context) int {
	if p.control == "" {
		return 0
	}
	b, err := p.ask(ctx, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0
	}
	var n int
	_, _ = fmt.Sscanf(string(b), "goroutine profile: total %d", &n) // 0 says it as well
	return n
}

// live is how many bytes of heap and stacks our proxy keeps, garbage not counted; 0 for
// others. Being asked has the proxy collect its garbage.
func (p *peer) live(ctx context.Context) (uint64, error) {
	if p.control == "" {
		return 0, nil
	}
	b, err := p.ask(ctx, "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	return heapValue(b, "HeapAlloc") + heapValue(b, "Stack"), nil
}

// heapValue is a figure of the runtime.MemStats that end a heap profile in text:
// "# HeapAlloc = 123", or "# Stack = 123 / 456" in use and in all.
func heapValue(profile []byte, name string) uint64 {
	for line := range bytes.Lines(profile) {
		if rest, ok := bytes.CutPrefix(line, []byte("# "+name+" = ")); ok {
			n, _ := strconv.ParseUint(string(bytes.Fields(rest)[0]), 10, 64)
			return n
		}
	}
	return 0
}

// close ends everything, the proxies before the origin that `up` owns, and removes
// the folder.
func (s *stack) close() {
	for _, c := range slices.Backward(s.children) {
		c.stop()
	}
	_ = os.RemoveAll(s.dir) // what is left of a temporary folder is no error of a measurement
}

// cpuCount is how many CPUs each proxy may use.
func (s *stack) cpuCount() int { return max(1, s.cpus.Count()) }

// adopt fills in the processes of a peer and puts them where our proxy runs.
func (s *stack) adopt(p *peer) error {
	time.Sleep(200 * time.Millisecond) // a master starts its workers after it listens
	var err error
	if p.pids, err = meter.Family(p.child.pid()); err != nil {
		return err
	}
	return pin(p.pids, s.cpus)
}

// idleTime is how long proxies are watched before their first session.
const idleTime = 2 * time.Second

// watchIdle sees what the proxies use without any session.
func (s *stack) watchIdle(ctx context.Context) error {
	before := make([]time.Duration, len(s.peers))
	for i, p := range s.peers {
		var err error
		if before[i], err = meter.CPUOf(p.pids); err != nil {
			return p.explain(err)
		}
	}
	begun := time.Now()
	if err := load.Sleep(ctx, idleTime); err != nil {
		return err
	}
	elapsed := time.Since(begun)
	for i, p := range s.peers {
		after, err := meter.CPUOf(p.pids)
		if err != nil {
			return p.explain(err)
		}
		held, err := meter.Of(p.pids)
		if err != nil {
			return p.explain(err)
		}
		p.idle, p.atStart = (after-before[i]).Seconds()/elapsed.Seconds(), held.Anon
		if p.liveAtStart, err = p.live(ctx); err != nil {
			return p.explain(err)
		}
	}
	return nil
}
