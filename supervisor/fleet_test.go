package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// row finds an origin in the status; without it the zero one.
func (f *fleet) row(id string) OriginStatus {
	for _, s := range f.all() {
		if s.id == id {
			return s.status()
		}
	}
	return OriginStatus{}
}

func (f *fleet) ids() string {
	var ids []string
	for _, s := range f.all() {
		ids = append(ids, s.id)
	}
	return strings.Join(ids, " ")
}

// settle waits until exactly these origins are there, all of them ready.
func (f *fleet) settled(ids ...string) {
	f.t.Helper()
	eventually(f.t, "just "+strings.Join(ids, " ")+" and ready", func() bool {
		for _, id := range ids {
			if f.row(id).State != Ready {
				return false
			}
		}
		return f.ids() == strings.Join(ids, " ")
	})
}

// publish pins a new stream, on a given origin or, for "", on any.
func (f *fleet) publish(name, on string) balancer.Lease {
	f.t.Helper()
	for i := range 10_000 {
		l, err := f.bal.Pick(f.t.Context(), balancer.Request{
			Stream: balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: name + strconv.Itoa(i)},
			Role:   balancer.Publish,
		})
		if err != nil {
			f.t.Fatal(err)
		}
		if on == "" || l.Origin.ID == on {
			return l
		}
		f.release(l)
	}
	f.t.Fatal("no stream is placed on " + on)
	return balancer.Lease{}
}

func (f *fleet) release(l balancer.Lease) {
	f.t.Helper()
	if err := f.bal.Release(context.Background(), l); err != nil {
		f.t.Fatal(err)
	}
}

// load publishes and plays all the time, over real connections, and looks at how
// many origins are ready. It ends with the test, or with stop.
type load struct {
	f        *fleet
	ending   chan struct{}
	once     sync.Once
	wg       sync.WaitGroup
	mu       sync.Mutex // guards the following
	sent     int
	troubled []string
}

func (f *fleet) underLoad(least, workers int) *load {
	l := &load{f: f, ending: make(chan struct{})}
	for w := range workers {
		l.wg.Go(func() { l.publishes(w) })
	}
	l.wg.Go(func() { l.counts(least) })
	f.t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.once.Do(func() { close(l.ending) })
	l.wg.Wait()
}

// stop ends the load and reports what went wrong; more than that many sessions
// have to have been served.
func (l *load) stop(sessions int) {
	l.f.t.Helper()
	eventually(l.f.t, strconv.Itoa(sessions)+" sessions", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.sent >= sessions || len(l.troubled) > 0
	})
	l.end()
	l.f.t.Logf("%d sessions", l.sent)
	for _, what := range l.troubled[:min(5, len(l.troubled))] {
		l.f.t.Error(what)
	}
}

func (l *load) trouble(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.troubled = append(l.troubled, fmt.Sprintf(format, args...))
}

func (l *load) ended() bool {
	select {
	case <-l.ending:
		return true
	default:
		return false
	}
}

// publishes is a publisher with one player that come back again and again.
func (l *load) publishes(worker int) {
	ctx := context.Background()
	for n := 0; !l.ended(); n++ {
		stream := balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: fmt.Sprintf("%d-%d", worker, n/2)}
		pub, err := l.f.bal.Pick(ctx, balancer.Request{Stream: stream, Role: balancer.Publish})
		if err != nil {
			l.trouble("publish: %v", err)
			return
		}
		source, err := connectRTMP(ctx, pub.Origin.Endpoints.RTMP)
		if err != nil {
			l.trouble("publish to %s: %v", pub.Origin.ID, err)
			return
		}
		l.stays(source, pub)
		play, err := l.f.bal.Pick(ctx, balancer.Request{Stream: stream, Role: balancer.Play})
		if err != nil || play.Origin.ID != pub.Origin.ID {
			l.trouble("a player goes to %s and its publisher to %s (%v)", play.Origin.ID, pub.Origin.ID, err)
		}
		l.stays(source, pub)
		source.Close()
		_, _ = l.f.bal.Release(ctx, play), l.f.bal.Release(ctx, pub)
		l.mu.Lock()
		l.sent++
		l.mu.Unlock()
	}
}

// stays looks for a while that a connection is not closed.
func (l *load) stays(c net.Conn, lease balancer.Lease) {
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		l.trouble("a stream on %s is cut: %v", lease.Origin.ID, err)
	}
}

func (l *load) counts(least int) {
	for !l.ended() {
		if n := l.f.Snapshot(context.Background()).Totals().Ready; n < least {
			l.trouble("%d origins are ready", n)
		}
		origins, _ := l.f.bal.Origins(context.Background())
		up := 0
		for _, o := range origins {
			if o.State == balancer.Up {
				up++
			}
		}
		if up < least {
			l.trouble("%d origins are up in the balancer", up)
		}
		time.Sleep(time.Millisecond)
	}
}

// connectRTMP is a client's connection after the handshake.
func connectRTMP(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	conn, err := dial(ctx, netip.MustParseAddrPort(addr))
	if err != nil {
		return nil, err
	}
	if err := greet(conn, netip.MustParseAddrPort(addr)); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func TestRestartMovesStreamsAsTheyEnd(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 3, "ready")).up()
	first := f.row("origin-1")
	load := f.underLoad(3, 4)
	lease := f.publish("long", "origin-1")
	if err := f.Restart(t.Context(), "origin-1"); err != nil {
		t.Fatal(err)
	}
	old, next := f.row("origin-1"), f.row("origin-1.1")
	if next.State != Ready || next.PID == first.PID || next.Role != Current || next.Ports == first.Ports || next.WorkDir == first.WorkDir || next.CPUs != first.CPUs {
		t.Errorf("the new one: %+v", next)
	}
	if old.PID != first.PID || old.Role != Retiring || old.DrainUntil.Before(time.Now()) {
		t.Errorf("the old one: %+v", old)
	}
	drains := f.until(1, "draining", func(o OriginStatus) bool { return o.State == Draining && f.slots[1].settled() })
	if !strings.Contains(drains.Reason, "replaced by origin-1.1") {
		t.Errorf("reason %q", drains.Reason)
	}
	if snap := f.Snapshot(t.Context()); !snap.Healthy() || snap.Totals().Origins != 3 {
		t.Errorf("a replacement that goes well looks like trouble: %+v", snap.Unhealthy())
	}
	player, err := f.bal.Pick(t.Context(), balancer.Request{Stream: lease.Stream})
	if err != nil || player.Origin.ID != "origin-1" {
		t.Fatalf("a player of the stream goes to %s (%v)", player.Origin.ID, err)
	}
	for i := range 100 {
		if l := f.publish(fmt.Sprintf("new-%d-", i), ""); l.Origin.ID == "origin-1" {
			t.Fatal("a new stream goes to what drains")
		} else {
			f.release(l)
		}
	}
	f.release(lease)
	time.Sleep(2 * drainPoll) // the player is left
	if o := f.row("origin-1"); o.State != Draining || o.PID != first.PID {
		t.Fatalf("it does not wait for its player: %+v", o)
	}
	f.release(player)
	f.settled("origin-0", "origin-1.1", "origin-2")
	load.stop(100)
	if alive(first.PID) {
		t.Error("the old process lives")
	}
	if _, err := os.Stat(filepath.Join(first.WorkDir, "srs.conf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old folder is not tidy: %v", err)
	}
	if err := f.Restart(t.Context(), "origin-1"); err != nil { // the place, whoever is in it
		t.Fatal(err)
	}
	f.settled("origin-0", "origin-1", "origin-2")
	if o := f.row("origin-1"); o.Ports != first.Ports || o.Restarts != 0 {
		t.Errorf("back in its first folder: %+v", o)
	}
	pids := f.pids()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(pids...)
}

func TestRestartOfAll(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 6, "ready")).up()
	before := f.pids()
	load := f.underLoad(6, 8)
	if err := f.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.settled("origin-0.1", "origin-1.1", "origin-2.1", "origin-3.1", "origin-4.1", "origin-5.1")
	load.stop(200)
	for _, pid := range before {
		if alive(pid) {
			t.Errorf("pid %d is left", pid)
		}
	}
}

// A restart of all takes a few at a time. What goes wrong then leaves the rest alone,
// and is no reason to take back what went well.
func TestRestartOfAllGoesBySteps(t *testing.T) {
	cfg := fakeConfig(t, 5, "ready")
	cfg.Starts = 2
	f := newFleet(t, cfg).up()
	most := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				most <- n
				return
			default:
			}
			successors := 0
			for _, s := range f.all() {
				if s.status().Role == Successor {
					successors++
				}
			}
			n = max(n, successors)
			time.Sleep(100 * time.Microsecond)
		}
	}()
	err := f.Restart(t.Context())
	close(stop)
	if n := <-most; n == 0 || n > cfg.Starts {
		t.Errorf("%d successors at once", n)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.settled("origin-0.1", "origin-1.1", "origin-2.1", "origin-3.1", "origin-4.1")
	before := f.pids()

	dir := filepath.Join(cfg.StateDir, "origin-3")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mode"), []byte("crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = f.Restart(t.Context())
	if !errors.Is(err, ErrNoOriginStarts) || !strings.HasPrefix(err.Error(), "2 of 5 origins are replaced; then: ") {
		t.Error(err)
	}
	f.settled("origin-0", "origin-1", "origin-2.1", "origin-3.1", "origin-4.1")
	if now := f.pids(); !slices.Equal(now[2:], before[2:]) {
		t.Errorf("pids %v became %v", before, now)
	}
}

// The deadline stops a process that somebody still uses.
func TestDrainDeadline(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	cfg.DrainDeadline = 300 * time.Millisecond
	f := newFleet(t, cfg).up()
	f.publish("for-ever", "origin-0")
	pid := f.row("origin-0").PID
	start := time.Now()
	if err := f.Restart(t.Context(), "origin-0"); err != nil {
		t.Fatal(err)
	}
	f.settled("origin-0.1", "origin-1")
	if took := time.Since(start); took < cfg.DrainDeadline {
		t.Errorf("stopped after %s", took)
	}
	if alive(pid) {
		t.Error("the old process lives")
	}
}

// What retires and dies, or hangs, is not started again.
func TestRetiringProcessThatDies(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 2, "ready")).up()
	f.publish("lost", "origin-0")
	if err := f.Restart(t.Context(), "origin-0"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(f.row("origin-0").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.settled("origin-0.1", "origin-1")
}

func TestRestartThatFailsChangesNothing(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	f := newFleet(t, cfg).up()
	before := f.pids()
	dir := filepath.Join(cfg.StateDir, "origin-1.1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mode"), []byte("crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := f.underLoad(2, 2)
	err := f.Restart(t.Context())
	if !errors.Is(err, ErrNoOriginStarts) || !strings.Contains(err.Error(), "something is very wrong") || !strings.Contains(err.Error(), "origin-1.1") {
		t.Error(err)
	}
	f.settled("origin-0", "origin-1") // origin-0.1 was ready, and is taken back
	load.stop(10)
	if !slices.Equal(f.pids(), before) {
		t.Errorf("pids %v became %v", before, f.pids())
	}
	if err := f.Restart(t.Context(), "origin-9"); !errors.Is(err, ErrUnknownOrigin) {
		t.Error(err)
	}
}

func TestRestartOfWhatDoesNotServe(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 2, "ready")).up()
	f.setMode(1, "crash")
	if err := syscall.Kill(f.row("origin-1").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.until(1, "a long wait", func(o OriginStatus) bool { return o.State == Backoff && o.Restarts >= 3 })
	f.setMode(1, "ready")
	start := time.Now()
	if err := f.Restart(t.Context(), "origin-1"); err != nil {
		t.Fatal(err)
	}
	f.settled("origin-0", "origin-1")
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestStopDuringRestart(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	f := newFleet(t, cfg).up()
	dir := filepath.Join(cfg.StateDir, "origin-0.1")
	_ = os.MkdirAll(dir, 0o755)
	if err := os.WriteFile(filepath.Join(dir, "mode"), []byte("mute"), 0o600); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- f.Restart(context.Background(), "origin-0") }()
	eventually(t, "a successor", func() bool { return f.row("origin-0.1").PID != 0 })
	pids := f.pids()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
	f.nothingLeft(pids...)
	if err := f.Scale(t.Context(), 3); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
}

func TestScaleUpAndDown(t *testing.T) {
	cfg := fakeConfig(t, 4, "ready")
	allowed, err := runtime.AllowedCPUs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for i := range cfg.CPUs {
		cfg.CPUs[i] = allowed[i%len(allowed) : i%len(allowed)+1]
	}
	f := newFleet(t, cfg).up()
	stays := f.pids()[:2]
	load := f.underLoad(2, 4)
	kept := f.publish("kept", "origin-3")
	if err := f.Scale(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two, and the one that is in use", func() bool { return f.ids() == "origin-0 origin-1 origin-3" })
	if p, _ := f.Progress(); p.Total != 2 || p.Ready != 2 {
		t.Errorf("progress %+v", p)
	}
	if err := f.Scale(t.Context(), 6); err != nil {
		t.Fatal(err)
	}
	if f.ids() != "origin-0 origin-1 origin-2 origin-3 origin-3.1 origin-4 origin-5" {
		t.Errorf("there are %s", f.ids())
	}
	sets := make(map[string]int)
	ports := make(map[int]string)
	for _, o := range f.statuses() {
		if o.Role == Current {
			sets[o.CPUs]++
		}
		for _, port := range o.Ports.List() {
			if ports[port] != "" {
				t.Errorf("%s and %s have port %d", ports[port], o.ID, port)
			}
			ports[port] = o.ID
		}
	}
	for set, n := range sets {
		if n > (6+len(allowed)-1)/len(allowed) {
			t.Errorf("%d origins share CPU %s: %v", n, set, sets)
		}
	}
	f.release(kept)
	f.settled("origin-0", "origin-1", "origin-2", "origin-3.1", "origin-4", "origin-5")
	if err := f.Scale(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	load.end() // there is one left of the two that it wants
	f.settled("origin-0")
	for _, what := range load.troubled {
		if !strings.Contains(what, "1 origins are") {
			t.Error(what)
		}
	}
	if now := f.row("origin-0").PID; now != stays[0] {
		t.Errorf("pid %d of one that stays became %d", stays[0], now)
	}
	if err := f.Scale(t.Context(), 0); err == nil {
		t.Error("scaled to nothing")
	}
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(stays...)
}

func TestScaleThatFailsChangesNothing(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	f := newFleet(t, cfg).up()
	dir := filepath.Join(cfg.StateDir, "origin-2")
	_ = os.MkdirAll(dir, 0o755)
	if err := os.WriteFile(filepath.Join(dir, "mode"), []byte("crash"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Scale(t.Context(), 3); !errors.Is(err, ErrNoOriginStarts) {
		t.Error(err)
	}
	f.settled("origin-0")
	if p, _ := f.Progress(); p.Total != 1 {
		t.Errorf("progress %+v", p)
	}
	_ = os.Remove(filepath.Join(dir, "mode"))
	if err := f.Scale(t.Context(), 3); err != nil {
		t.Error(err)
	}
	f.settled("origin-0", "origin-1", "origin-2")
}

// Somebody else has the next ports: others are found.
func TestScaleAroundABusyPort(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	cfg.Ports = freePorts(t, 4)
	f := newFleet(t, cfg).up()
	ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(cfg.Ports.Ports(1).HTTP))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := f.Scale(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	f.settled("origin-0", "origin-1")
	if got, want := f.row("origin-1").Ports, cfg.Ports.Ports(2); got != want {
		t.Errorf("ports %+v, want %+v", got, want)
	}
}

func TestReloadReplacesWhatChanged(t *testing.T) {
	cfg := fakeConfig(t, 3, "ready")
	f := newFleet(t, cfg).up()
	before := f.pids()
	check := func(cfg Config, want ReloadResult) {
		t.Helper()
		got, err := f.Reload(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("reload: %+v, want %+v", got, want)
		}
	}
	load := f.underLoad(3, 4)
	check(cfg, ReloadResult{Unchanged: []string{"origin-0", "origin-1", "origin-2"}})
	if !slices.Equal(f.pids(), before) {
		t.Errorf("pids %v became %v", before, f.pids())
	}

	allowed, err := runtime.AllowedCPUs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cfg.CPUs = slices.Clone(cfg.CPUs)
	cfg.CPUs[1] = allowed[:1]
	check(cfg, ReloadResult{Unchanged: []string{"origin-0", "origin-2"}, Restarted: []string{"origin-1.1"}})
	f.settled("origin-0", "origin-1.1", "origin-2")
	if got, err := runtime.AllowedCPUs(f.row("origin-1.1").PID); err != nil || !got.Equal(allowed[:1]) {
		t.Errorf("it runs on %s (%v)", got, err)
	}

	cfg.Template = template(t, "stats { network 0; }")
	cfg.CPUs = append(cfg.CPUs, nil)
	check(cfg, ReloadResult{Restarted: []string{"origin-0.1", "origin-1", "origin-2.1"}, Added: []string{"origin-3"}})
	f.settled("origin-0.1", "origin-1", "origin-2.1", "origin-3")
	load.stop(100)

	cfg.CPUs = cfg.CPUs[:2]
	check(cfg, ReloadResult{Unchanged: []string{"origin-0.1", "origin-1"}, Removed: []string{"origin-2.1", "origin-3"}})
	f.settled("origin-0.1", "origin-1")
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(before...)
}

func TestReloadOfABadConfigChangesNothing(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	f := newFleet(t, cfg).up()
	before := f.statuses()
	tests := []struct {
		name  string
		spoil func(*Config)
		want  error
		says  string
	}{
		{"refused by the program", func(c *Config) { c.Template = template(t, "refuse_me on;") }, ErrConfig, "illegal directive refuse_me"},
		{"unreadable template", func(c *Config) { c.Template = template(t, "a {") }, ErrConfig, "origin-0"},
		{"missing program", func(c *Config) { c.Command = []string{"/nowhere/srs"} }, ErrNoBinary, "/nowhere/srs"},
		{"no origins", func(c *Config) { c.CPUs = nil }, nil, "no origins"},
		{"another state dir", func(c *Config) { c.StateDir = "/elsewhere" }, ErrNeedsRestart, "state dir"},
		{"ports beyond the last", func(c *Config) { c.Ports.Base = 65530 }, ErrPortBusy, "no spare ports"},
		{"a program that crashes", func(c *Config) { c.Command = []string{c.Command[0], "child", "crash"} }, ErrNoOriginStarts, "something is very wrong"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next := cfg
			tt.spoil(&next)
			load := f.underLoad(2, 1)
			_, err := f.Reload(t.Context(), next)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v", err)
			}
			f.settled("origin-0", "origin-1")
			load.stop(1)
			for i, o := range f.statuses() {
				if o.PID != before[i].PID {
					t.Errorf("%s: pid %d became %d", o.ID, before[i].PID, o.PID)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(cfg.StateDir, "origin-*.1", "srs.conf")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestDrainSurvivesARestart(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	f := newFleet(t, cfg).up()
	held := f.publish("kept", "origin-1")
	if err := f.Drain(t.Context(), "origin-1"); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if l := f.publish(fmt.Sprintf("new-%d-", i), ""); l.Origin.ID == "origin-1" {
			t.Fatal("a new stream goes to what is drained")
		}
	}
	if l, err := f.bal.Pick(t.Context(), balancer.Request{Stream: held.Stream}); err != nil || l.Origin.ID != "origin-1" {
		t.Errorf("a player of its stream goes to %s (%v)", l.Origin.ID, err)
	}
	if state, err := readState(statePath(cfg.StateDir)); err != nil || !slices.Equal(state.Drained, []string{"origin-1"}) {
		t.Errorf("saved: %v (%v)", state.Drained, err)
	}
	if err := f.Restart(t.Context(), "origin-1"); err == nil {
		t.Error("a drained origin is restarted")
	}
	if err := f.Restart(t.Context()); err != nil {
		t.Error(err)
	}
	f.until(0, "origin-0 is gone", func(OriginStatus) bool { return f.row("origin-0").ID == "" || f.row("origin-0").Role == Retiring })
	if o := f.row("origin-1"); o.State != Draining {
		t.Errorf("after the restart of all others: %+v", o)
	}
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}

	f = newFleet(t, cfg).up() // all that should run is ready
	o := f.row("origin-1")
	if o.State != Stopped || o.Desired != Drain || o.PID != 0 {
		t.Errorf("after the restart: %+v", o)
	}
	if s := f.Snapshot(t.Context()); !s.Healthy() {
		t.Errorf("unhealthy: %+v", s.Unhealthy())
	}
	if err := f.Undrain(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.settled("origin-0", "origin-1")
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft()
}

// A drained origin with another config waits for its undrain with the new one.
func TestReloadOfADrainedOrigin(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	f := newFleet(t, cfg).up()
	if err := f.Drain(t.Context(), "origin-1"); err != nil {
		t.Fatal(err)
	}
	cfg.Template = template(t, "stats { network 0; }")
	if _, err := f.Reload(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the successors alone", func() bool { return f.ids() == "origin-0.1 origin-1.1" })
	if o := f.row("origin-1.1"); o.State != Stopped || o.Desired != Drain {
		t.Errorf("%+v", o)
	}
	if err := f.Undrain(t.Context(), "origin-1"); err != nil {
		t.Fatal(err)
	}
	f.settled("origin-0.1", "origin-1.1")
}

// A stream_caster's port is one process's alone: the successor takes it over when
// its predecessor is gone.
func TestRestartOfAnOriginWithACaster(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	port := freePorts(t, 1).Ports(0).RTMP
	file := filepath.Join(t.TempDir(), "overlay.conf")
	text := fmt.Sprintf("stream_caster { enabled on; caster flv; output rtmp://127.0.0.1/[app]/[stream]; listen %d; }\n", port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if cfg.Overlay, err = srsconf.LoadOverlay(file); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, cfg).up()
	pid := f.row("origin-0").PID
	load := f.underLoad(2, 2)
	held := f.publish("kept", "origin-0")
	if err := f.Restart(t.Context(), "origin-0"); err != nil {
		t.Fatal(err)
	}
	if caster := holds(t, port); caster != pid {
		t.Errorf("pid %d has the port, and not %d", caster, pid)
	}
	f.release(held)
	f.settled("origin-0", "origin-1")
	load.stop(20)
	if now := f.row("origin-0").PID; now == pid || holds(t, port) != now {
		t.Errorf("pid %d has the port, and not %d", holds(t, port), now)
	}
}

func holds(t *testing.T, port int) int {
	t.Helper()
	pid, _, found, err := runtime.PortOwner("tcp", port)
	if err != nil || !found {
		t.Fatalf("nobody listens on %d (%v)", port, err)
	}
	return pid
}
