package supervisor

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/runtime"
)

// adoptedWithin is what is promised; the race detector makes it slower.
const adoptedWithin = 3 * time.Second

// afterKills kills supervisors one after the other and proves that the origins go
// on under each next one. It returns the last one, which lives.
func afterKills(t *testing.T, cfg Config, times int) (*earlier, []OriginStatus) {
	t.Helper()
	e := upEarlier(t, cfg)
	seen := e.snapshot()
	var slowest time.Duration
	for i := range times {
		e.kill()
		for _, o := range seen {
			if !lives(o.PID) {
				t.Fatalf("%s died with its supervisor, at kill %d", o.ID, i+1)
			}
		}
		start := time.Now()
		e = upEarlier(t, cfg)
		took := time.Since(start)
		slowest = max(slowest, took)
		if took > adoptedWithin && !raceEnabled {
			t.Errorf("adopted after %s", took)
		}
		sameOrigins(t, seen, e.snapshot())
		if t.Failed() {
			t.Fatalf("at kill %d\n%s", i+1, e.logs)
		}
	}
	t.Logf("%d kills, slowest adoption %s", times, slowest)
	return e, seen
}

func TestAdoption(t *testing.T) {
	cfg := fakeConfig(t, 4, "ready")
	e, seen := afterKills(t, cfg, testTimes(t))
	if n := strings.Count(e.logs.String(), "origin adopted"); n != len(seen) {
		t.Errorf("%d of %d adoptions in the log", n, len(seen))
	}
	// The last supervisor stops what it did not start.
	e.stop()
	for _, o := range seen {
		if lives(o.PID) {
			t.Errorf("%s (pid %d) outlived a clean stop", o.ID, o.PID)
		}
	}
	if _, err := os.Stat(statePath(cfg.StateDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state file is left: %v", err)
	}
}

// SRS has other ways to see its supervisor go: descriptors, the parent, signals.
func TestSRSAdoption(t *testing.T) {
	cfg := srsConfig(t, 4)
	e, seen := afterKills(t, cfg, testTimes(t))
	for i, o := range seen {
		origins, err := runtime.AllowedCPUs(o.PID)
		if err != nil || origins.String() != cfg.CPUs[i].String() {
			t.Errorf("%s runs on %s (%v)", o.ID, origins, err)
		}
	}
	e.stop()
	for _, o := range seen {
		if lives(o.PID) {
			t.Errorf("%s is left", o.ID)
		}
	}
}

// The same in this process, whose balancer and slots can be looked at.
func TestAdoptedOriginIsLikeAnother(t *testing.T) {
	cfg := fakeConfig(t, 3, "ready")
	e := upEarlier(t, cfg)
	// One restart, which the next supervisor has to know of.
	restarted := e.snapshot()[2].PID
	if err := syscall.Kill(restarted, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a restart", func() bool { o := e.snapshot()[2]; return o.PID != restarted && o.State == Ready })
	seen := e.snapshot()
	eventually(t, "a state file that knows", func() bool {
		s := savedIn(t, cfg.StateDir)
		return len(s.Origins) == 3 && s.Origins[2].PID == seen[2].PID && s.Origins[2].ServiceID != ""
	})
	e.kill()

	f := newFleet(t, cfg).up()
	now := f.statuses()
	sameOrigins(t, seen, now)
	if now[2].Restarts != 1 || !strings.HasPrefix(now[2].LastExit, "killed by SIGKILL") {
		t.Errorf("%d restarts, last exit %q", now[2].Restarts, now[2].LastExit)
	}
	origins, err := f.bal.Origins(t.Context())
	if err != nil || len(origins) != 3 || origins[1].Service != seen[1].ServiceID {
		t.Errorf("the balancer has %+v (%v)", origins, err)
	}
	if s := f.Snapshot(t.Context()); !s.Healthy() || s.Origins[1].Streams != 2 || s.Origins[1].Version != "7.0.18" || s.Origins[1].RSS == 0 {
		t.Errorf("%+v", s.Origins[1])
	}

	killed := time.Now()
	if err := syscall.Kill(seen[1].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := f.readyAgain(1, seen[1].PID)
	events := f.bal.of("origin-1", killed)
	if len(events) < 2 || events[0].kind != "remove" || events[1].kind != "update" {
		t.Fatalf("the balancer heard %+v", events)
	}
	if delay := events[0].at.Sub(killed); delay > 50*time.Millisecond && !raceEnabled {
		t.Errorf("out of the balancer after %s", delay)
	}
	if after.Restarts != 1 || after.LastExit == "" {
		t.Errorf("%d restarts, last exit %q", after.Restarts, after.LastExit)
	}

	// A hung one is killed, through its descriptor.
	if err := syscall.Kill(seen[0].PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.readyAgain(0, seen[0].PID)

	pids := f.pids()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	f.nothingLeft()
	for _, pid := range append(pids, seen[0].PID, seen[1].PID, seen[2].PID) {
		if lives(pid) { // as a zombie it is init's
			t.Errorf("process %d is left", pid)
		}
	}
}

// A kill can come at any moment of a start: what it leaves is adopted or ended,
// and never in the way.
func TestKillDuringTheStart(t *testing.T) {
	cfg := fakeConfig(t, 4, "ready")
	cfg.StartTimeout = 10 * time.Second
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 2 * testTimes(t) {
		e := launchEarlier(t, cfg)
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) // when, is what varies
		e.kill()
	}
	e := upEarlier(t, cfg)
	seen := e.snapshot()
	// One process a place: SRS's SO_REUSEPORT would let two share the clients.
	origins := 0
	for _, pid := range pids() {
		if env, err := variables(pid); err == nil && lives(pid) && strings.HasPrefix(variable(env, strayMark), cfg.StateDir) {
			origins++
			if !slices.ContainsFunc(seen, func(o OriginStatus) bool { return o.PID == pid }) {
				t.Errorf("pid %d is nobody's", pid)
			}
		}
	}
	if origins != len(seen) {
		t.Errorf("%d processes for %d places", origins, len(seen))
	}
	e.stop()
	for _, o := range seen {
		if lives(o.PID) {
			t.Errorf("%s is left", o.ID)
		}
	}
}

// The file is gone, but the locks on the pid files are not.
func TestAdoptionWithoutStateFile(t *testing.T) {
	for name, spoil := range map[string]func(string) error{
		"missing":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 40) },
		"empty":     func(path string) error { return os.WriteFile(path, []byte(`{"format":1}`), 0o600) },
		"writable by all": func(path string) error {
			return os.Chmod(path, 0o666)
		},
		"another boot's": func(path string) error {
			return os.WriteFile(path, []byte(`{"format":1,"boot_id":"x","origins":[{"slot":0,"id":"origin-0","pid":2,"start_ticks":1}]}`), 0o600)
		},
		// Whoever wrote this, the origins prove themselves.
		"wrong": func(path string) error {
			s, err := readState(path)
			if err != nil {
				return err
			}
			for i := range s.Origins {
				s.Origins[i].StartTicks++
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, o := range s.Origins {
				text = []byte(strings.ReplaceAll(string(text), strconv.FormatUint(o.StartTicks-1, 10), strconv.FormatUint(o.StartTicks, 10)))
			}
			return os.WriteFile(path, text, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := fakeConfig(t, 2, "ready")
			e := upEarlier(t, cfg)
			seen := e.snapshot()
			eventually(t, "a whole state file", func() bool { return len(savedIn(t, cfg.StateDir).Origins) == 2 })
			e.kill()
			if err := spoil(statePath(cfg.StateDir)); err != nil {
				t.Fatal(err)
			}
			e = upEarlier(t, cfg)
			sameOrigins(t, seen, e.snapshot())
			e.stop()
		})
	}
}

// What an origin prints goes nowhere in particular when its supervisor is gone. A
// pipe would have ended this one at once, by SIGPIPE.
func TestPrintingOriginSurvivesItsSupervisor(t *testing.T) {
	cfg := fakeConfig(t, 1, "chatter")
	e := upEarlier(t, cfg)
	seen := e.snapshot()
	file := filepath.Join(seen[0].WorkDir, originOutput)
	size := func() int64 {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	e.kill()
	for range 3 {
		// It goes on printing, a pipeful each time.
		from := size()
		eventually(t, "more output", func() bool { return size() > from+128<<10 })
	}
	if !lives(seen[0].PID) {
		t.Fatal("it died of what it printed")
	}
	f := newFleet(t, cfg).up()
	sameOrigins(t, seen, f.statuses())
	eventually(t, "a shorter file", func() bool { return size() < outputLimit })
	lines, err := f.Output("origin-0", 5)
	if err != nil || len(lines) != 5 || !strings.HasPrefix(lines[0], "xxx") {
		t.Errorf("output %q, %v", lines, err)
	}
}

// Strangers that meet some of the proofs, with a state file that names them and a
// port that they hold: each of them keeps its port and its life.
func TestStrangersAreNeverSignalled(t *testing.T) {
	tests := []struct {
		name   string
		before func(*scene)
		after  func(*testing.T, *scene, *savedState)
	}{
		{name: "no mark", before: func(s *scene) { s.env = os.Environ() }},
		{name: "not the leader of its group", before: func(s *scene) { s.attr = nil }},
		{name: "no lock", after: func(t *testing.T, s *scene, _ *savedState) {
			if err := os.Remove(s.slot.params.PIDFile); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "the API is another's", before: func(s *scene) { s.env = append(s.env, "LIE_PID=1") }},
		{name: "the API is that of a process of ours", before: func(s *scene) { s.env = append(s.env, "LIE_PID="+strconv.Itoa(os.Getpid())) }},
		{name: "another service id", after: func(_ *testing.T, _ *scene, s *savedState) { s.Origins[0].ServiceID = "svc-another" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := fakeConfig(t, 2, "ready")
			e := upEarlier(t, cfg)
			seen := e.snapshot()
			eventually(t, "a whole state file", func() bool { return len(savedIn(t, cfg.StateDir).Origins) == 2 })
			e.kill()
			end9(t, seen[0].PID)

			s := newScene(t, cfg)
			if tt.before != nil {
				tt.before(s)
			}
			w := s.play()
			state := savedIn(t, cfg.StateDir)
			state.Origins[0] = s.candidate(w).saved
			state.Origins[0].ServiceID = "svc-" + strconv.Itoa(w.pid())
			if tt.after != nil {
				tt.after(t, s, &state)
			}
			writeSaved(t, cfg.StateDir, state)

			f := newFleet(t, cfg).run()
			o := f.until(0, "fatal", func(o OriginStatus) bool { return o.State == Fatal })
			if !strings.Contains(o.Reason, "held by pid "+strconv.Itoa(w.pid())) {
				t.Errorf("reason %q does not name pid %d", o.Reason, w.pid())
			}
			if logs := f.logs.String(); !strings.Contains(logs, "left alone") {
				t.Error("the log does not say why")
			}
			other := f.until(1, "adopted", func(o OriginStatus) bool { return o.State == Ready })
			sameOrigins(t, seen[1:], []OriginStatus{other})
			f.stop()
			if err := f.ended(); err != nil {
				t.Fatal(err)
			}
			w.untouched(t)
			if lives(seen[1].PID) {
				t.Error("the origin lives on")
			}
		})
	}
}

// The true one of the scene above is adopted: what fails there is the one proof.
func TestWitnessIsAdopted(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	w := newScene(t, cfg).play()
	f := newFleet(t, cfg).up()
	if o := f.statuses()[0]; o.PID != w.pid() || o.Restarts != 0 {
		t.Errorf("%+v", o)
	}
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	if exit := f.statuses()[0].LastExit; exit != "exit code 0, as ordered" {
		t.Errorf("last exit %q", exit)
	}
}

// end9 kills one of our test's processes and waits until it is gone.
func end9(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end", func() bool { return !lives(pid) })
}

// Leftovers for which there is no place are stopped, in the order of a clean stop.
func TestSuperfluousLeftoversAreStopped(t *testing.T) {
	cfg := fakeConfig(t, 4, "ready")
	e := upEarlier(t, cfg)
	seen := e.snapshot()
	e.kill()
	cfg.CPUs = cfg.CPUs[:2]
	f := newFleet(t, cfg).up()
	sameOrigins(t, seen[:2], f.statuses())
	for _, o := range seen[2:] {
		eventually(t, o.ID+" stopped", func() bool { return !lives(o.PID) })
	}
	eventually(t, "said so", func() bool {
		return strings.Count(f.logs.String(), "has no place any more") == 2 && strings.Count(f.logs.String(), `msg="origin stopped"`) == 2
	})
	if logs := f.logs.String(); !strings.Contains(logs, "exit=\"exit code 0\"") {
		t.Error("not stopped gracefully")
	}
	eventually(t, "forgotten", func() bool { return len(savedIn(t, cfg.StateDir).Origins) == 2 })
}

// A stop that comes while they end waits for them.
func TestStopWithSuperfluousLeftovers(t *testing.T) {
	cfg := fakeConfig(t, 3, "deaf")
	cfg.TermAfter, cfg.KillAfter = 100*time.Millisecond, 200*time.Millisecond
	e := upEarlier(t, cfg)
	seen := e.snapshot()
	e.kill()
	cfg.CPUs = cfg.CPUs[:1]
	f := newFleet(t, cfg).run()
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}
	for _, o := range seen {
		if lives(o.PID) {
			t.Errorf("%s is left", o.ID)
		}
	}
	f.nothingLeft()
}

func TestOtherConfigIsAdoptedThenReplaced(t *testing.T) {
	cfg := fakeConfig(t, 3, "ready")
	e := upEarlier(t, cfg)
	seen := e.snapshot()
	e.kill()
	cfg.MaxConnections = 1234
	f := newFleet(t, cfg).up()
	eventually(t, "all replaced", func() bool {
		for i, s := range f.places() {
			if o := s.status(); o.State != Ready || o.PID == seen[i].PID {
				return false
			}
		}
		return true
	})
	eventually(t, "the old ones gone", func() bool { return len(f.all()) == 3 })
	for _, o := range seen {
		if lives(o.PID) {
			t.Errorf("%s lives on", o.ID)
		}
		events := f.bal.of(o.ID, time.Time{})
		if len(events) == 0 || events[0].kind != "update" || events[0].origin.Service != o.ServiceID {
			t.Errorf("%s was not adopted first: %+v", o.ID, events)
		}
	}
	// They are not quite where they would be started, and are adopted all the same.
	now := f.statuses()
	for _, o := range now {
		if o.Ports == seen[o.Index].Ports || o.ID == seen[o.Index].ID {
			t.Errorf("%s took the ports of a living one", o.ID)
		}
	}
}

// Only what differs is replaced.
func TestWhatMakesAnAdoptedOriginStale(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	s := newScene(t, cfg)
	w := s.play()
	allowed, err := runtime.AllowedCPUs(w.pid())
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"nothing", func(*Config) {}, ""},
		{"config", func(c *Config) { c.MaxConnections++ }, "config"},
		{"ports", func(c *Config) { c.Ports.Base++ }, "ports"},
		{"the place of a spare one", func(c *Config) { c.Ports.Base -= 10 }, ""},
		{"command", func(c *Config) { c.Command = []string{exe, "child", "deaf"} }, "program"},
		{"CPUs", func(c *Config) { c.CPUs[0] = allowed[:1] }, "CPUs"},
		{"the same CPUs", func(c *Config) { c.CPUs[0] = allowed }, ""},
		{"die with parent", func(c *Config) { c.DieWithParent = true }, "die"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := cfg
			cfg.CPUs = slices.Clone(cfg.CPUs)
			tt.change(&cfg)
			f := newFleet(t, cfg)
			c := s.candidate(w)
			c.saved.Program = ""
			l, err := f.cfg.claim(c)
			if err != nil {
				t.Fatal(err)
			}
			defer l.letGo()
			slot := newSlot(f.Supervisor, &f.cfg, birth{ports: l.place.ports, cpus: f.cfg.CPUs[0]})
			text, err := f.cfg.Template.Render(slot.params)
			if err != nil {
				t.Fatal(err)
			}
			slot.configHash = hashOf(text)
			if why := slot.stale(l); (why == "") != (tt.says == "") || !strings.Contains(why, tt.says) {
				t.Errorf("%q, want %q", why, tt.says)
			}
		})
	}
}

// Two processes of a place, as a kill in the middle of a replacement leaves them.
func TestTwoProcessesOfAPlace(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	old := newScene(t, cfg).play()
	f := newFleet(t, cfg)
	spare := newSlot(f.Supervisor, &f.cfg, birth{gen: 1, ports: cfg.Ports.Ports(1)})
	if err := spare.writeConfig(); err != nil {
		t.Fatal(err)
	}
	young := &scene{t: t, cfg: f.cfg, slot: spare, attr: &syscall.SysProcAttr{Setpgid: true},
		env:  append(os.Environ(), strayMark+spare.params.WorkDir, configMark+spare.configHash),
		argv: append(append([]string{}, cfg.Command[1:]...), "-c", spare.configFile)}
	// The kernel counts in hundredths of a second.
	eventually(t, "another tick", func() bool {
		return startedAt(old.ticks(t)+1, time.Now()).Before(time.Now())
	})
	next := young.play()

	f.up()
	if o := f.statuses(); len(o) != 1 || o[0].ID != "origin-0.1" || o[0].PID != next.pid() || o[0].Ports != spare.params.Ports {
		t.Errorf("%+v", o)
	}
	eventually(t, "the older one gone", func() bool { return !lives(old.pid()) })
	if !lives(next.pid()) {
		t.Error("so is the younger one")
	}
}

// The state file knows which of two serves: here the older one.
func TestSuccessorThatNeverServed(t *testing.T) {
	var found []*leftover
	for i, o := range []savedOrigin{{ID: "origin-0"}, {ID: "origin-0.2", Role: Retiring}, {ID: "origin-0.1", Role: Successor}} {
		found = append(found, &leftover{saved: o, adopted: &adopted{workDir: o.ID, startTicks: uint64(5 + i)}})
	}
	f := newFleet(t, fakeConfig(t, 1, "ready"))
	f.inherited.folders = make(map[string]bool)
	if err := f.allot(t.Context(), found); err != nil {
		t.Fatal(err)
	}
	if l := f.slots[0].leftover; l == nil || l.saved.ID != "origin-0" || len(f.inherited.superfluous) != 2 {
		t.Errorf("%+v goes on", l)
	}
	f.slots, f.inherited.superfluous = nil, nil
}

// After a replacement a place may live on the ports that another one would get when
// there are more.
func TestNewPlaceWhoseTakenPortsAreAnothers(t *testing.T) {
	cfg := fakeConfig(t, 3, "ready") // room for three
	cfg.CPUs = cfg.CPUs[:1]
	e := upEarlier(t, cfg)
	e.kill()
	end9(t, e.seen[0].PID)
	f := newFleet(t, cfg)
	spare := newSlot(f.Supervisor, &f.cfg, birth{gen: 1, ports: cfg.Ports.Ports(1)})
	if err := spare.writeConfig(); err != nil {
		t.Fatal(err)
	}
	moved := (&scene{t: t, cfg: f.cfg, slot: spare, attr: &syscall.SysProcAttr{Setpgid: true},
		env:  append(os.Environ(), strayMark+spare.params.WorkDir, configMark+spare.configHash),
		argv: append(append([]string{}, cfg.Command[1:]...), "-c", spare.configFile)}).play()
	cfg.CPUs = make([]runtime.CPUSet, 2)
	f = newFleet(t, cfg).up()
	o := f.statuses()
	if o[0].PID != moved.pid() || o[1].Ports.RTMP == o[0].Ports.RTMP || o[1].State != Ready {
		t.Errorf("%+v", o)
	}
}

// A hung leftover is replaced, and holds up nobody else.
func TestHungLeftoverIsReplaced(t *testing.T) {
	cfg := fakeConfig(t, 6, "ready")
	cfg.ProbePeriod, cfg.ProbeTimeout, cfg.StartTimeout = 100*time.Millisecond, 200*time.Millisecond, 2*time.Second
	e := upEarlier(t, cfg)
	e.kill()
	hung := e.seen[4].PID
	if err := syscall.Kill(hung, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, cfg).run()
	for _, i := range []int{0, 1, 2, 3, 5} {
		o := f.until(i, "adopted", func(o OriginStatus) bool { return o.State == Ready })
		if o.PID != e.seen[i].PID {
			t.Errorf("%s was replaced", o.ID)
		}
	}
	o := f.readyAgain(4, hung)
	if o.Restarts != 1 || lives(hung) {
		t.Errorf("%+v; the hung one lives: %t", o, lives(hung))
	}
}

// When many are silent it is the host: they get as long as a start may take.
func TestManySilentLeftoversAreWaitedFor(t *testing.T) {
	cfg := fakeConfig(t, 4, "ready")
	cfg.ProbePeriod, cfg.ProbeTimeout, cfg.StartTimeout = 50*time.Millisecond, 50*time.Millisecond, 4*time.Second
	e := upEarlier(t, cfg)
	e.kill()
	for _, o := range e.seen[:2] {
		if err := syscall.Kill(o.PID, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	// Those that were just started are waited for anyway.
	eventually(t, "old origins", func() bool {
		return !slices.ContainsFunc(e.seen, func(o OriginStatus) bool { return time.Since(o.Since) < cfg.StartTimeout })
	})
	f := newFleet(t, cfg).run()
	for _, i := range []int{2, 3} {
		f.until(i, "adopted", func(o OriginStatus) bool { return o.State == Ready })
	}
	eventually(t, "two silent ones", func() bool { return f.silent.Load() == 2 })
	time.Sleep(800 * time.Millisecond) // 200 ms make one alone a hung one
	for _, o := range e.seen[:2] {
		if err := syscall.Kill(o.PID, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	<-f.AllReady()
	sameOrigins(t, e.seen, f.statuses())
}

// A start that is refused leaves the origins as they are; the next one adopts them.
func TestRefusedStartTouchesNobody(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	e := upEarlier(t, cfg)
	e.kill()
	bad := cfg
	bad.Template = template(t, "refuse_me on;")
	before := openDescriptors(t)
	if err := newFleet(t, bad).Prepare(t.Context()); !errors.Is(err, ErrConfig) {
		t.Fatal(err)
	}
	if now := openDescriptors(t); now > before {
		t.Errorf("%d descriptors became %d", before, now)
	}
	for _, o := range e.seen {
		if !lives(o.PID) {
			t.Errorf("%s is dead", o.ID)
		}
	}
	f := newFleet(t, cfg).up()
	sameOrigins(t, e.seen, f.statuses())
}

// A config with which an adopted origin serves was accepted: to ask again would
// only keep its clients waiting. Another one is asked about.
func TestServedConfigIsNotCheckedAgain(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	e := upEarlier(t, cfg)
	e.kill()
	for _, o := range e.seen {
		if err := os.WriteFile(filepath.Join(o.WorkDir, "refuse"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other := cfg
	other.MaxConnections = 1234
	if err := newFleet(t, other).Prepare(t.Context()); !errors.Is(err, ErrConfig) {
		t.Fatalf("another config is not checked: %v", err)
	}
	f := newFleet(t, cfg).up()
	sameOrigins(t, e.seen, f.statuses())
}

// What an adopted origin forked goes with it, in its group and outside.
func TestWhatAdoptedOriginsForkedEndsToo(t *testing.T) {
	for _, mode := range []string{"fork", "escape"} {
		t.Run(mode, func(t *testing.T) {
			cfg := fakeConfig(t, 1, mode)
			e := upEarlier(t, cfg)
			e.kill()
			second := upEarlier(t, cfg) // for which the origin is nobody's child
			sameOrigins(t, e.seen, second.snapshot())
			grandchild := grandchildOf(t, e.seen[0])
			if mode == "fork" {
				end9(t, e.seen[0].PID)
				eventually(t, "the grandchild's end", func() bool { return !lives(grandchild) })
				eventually(t, "another process", func() bool {
					o := second.snapshot()[0]
					return o.State == Ready && o.PID != e.seen[0].PID
				})
				grandchild = grandchildOf(t, second.snapshot()[0])
			}
			second.stop()
			if lives(grandchild) {
				t.Error("the grandchild lives on")
			}
		})
	}
}

// An origin that died while nobody watched leaves its group behind.
func TestOrphansOfADeadOriginAreEnded(t *testing.T) {
	cfg := fakeConfig(t, 1, "fork")
	e := upEarlier(t, cfg)
	grandchild := grandchildOf(t, e.seen[0])
	eventually(t, "a state file", func() bool { return len(savedIn(t, cfg.StateDir).Origins) == 1 })
	e.kill()
	end9(t, e.seen[0].PID)
	if !lives(grandchild) {
		t.Fatal("there is nothing to end")
	}
	newFleet(t, cfg).up()
	if lives(grandchild) {
		t.Error("the grandchild lives on")
	}
}

func grandchildOf(t *testing.T, o OriginStatus) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(o.WorkDir, "grandchild"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// A drained origin is adopted as one: no new stream gets there in between.
func TestDrainedOriginIsAdoptedDraining(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	e := upEarlier(t, cfg)
	eventually(t, "a state file", func() bool { return len(savedIn(t, cfg.StateDir).Origins) == 2 })
	e.kill()
	state := savedIn(t, cfg.StateDir)
	state.Drained = []string{"origin-1"}
	writeSaved(t, cfg.StateDir, state)
	f := newFleet(t, cfg).run()
	o := f.until(1, "draining", func(o OriginStatus) bool { return o.State == Draining })
	if o.PID != e.seen[1].PID {
		t.Errorf("%+v", o)
	}
	for _, ev := range f.bal.of("origin-1", time.Time{}) {
		if ev.kind != "update" || ev.origin.State != balancer.Draining {
			t.Errorf("the balancer heard %+v", ev)
		}
	}
}

// How an adopted process ended is known from Linux 6.15 on; whatever the kernel, it
// is said.
func TestExitOfAdopted(t *testing.T) {
	cfg := fakeConfig(t, 1, "ready")
	e := upEarlier(t, cfg)
	e.kill()
	second := upEarlier(t, cfg)
	end9(t, e.seen[0].PID)
	eventually(t, "another process", func() bool {
		o := second.snapshot()[0]
		return o.State == Ready && o.PID != e.seen[0].PID
	})
	exit := second.snapshot()[0].LastExit
	if !strings.HasPrefix(exit, "killed by SIGKILL after") && !strings.HasPrefix(exit, "ended, how is unknown because it was adopted after") {
		t.Errorf("last exit %q", exit)
	}
	t.Log(exit)
}

// Where there are no spare ports, streams are cut, but the config is the right one.
func TestOtherConfigWithoutSparePorts(t *testing.T) {
	cfg := fakeConfig(t, 2, "ready")
	e := upEarlier(t, cfg)
	e.kill()
	cfg.MaxConnections = 1234
	for port := 1024; port < 65536; port++ { // all but theirs
		if port < cfg.Ports.Ports(0).RTMP || port > cfg.Ports.Ports(1).Exporter {
			cfg.Reserved = append(cfg.Reserved, port)
		}
	}
	f := newFleet(t, cfg).up()
	for i, o := range e.seen {
		now := f.readyAgain(i, o.PID)
		if now.ID != o.ID || now.Ports != o.Ports {
			t.Errorf("%+v became %+v", o, now)
		}
		if lives(o.PID) {
			t.Errorf("%s lives on", o.ID)
		}
	}
	if logs := f.logs.String(); !strings.Contains(logs, "restarted in place") {
		t.Error("not said")
	}
}
