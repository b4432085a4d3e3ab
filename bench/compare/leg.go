package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"srs-proxy/bench/load"
	"srs-proxy/bench/meter"
)

// leg is what one peer did in one round of a case.
type leg struct {
	Case  string `json:"case"`
	Peer  string `json:"peer"`
	Round int    `json:"round"`
	// Seconds is the window's length.
	Seconds float64 `json:"seconds"`

	PublishedBytes  uint64 `json:"published_bytes"`
	ExpectedFrames  uint64 `json:"expected_frames"`
	DeliveredFrames uint64 `json:"delivered_frames"`
	DeliveredBytes  uint64 `json:"delivered_bytes"`
	LostFrames      uint64 `json:"lost_frames"`
	Disordered      uint64 `json:"disordered_frames"`
	Damaged         uint64 `json:"damaged_frames"`
	// Errors counts failed sessions by what they said.
	Errors map[string]int `json:"errors,omitempty"`

	// CPU seconds within the window: of the proxy, the origin, this process and the
	// whole machine.
	ProxyCPU   float64 `json:"proxy_cpu_s"`
	OriginCPU  float64 `json:"origin_cpu_s"`
	LoadCPU    float64 `json:"load_cpu_s"`
	MachineCPU float64 `json:"machine_cpu_s"`
	// IdleCPU is what the proxy used a second before the case's first session: not
	// taken off anything. Ours looks after its origin meanwhile.
	IdleCPU float64 `json:"idle_cpu_s_per_s"`
	// ProxyCost and BothCost are the case's unit: of the proxy, and with the origin.
	ProxyCost   float64 `json:"proxy_cost"`
	BothCost    float64 `json:"proxy_and_origin_cost"`
	MachineCost float64 `json:"machine_cost"`

	// Times in ms. Added is against direct in the same round, LateP99 what the load's
	// own publishers were behind.
	LatencyP50 float64 `json:"latency_p50_ms"`
	LatencyP99 float64 `json:"latency_p99_ms"`
	AddedP50   float64 `json:"added_p50_ms"`
	AddedP99   float64 `json:"added_p99_ms"`
	FirstP50   float64 `json:"first_frame_p50_ms"`
	FirstP99   float64 `json:"first_frame_p99_ms"`
	PreludeP99 float64 `json:"prelude_p99_ms"`
	LateP99    float64 `json:"load_late_p99_ms"`

	// OriginOut is what the origin wrote for each byte delivered.
	OriginOut float64 `json:"origin_bytes_per_delivered_byte"`
	// Held and NewSessions are of the cases that count sessions.
	Held        int `json:"held_sessions,omitempty"`
	NewSessions int `json:"new_sessions,omitempty"`
	// Disturbed says that this process did not run when it had to: the figures are
	// those of a machine that does something else.
	Disturbed bool `json:"disturbed,omitempty"`

	// Live is what our proxy's sessions keep of its heap and stacks, in KB each: RSS has
	// what waits for the garbage collector too, and what Go's heap does not give back.
	Live float64 `json:"live_kb_per_session,omitempty"`
	// Fetches is how often the origin was asked for a segment of HLS.
	Fetches float64 `json:"origin_requests_per_segment,omitempty"`

	RSS         float64 `json:"rss_mb"`
	Descriptors int     `json:"descriptors"`
	Threads     int     `json:"threads"`
	Goroutines  int     `json:"goroutines,omitempty"`
}

// bed is a running case: the stack, the load, and what is common to all legs.
type bed struct {
	options
	benchCase
	stack *stack
	load  *load.Load
	// published are the streams of cases that play, which run through all legs.
	published []*load.Publisher
	urls      []string // of these, path only
	held      []string // paths of the streams that are held
	names     int      // streams named so far
}

// errOriginGone makes a leg void: revive brings the streams back for the next one.
var errOriginGone = errors.New("the origin has ended, or was restarted because it did not answer")

// usage is what was used up to a moment.
type usage struct {
	at                  time.Time
	wrote               uint64 // by the origin
	proxy, origin, load time.Duration
	machine             map[int]time.Duration
}

func (b *bed) usage(p *peer) (u usage, err error) {
	u.at = time.Now()
	u.wrote, _ = meter.Written(b.stack.originPID) // some kernels do not count
	if u.proxy, err = meter.CPUOf(p.pids); err != nil {
		return u, err
	}
	if u.origin, err = meter.CPU(b.stack.originPID); err != nil {
		return u, errOriginGone
	}
	if u.load, err = meter.CPU(os.Getpid()); err != nil {
		return u, err
	}
	u.machine, err = meter.Machine()
	return u, err
}

// drainWithin is for how long the window's frames may still arrive; nobody waits when
// they have.
const drainWithin = 10 * time.Second

// lateLoad is how much behind its publishers may be in a run that says something.
const lateLoad = 20 * time.Millisecond

// fail counts an error.
func (l *leg) fail(text string) {
	if l.Errors == nil {
		l.Errors = map[string]int{}
	}
	l.Errors[text]++
}

// settle is how long sessions run before a window begins: longer than the origin merges.
const settle = time.Second

// measure opens a window over the sessions that run and fills in the leg.
func (b *bed) measure(ctx context.Context, p *peer, l *leg) (*load.Report, error) {
	if err := load.Sleep(ctx, settle); err != nil {
		return nil, err
	}
	begins, ends := b.load.Window(100*time.Millisecond, b.seconds)
	if err := load.Sleep(ctx, time.Until(begins)); err != nil {
		return nil, err
	}
	before, err := b.usage(p)
	if err != nil {
		return nil, err
	}
	profiled := b.profileOf(ctx, p, ends)
	if err := load.Sleep(ctx, time.Until(ends)); err != nil {
		return nil, err
	}
	after, err := b.usage(p)
	if err != nil {
		return nil, err
	}
	if err := <-profiled; err != nil {
		return nil, err
	}
	held, err := meter.Of(p.pids)
	if err != nil {
		return nil, err
	}
	l.Goroutines = p.goroutines(ctx)
	l.RSS, l.Descriptors, l.Threads = float64(held.RSS)/1e6, held.Descriptors, held.Threads
	b.load.Drain(ctx, drainWithin)
	r := b.load.Report()

	l.Seconds = b.seconds.Seconds()
	l.ProxyCPU, l.OriginCPU = (after.proxy - before.proxy).Seconds(), (after.origin - before.origin).Seconds()
	l.LoadCPU, l.MachineCPU = (after.load - before.load).Seconds(), meter.Since(before.machine, after.machine).Seconds()
	elapsed := after.at.Sub(before.at)
	l.Disturbed = elapsed > b.seconds+b.seconds/50+20*time.Millisecond || elapsed < b.seconds-b.seconds/50 || r.Late.Quantile(.99) > lateLoad
	if r.Delivered.Bytes > 0 {
		l.OriginOut = float64(after.wrote-before.wrote) / float64(r.Delivered.Bytes)
	}
	if missing := r.Publishers + r.Players - r.RunningPublishers - r.RunningPlayers - r.Failed(); missing > 0 && b.kind != churning {
		r.Errors["session that did not begin"] += missing
	}
	l.PublishedBytes = r.Published.Bytes
	l.ExpectedFrames, l.DeliveredFrames, l.DeliveredBytes = r.Expected.Frames, r.Delivered.Frames, r.Delivered.Bytes
	l.LostFrames, l.Disordered, l.Damaged, l.Errors = r.Lost(), r.Disordered, r.Damaged, r.Errors
	l.LatencyP50, l.LatencyP99 = ms(r.Age.Quantile(.5)), ms(r.Age.Quantile(.99))
	l.FirstP50, l.FirstP99 = ms(r.First.Quantile(.5)), ms(r.First.Quantile(.99))
	l.PreludeP99, l.LateP99 = ms(r.Prelude.Quantile(.99)), ms(r.Late.Quantile(.99))
	return r, nil
}

// cost divides CPU seconds by an amount of the case's unit.
func (l *leg) cost(amount float64) {
	if amount <= 0 {
		return
	}
	l.ProxyCost, l.BothCost, l.MachineCost = l.ProxyCPU/amount, (l.ProxyCPU+l.OriginCPU)/amount, l.MachineCPU/amount
}

// profileOf takes a CPU profile of our proxy until the window ends, if asked for.
func (b *bed) profileOf(ctx context.Context, p *peer, ends time.Time) <-chan error {
	done := make(chan error, 1)
	if b.profile == "" || p.control == "" {
		done <- nil
		return done
	}
	go func() {
		seconds := max(1, int(time.Until(ends).Seconds()))
		done <- b.saveProfile(ctx, p, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), ".pprof")
	}()
	return done
}

// saveProfile writes one of our proxy's profiles into a file of the case, if asked for.
func (b *bed) saveProfile(ctx context.Context, p *peer, path, suffix string) error {
	if b.profile == "" || p.control == "" {
		return nil
	}
	data, err := p.ask(ctx, path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.profile, b.name+suffix), data, 0o644)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
