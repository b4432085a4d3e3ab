package supervisor

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/runtime"
)

// health watches all origins that are up from one goroutine: their APIs by
// nonblocking connections that are kept open, RTMP by a handshake now and then,
// their CPU by kept descriptors. What it finds is judged in liveness.go.
// There are ticksPerPeriod ticks a period, and an answer is looked for in the
// ticks after its probe: with nothing to wait for, 128 idle origins cost one
// wake-up and a hundred system calls a tick, under 1 % of a core. Most of that is the
// kernel, which takes a probe through TCP and wakes the origin for it.
type health struct {
	period, timeout time.Duration
	misses          int
	hello           []byte // C0C1
	log             *slog.Logger

	// ticked is when the last tick was over.
	ticked atomic.Pointer[time.Time]

	mu      sync.Mutex // guards the following
	targets map[*slot]*target
	warned  time.Time // when trouble of the host was last logged
}

// target is one watched process.
type target struct {
	proc    *process
	pid     int // of the process that answers; the same but for scripts
	vital   vitality
	api     probeConn
	rtmp    helloConn
	sampler runtime.ProcSampler
	cpuTime time.Duration
	sampled time.Time
	given   bool // the verdict "hung" was given
}

const (
	ticksPerPeriod = 5
	// periodsPerHello: a handshake every 10 s, unless something is wrong.
	periodsPerHello = 10
	// Orphans of origins that live are few, and their zombies cost a pid.
	ticksPerReap = 5 * ticksPerPeriod
	// The kernel takes longer to render /proc/PID/stat than the API to answer.
	ticksPerSample = 2 * ticksPerPeriod
)

func newHealth(cfg Config, log *slog.Logger) *health {
	return &health{
		period:  cfg.ProbePeriod,
		timeout: cfg.ProbeTimeout - cfg.ProbePeriod/ticksPerPeriod/2, // to the nearest tick: three of them add up
		misses:  cfg.ProbeMisses,
		hello:   hello(),
		log:     log,
		targets: make(map[*slot]*target),
	}
}

// watch begins with a process that has just answered.
func (h *health) watch(s *slot, p *process, pid int, api, rtmp netip.AddrPort) {
	now := time.Now()
	t := &target{proc: p, pid: pid, api: newProbeConn(api, pid), rtmp: newHelloConn(rtmp)}
	// Probes spread over the period, so that none waits for another's answer.
	t.vital.api.nextAt = now.Add(rand.N(h.period))
	t.vital.rtmp.nextAt = now.Add(rand.N(periodsPerHello * h.period))
	if err := t.sampler.Open(pid); err == nil {
		if u, err := t.sampler.Sample(); err == nil {
			t.cpuTime, t.sampled = u.CPUTime, now
			s.setUsage(0, u.RSS)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.targets[s] = t
}

// unwatch closes the kept connection, which would hold up a graceful SIGQUIT: SRS
// waits until its last connection is closed.
func (h *health) unwatch(s *slot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.targets[s]; t != nil {
		delete(h.targets, s)
		t.close()
	}
}

func (t *target) close() {
	t.api.close()
	t.rtmp.close()
	_ = t.sampler.Close()
}

// run ticks until the context ends.
func (h *health) run(ctx context.Context) {
	step := h.period / ticksPerPeriod
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	expected := time.Now().Add(step)
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			now := time.Now()
			h.tick(now, now.Sub(expected) > lateTick, n)
			expected = now.Add(step)
			h.ticked.Store(&now)
		}
	}
}

// tick collects answers, sends what is due and judges; in some of the n ticks it
// takes samples and reaps too. A tick that is late still looks at the sockets,
// which show what came meanwhile.
func (h *health) tick(now time.Time, late bool, n int) {
	sample, reap := n%ticksPerSample == 0, n%ticksPerReap == 0
	h.mu.Lock()
	defer h.mu.Unlock()
	missing := 0
	for s, t := range h.targets {
		changed := h.askAPI(t, now, late)
		if h.greet(t, now, late) || changed {
			s.report(verdict{proc: t.proc, muted: t.why(now)})
		}
		if t.vital.missing() {
			missing++
		}
		if sample {
			t.sample(s, now)
		}
		if reap {
			t.proc.reapStrays()
		}
	}
	h.judge(now, missing, late)
}

// askAPI goes on with the probes of the API; it says whether that is news.
func (h *health) askAPI(t *target, now time.Time, late bool) (news bool) {
	live := &t.vital.api
	if !live.sentAt.IsZero() {
		switch t.api.receive() {
		case answerGood:
			news = live.answered(now)
		case answerClosed:
			// It closed a connection that was kept: the probe is sent once more on a
			// new one, within the same timeout.
			t.api.resend()
		case answerNone:
		}
	}
	if t.vital.apiExpired(now, h.timeout, late) {
		t.api.close()
		news = true
	}
	if live.due(now) {
		live.sent(now, h.period)
		t.api.send()
	}
	return news
}

// greet goes on with the handshakes. They are few while nothing is wrong: each is
// a connection, and a line in the origin's log.
func (h *health) greet(t *target, now time.Time, late bool) (news bool) {
	v := &t.vital
	if !v.rtmp.sentAt.IsZero() {
		switch got := t.rtmp.receive(); got {
		case answerGood, answerClosed:
			news = v.rtmp.answered(now) || v.full != (got == answerClosed)
			v.full = got == answerClosed
		case answerNone:
		}
	}
	if v.rtmp.expired(now, h.timeout, late) {
		t.rtmp.close()
		news, v.full = true, false
	}
	period := h.period
	if v.well() {
		period *= periodsPerHello
	} else {
		v.rtmp.hasten(now, h.period)
	}
	if v.rtmp.due(now) {
		v.rtmp.sent(now, period)
		if !t.rtmp.send(h.hello) {
			v.rtmp.unsent()
		}
	}
	return news
}

// why says what is wrong, for how long and, where it can be seen, for what reason.
func (t *target) why(now time.Time) string {
	why := t.vital.why(now)
	if t.vital.well() {
		return why
	}
	if u, err := t.sampler.Sample(); err == nil {
		switch u.State {
		case 'T', 't':
			why += "; the process is stopped by a signal or a debugger"
		case 'D':
			why += "; the process waits for the disk"
		}
	}
	return why
}

// judge tells the slots of those that missed too often, unless it is the host.
func (h *health) judge(now time.Time, missing int, late bool) {
	trouble := hostTrouble(missing, len(h.targets), late)
	var spared []string
	for s, t := range h.targets {
		if !t.vital.hung(h.misses) {
			t.given = false
			continue
		}
		if t.given {
			continue
		}
		if trouble {
			spared = append(spared, s.id)
			continue
		}
		t.given = true
		s.report(verdict{proc: t.proc, muted: t.why(now), hung: true})
	}
	if len(spared) > 0 && now.Sub(h.warned) > 10*time.Second {
		h.warned = now
		h.log.Warn("so many origins do not answer that it must be the host: none is restarted",
			"missing", missing, "origins", len(h.targets), "would_restart", strings.Join(spared, " "))
	}
}

func (t *target) sample(s *slot, now time.Time) {
	u, err := t.sampler.Sample()
	if err != nil {
		return // it ended; its slot knows better
	}
	if span := now.Sub(t.sampled); span > 0 && !t.sampled.IsZero() {
		s.setUsage(float64(u.CPUTime-t.cpuTime)/float64(span), u.RSS)
	}
	t.cpuTime, t.sampled = u.CPUTime, now
}
