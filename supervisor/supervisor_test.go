package supervisor

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/runtime"
)

func TestReadyThenStopped(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 4, "ready")).up()
	origins, err := f.bal.Origins(t.Context())
	if err != nil || len(origins) != 4 {
		t.Fatalf("the balancer has %d origins (%v), want 4", len(origins), err)
	}
	eventually(t, "a state file with all origins", func() bool {
		state, err := readState(statePath(f.cfg.StateDir))
		return err == nil && len(state.Origins) == 4
	})
	snap := f.Snapshot(t.Context())
	if !snap.Healthy() || snap.Degraded() {
		t.Errorf("unhealthy: %+v", snap.Unhealthy())
	}
	total := snap.Totals()
	if total.Ready != 4 || total.Streams != 8 || total.Publishers != 4 || total.Players != 12 || total.InBps != 4e6 || total.OutBps != 4*2.005e6 {
		t.Errorf("totals %+v", total)
	}
	for i, o := range snap.Origins {
		if o.PID == 0 || o.Version != "7.0.18" || o.ServiceID == "" || o.StatsError != "" || o.Restarts != 0 || o.RSS == 0 || o.Ports != f.cfg.Ports.Ports(i) {
			t.Errorf("origin %d: %+v", i, o)
		}
	}
	pids := f.pids()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(pids...)
	if origins, _ := f.bal.Origins(t.Context()); len(origins) != 0 {
		t.Errorf("the balancer still has %v", origins)
	}
	for _, o := range f.statuses() {
		if o.State != Stopped || !strings.HasPrefix(o.LastExit, "exit code 0") {
			t.Errorf("%s: %s, %q", o.ID, o.State, o.LastExit)
		}
	}
}

func TestKilledOriginLeavesTheBalancerAndComesBack(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 3, "ready")).up()
	before := f.slots[1].status()
	others := []int{f.slots[0].status().PID, f.slots[2].status().PID}
	killed := time.Now()
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := f.readyAgain(1, before.PID)
	took := time.Since(killed)
	events := f.bal.of("origin-1", killed)
	if len(events) < 2 || events[0].kind != "remove" || events[1].kind != "update" {
		t.Fatalf("the balancer heard %+v", events)
	}
	if delay := events[0].at.Sub(killed); delay > 50*time.Millisecond && !raceEnabled {
		t.Errorf("out of the balancer after %s", delay)
	}
	if events[1].origin.Service == before.ServiceID {
		t.Error("the new process has the old one's service id")
	}
	if took > 2*time.Second && !raceEnabled {
		t.Errorf("ready again after %s", took)
	}
	if after.Restarts != 1 || !strings.HasPrefix(after.LastExit, "killed by SIGKILL after") {
		t.Errorf("%d restarts, last exit %q", after.Restarts, after.LastExit)
	}
	if now := []int{f.slots[0].status().PID, f.slots[2].status().PID}; now[0] != others[0] || now[1] != others[1] {
		t.Errorf("the siblings' pids %v became %v", others, now)
	}
	if alive(before.PID) {
		t.Error("a zombie is left")
	}
}

func TestHungOriginIsReplaced(t *testing.T) {
	cfg := fakeConfig(t, 3, "ready")
	cfg.ProbePeriod, cfg.ProbeTimeout = 200*time.Millisecond, 300*time.Millisecond
	f := newFleet(t, cfg).up()
	before := f.slots[2].status()
	stopped := time.Now()
	if err := syscall.Kill(before.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	degraded := f.until(2, "degraded", func(o OriginStatus) bool { return o.State != Ready })
	if degraded.State == Degraded && !strings.Contains(degraded.Reason, "stopped by a signal") {
		t.Errorf("reason %q", degraded.Reason)
	}
	f.readyAgain(2, before.PID)
	events := f.bal.of("origin-2", stopped)
	for len(events) > 0 && events[0].kind == "update" { // a change of load, before it was found out
		events = events[1:]
	}
	if len(events) == 0 || events[0].kind != "remove" {
		t.Errorf("the balancer heard %+v", events)
	}
}

func TestNobodyIsKilledWhenManyHang(t *testing.T) {
	cfg := fakeConfig(t, 4, "ready")
	cfg.ProbePeriod, cfg.ProbeTimeout = 100*time.Millisecond, 150*time.Millisecond
	f := newFleet(t, cfg).up()
	pids := f.pids()
	for _, pid := range pids[:2] {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it must be the host", func() bool { return strings.Contains(f.logs.String(), "must be the host") })
	for _, i := range []int{0, 1} {
		f.until(i, "degraded", func(o OriginStatus) bool { return o.State == Degraded && o.PID == pids[i] })
	}
	for _, pid := range pids[:2] {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int{0, 1} {
		f.until(i, "ready again as it was", func(o OriginStatus) bool { return o.State == Ready && o.PID == pids[i] })
	}
}

func TestCrashLoopEndsTheStart(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 2, "crash")).run()
	err := f.ended()
	if !errors.Is(err, ErrNoOriginStarts) || !strings.Contains(err.Error(), "something is very wrong") || !strings.Contains(err.Error(), "exit code 3") {
		t.Error(err)
	}
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("no ExitError with code 3 in %v", err)
	}
	f.nothingLeft()
}

func TestOneCrashingOriginLeavesTheOthersAlone(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 2, "ready"))
	f.setMode(1, "crash")
	f.run()
	o := f.until(1, "failed often", func(o OriginStatus) bool { return o.Restarts >= 3 })
	if !strings.Contains(o.LastExit, "something is very wrong") {
		t.Errorf("last exit %q", o.LastExit)
	}
	if first := f.slots[0].status(); first.State != Ready || first.Restarts != 0 {
		t.Errorf("its sibling: %+v", first)
	}
	if p, _ := f.Progress(); p.Ready != 1 || p.Total != 2 {
		t.Errorf("progress %+v", p)
	}
	f.setMode(1, "ready")
	f.readyAgain(1, 0)
}

func TestMuteOriginIsGivenUp(t *testing.T) {
	cfg := fakeConfig(t, 1, "mute")
	cfg.StartTimeout = 300 * time.Millisecond
	f := newFleet(t, cfg).run()
	o := f.until(0, "in backoff", func(o OriginStatus) bool { return o.State == Backoff })
	if !strings.Contains(o.Reason, "not ready after 300ms") {
		t.Errorf("reason %q", o.Reason)
	}
}

func TestDeafOriginIsKilled(t *testing.T) {
	cfg := fakeConfig(t, 2, "deaf")
	cfg.TermAfter, cfg.KillAfter = 100*time.Millisecond, 200*time.Millisecond
	f := newFleet(t, cfg).up()
	pids := f.pids()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(pids...)
	for _, o := range f.statuses() {
		if o.LastExit != "killed by SIGKILL, as ordered" {
			t.Errorf("last exit %q", o.LastExit)
		}
	}
}

func TestHurry(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 2, "deaf")).up()
	pids := f.pids()
	start := time.Now()
	f.stop()
	f.Hurry()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > f.cfg.TermAfter {
		t.Errorf("stopped after %s", took)
	}
	f.nothingLeft(pids...)
}

func TestChattyOriginIsNeverBlocked(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 1, "chatter")).up()
	// A pipe holds 64 KiB: without a reader nothing more would come.
	eventually(t, "a full ring", func() bool {
		lines, err := f.Output("origin-0", 1000)
		return err == nil && len(lines) > 10
	})
	if o := f.slots[0].status(); o.State != Ready {
		t.Errorf("%+v", o)
	}
	if _, err := f.Output("origin-9", 1); !errors.Is(err, ErrUnknownOrigin) {
		t.Error(err)
	}
}

func TestGrandchildrenDieWithTheirOrigin(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 1, "fork")).up()
	pid, grandchild := f.slots[0].status().PID, f.grandchild(0)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.readyAgain(0, pid)
	if alive(grandchild) {
		t.Error("the grandchild lives on, or is a zombie")
	}
	pids := f.pids()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(append(pids, f.grandchild(0))...)
}

func TestGrandchildThatLeftTheGroupIsEndedToo(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 1, "escape")).up()
	pids := append(f.pids(), f.grandchild(0))
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft(pids...)
}

func TestOrphansAreReapedAndOtherChildrenAreNot(t *testing.T) {
	cfg := fakeConfig(t, 1, "zombie")
	cfg.ProbePeriod, cfg.ProbeTimeout = 50*time.Millisecond, time.Second
	f := newFleet(t, cfg).up()
	// Whoever else starts commands in this process gets their exit codes.
	other := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 7")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a zombie of somebody else", func() bool { return isDead(other.Process.Pid) })
	f.slots[0].proc.reapStrays()
	var exit *exec.ExitError
	if err := other.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("its parent gets %v", err)
	}
	orphan := f.grandchild(0)
	eventually(t, "the orphan reaped", func() bool { return !alive(orphan) })
	if o := f.slots[0].status(); o.State != Ready || o.Restarts != 0 {
		t.Errorf("%+v", o)
	}
}

// A server need not keep the connection of the probes: each time that it closed
// one, the probe goes out again on a new one and counts as answered.
func TestProbeOverClosedConnections(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 1, "close")).up()
	o := f.slots[0].status()
	c := newProbeConn(f.cfg.dialAddr(o.Ports.API), o.PID)
	defer c.close()
	for i := range 3 {
		c.send()
		eventually(t, "answer "+strconv.Itoa(i), func() bool {
			got := c.receive()
			if got == answerClosed {
				c.resend()
			}
			return got == answerGood
		})
	}
	stranger := newProbeConn(f.cfg.dialAddr(o.Ports.API), o.PID+1)
	defer stranger.close()
	stranger.send()
	eventually(t, "an answer that is not the right one's", func() bool {
		if stranger.receive() == answerGood {
			t.Fatal("an answer of another process counts")
		}
		return stranger.fd < 0
	})
}

func TestOrders(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 2, "ready")).up()
	is := func(s State) func(OriginStatus) bool {
		return func(o OriginStatus) bool { return o.State == s }
	}
	inBalancer := func(want balancer.State) func() bool {
		return func() bool {
			origins, _ := f.bal.Origins(context.Background())
			return len(origins) == 2 && origins[1].State == want
		}
	}
	pid := f.slots[1].status().PID
	order := func(d Desired) {
		t.Helper()
		if err := f.SetDesired("origin-1", d); err != nil {
			t.Fatal(err)
		}
	}
	order(Drain)
	f.until(1, "draining", is(Draining))
	eventually(t, "draining in the balancer", inBalancer(balancer.Draining))
	if s := f.Snapshot(t.Context()); !s.Healthy() {
		t.Error("a drained origin makes it unhealthy")
	}
	order(Run)
	f.until(1, "ready", is(Ready))
	eventually(t, "up in the balancer", inBalancer(balancer.Up))
	if now := f.slots[1].status().PID; now != pid {
		t.Errorf("undrain replaced pid %d by %d", pid, now)
	}
	order(Stop)
	f.until(1, "stopped", func(o OriginStatus) bool { return o.State == Stopped && o.PID == 0 })
	if alive(pid) {
		t.Error("the process lives on")
	}
	order(Run)
	f.readyAgain(1, pid)
	order(Drain)
	drained := f.until(1, "draining", is(Draining))
	if err := syscall.Kill(drained.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.until(1, "stopped, for nobody wants it back", is(Stopped))
	if err := f.SetDesired("nobody", Run); !errors.Is(err, ErrUnknownOrigin) {
		t.Error(err)
	}
}

func TestMissingAnswersShowInTheSnapshot(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 2, "ready")).up()
	good := f.Snapshot(t.Context())
	if err := syscall.Kill(good.Origins[1].PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(good.Origins[1].PID, syscall.SIGCONT)
	time.Sleep(statsAge)
	start := time.Now()
	s := f.Snapshot(t.Context())
	if took := time.Since(start); took > 2*statsTimeout {
		t.Errorf("took %s", took)
	}
	if s.Origins[0].StatsError != "" || s.Origins[0].Streams != 2 {
		t.Errorf("%+v", s.Origins[0])
	}
	if s.Origins[1].StatsError == "" || s.Origins[1].Streams != 2 {
		t.Errorf("%+v", s.Origins[1])
	}
}

func TestPlacement(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	allowed, err := runtime.AllowedCPUs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cfg.CPUs[0] = allowed[:1]
	f := newFleet(t, cfg).up()
	o := f.slots[0].status()
	if got, err := runtime.AllowedCPUs(o.PID); err != nil || got.String() != o.CPUs {
		t.Errorf("runs on %s (%v), shown as %s", got, err, o.CPUs)
	}
	if group, err := syscall.Getpgid(o.PID); err != nil || group != o.PID {
		t.Errorf("group %d of pid %d (%v)", group, o.PID, err)
	}
}

func TestPrepareRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		spoil func(*Config)
		want  error
		says  []string
	}{
		{"missing binary", func(c *Config) { c.Command = []string{"/nowhere/srs"} }, ErrNoBinary, []string{"/nowhere/srs", "--srs"}},
		{"a folder as binary", func(c *Config) { c.Command = []string{"/"} }, ErrNoBinary, []string{"--srs"}},
		{"no program", func(c *Config) { c.Command = []string{text} }, ErrNoBinary, []string{text}},
		{"refused config", func(c *Config) { c.Template = template(t, "refuse_me on;") }, ErrConfig, []string{"illegal directive refuse_me", "exit code 22", "-t -c"}},
		{"bad template", func(c *Config) { c.Template = template(t, "a {") }, ErrConfig, []string{"origin-0"}},
		{"no origins", func(c *Config) { c.CPUs = nil }, nil, []string{"no origins"}},
		{"relative state dir", func(c *Config) { c.StateDir = "here" }, nil, []string{"here", "absolute"}},
		{"bad listen address", func(c *Config) { c.Listen = "localhost" }, nil, []string{"localhost"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := fakeConfig(t, 2, "ready")
			tt.spoil(&cfg)
			f := newFleet(t, cfg)
			err := f.Prepare(t.Context())
			if err == nil {
				f.Close()
				t.Fatal("accepted")
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("%v is no %v", err, tt.want)
			}
			for _, say := range tt.says {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%q does not say %q", err, say)
				}
			}
		})
	}
}

func TestBusyPort(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		t.Run(network, func(t *testing.T) {
			cfg := fakeConfig(t, 3, "ready")
			cfg.RTC = true
			ports := cfg.Ports.Ports(1)
			port := ports.HTTP
			if network == "udp" {
				port = ports.RTC
				c, err := net.ListenPacket("udp", "127.0.0.1:"+strconv.Itoa(port))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			} else {
				ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
			}
			f := newFleet(t, cfg)
			err := f.Prepare(t.Context())
			if !errors.Is(err, ErrPortBusy) {
				t.Fatal(err)
			}
			for _, say := range []string{"origin-1", strconv.Itoa(port), strconv.Itoa(os.Getpid()), "supervisor", "--port-base"} {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%q does not say %q", err, say)
				}
			}
		})
	}
}

func TestPortTakenLaterIsFatalForItsSlotOnly(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 2, "ready")).up()
	port := f.cfg.Ports.Ports(0).RTMP
	addr := "127.0.0.1:" + strconv.Itoa(port)
	f.setMode(0, "crash")
	pid := f.slots[0].status().PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var ln net.Listener
	eventually(t, "the port", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", addr)
		return err == nil
	})
	o := f.until(0, "fatal", func(o OriginStatus) bool { return o.State == Fatal })
	if !strings.Contains(o.Reason, strconv.Itoa(os.Getpid())) {
		t.Errorf("reason %q", o.Reason)
	}
	if s := f.slots[1].status(); s.State != Ready {
		t.Errorf("its sibling: %+v", s)
	}
	if s := f.Snapshot(t.Context()); s.Healthy() || !s.Degraded() {
		t.Error("the snapshot calls that healthy")
	}
	if err := f.Restart(t.Context(), "origin-0"); err != nil {
		t.Fatal(err)
	}
	if again := f.slots[0].status(); again.State != Fatal || again.Restarts != o.Restarts+1 {
		t.Errorf("after a restart in vain: %+v", again)
	}
	ln.Close()
	f.setMode(0, "ready")
	if err := f.Restart(t.Context(), "origin-0"); err != nil {
		t.Fatal(err)
	}
	if again := f.slots[0].status(); again.State != Ready {
		t.Errorf("after the restart: %+v", again)
	}
	f.readyAgain(0, pid)
}

func TestOneSupervisorPerStateDir(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	first := newFleet(t, cfg).up()
	cfg.Ports = freePorts(t, 1)
	second := newFleet(t, cfg)
	err := second.Prepare(t.Context())
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), cfg.StateDir) {
		t.Fatal(err)
	}
	if o := first.slots[0].status(); o.State != Ready {
		t.Errorf("the first one's origin: %+v", o)
	}
	first.stop()
	if err := first.ended(); err != nil {
		t.Fatal(err)
	}
	second.up()
}
