package supervisor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
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

// patient is how long a test waits for what has to happen: the machine may be
// busy with others, so only what is promised is measured by the clock.
const patient = 30 * time.Second

// event is a call of the balancer.
type event struct {
	at     time.Time
	kind   string // update or remove
	origin balancer.Origin
}

// recorder is a real balancer that writes down what it is told.
type recorder struct {
	*balancer.Memory
	mu     sync.Mutex
	events []event
}

func newRecorder() *recorder {
	return &recorder{Memory: balancer.NewMemory(balancer.Config{})}
}

func (r *recorder) Update(ctx context.Context, o balancer.Origin) error {
	r.add(event{time.Now(), "update", o})
	return r.Memory.Update(ctx, o)
}

func (r *recorder) Remove(ctx context.Context, id string) error {
	r.add(event{time.Now(), "remove", balancer.Origin{ID: id}})
	return r.Memory.Remove(ctx, id)
}

func (r *recorder) add(e event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of lists what was said of one origin since a time.
func (r *recorder) of(id string, since time.Time) []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []event
	for _, e := range r.events {
		if e.origin.ID == id && e.at.After(since) {
			found = append(found, e)
		}
	}
	return found
}

// fleet is a supervisor under test.
type fleet struct {
	*Supervisor
	t    *testing.T
	bal  *recorder
	logs *logBuffer
	stop context.CancelFunc
	done chan struct{}
	err  error
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// fakeConfig is a config with fake origins in a mode.
func fakeConfig(t *testing.T, n int, mode string) Config {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		StateDir: t.TempDir(),
		Command:  []string{exe, "child", mode},
		Version:  srsconf.Version{Major: 7, Revision: 18},
		Template: template(t, ""),
		Ports:    freePorts(t, n),
		CPUs:     make([]runtime.CPUSet, n),
		Nofile:   4096,
		// Without this a child with the race detector takes a second to exit.
		Env: append(os.Environ(), "GORACE=atexit_sleep_ms=0"),
	}
}

// template is the product's own, with more text after it.
func template(t *testing.T, more string) *srsconf.Template {
	t.Helper()
	text, err := os.ReadFile("../srs.tmpl.conf")
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := srsconf.ParseTemplate("srs.tmpl.conf", string(text)+"\n"+more+"\n")
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

// freePorts finds a block of ports for n origins that is free, outside of the
// ephemeral range so that no connection of another test takes one.
func freePorts(t *testing.T, n int) srsconf.PortPlan {
	t.Helper()
	lo, _, err := runtime.EphemeralRange()
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		plan := srsconf.PortPlan{Base: 10000 + rand.IntN(lo-10000-10*n-1)}
		free := true
		for i := range n {
			for _, p := range plan.Ports(i).List() {
				free = free && bindable("tcp", p) == nil && bindable("udp", p) == nil
			}
		}
		if free {
			return plan
		}
	}
	t.Fatal("no free block of ports")
	return srsconf.PortPlan{}
}

// bindable binds a port on all interfaces without SO_REUSEPORT.
func bindable(network string, port int) error {
	addr := ":" + strconv.Itoa(port)
	var c io.Closer
	var err error
	if network == "udp" {
		c, err = net.ListenPacket("udp", addr)
	} else {
		c, err = net.Listen("tcp", addr)
	}
	if err != nil {
		return err
	}
	return c.Close()
}

func newFleet(t *testing.T, cfg Config) *fleet {
	t.Helper()
	f := &fleet{t: t, bal: newRecorder(), logs: &logBuffer{}, done: make(chan struct{})}
	f.Supervisor = New(cfg, f.bal, slog.New(slog.NewTextHandler(f.logs, nil)))
	t.Cleanup(func() {
		if strings.Contains(f.logs.String(), `msg="state machine"`) {
			t.Error("a slot moved as no slot may")
		}
		if t.Failed() {
			t.Log(f.logs)
		}
	})
	return f
}

// run prepares and runs; the test's end stops it.
func (f *fleet) run() *fleet {
	f.t.Helper()
	if err := f.Prepare(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	go func() {
		defer close(f.done)
		f.err = f.Run(ctx)
	}()
	f.t.Cleanup(func() {
		cancel()
		f.Hurry()
		<-f.done
	})
	return f
}

// up runs and waits until all are ready.
func (f *fleet) up() *fleet {
	f.t.Helper()
	f.run()
	select {
	case <-f.AllReady():
	case <-f.done:
		f.t.Fatal("ended before ready:", f.err)
	case <-time.After(patient):
		f.t.Fatalf("not ready: %+v", f.statuses())
	}
	return f
}

// ended waits for Run's return.
func (f *fleet) ended() error {
	f.t.Helper()
	select {
	case <-f.done:
	case <-time.After(patient):
		f.t.Fatalf("does not end: %+v", f.statuses())
	}
	return f.err
}

func (f *fleet) statuses() []OriginStatus {
	var all []OriginStatus
	for _, s := range f.slots {
		all = append(all, s.status())
	}
	return all
}

// until waits for a condition of one slot.
func (f *fleet) until(slot int, what string, ok func(OriginStatus) bool) OriginStatus {
	f.t.Helper()
	var o OriginStatus
	eventually(f.t, what, func() bool {
		o = f.slots[slot].status()
		return ok(o)
	})
	return o
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patient); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

// readyAgain waits until a slot is ready with another process than pid.
func (f *fleet) readyAgain(slot, pid int) OriginStatus {
	f.t.Helper()
	return f.until(slot, "ready with another process", func(o OriginStatus) bool {
		return o.State == Ready && o.PID != 0 && o.PID != pid
	})
}

// nothingLeft proves that the fleet left no process, port or file that matters.
func (f *fleet) nothingLeft(pids ...int) {
	f.t.Helper()
	for _, pid := range pids {
		if alive(pid) {
			f.t.Errorf("process %d is left", pid)
		}
	}
	for _, s := range f.slots {
		for _, l := range s.listeners {
			if err := bindable(l.Network, int(l.Addr.Port())); err != nil {
				f.t.Errorf("%s: %v", s.id, err)
			}
		}
	}
	if _, err := os.Stat(statePath(f.cfg.StateDir)); !errors.Is(err, os.ErrNotExist) {
		f.t.Errorf("the state file is left: %v", err)
	}
	if left := f.strays(); len(left) > 0 {
		f.t.Errorf("children are left: %v", left)
	}
}

// alive says that a pid is there, a zombie included.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func (f *fleet) pids() []int {
	var pids []int
	for _, o := range f.statuses() {
		if o.PID != 0 {
			pids = append(pids, o.PID)
		}
	}
	return pids
}

// setMode changes what a slot's next process does.
func (f *fleet) setMode(slot int, mode string) {
	f.t.Helper()
	dir := f.slots[slot].params.WorkDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "mode"), []byte(mode), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// grandchild is the pid that a forking mode left in its work dir.
func (f *fleet) grandchild(slot int) int {
	f.t.Helper()
	var pid int
	eventually(f.t, "a grandchild", func() bool {
		text, err := os.ReadFile(filepath.Join(f.slots[slot].params.WorkDir, "grandchild"))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return pid
}
