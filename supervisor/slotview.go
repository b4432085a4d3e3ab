package supervisor

import (
	"time"

	"srs-proxy/balancer"
)

// What others see of a slot and ask of it. All of it is under the slot's mu, and
// none of it waits for the slot's goroutine.

// status is a copy for a snapshot.
func (s *slot) status() OriginStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// failed says that the slot does not come up, and why: not before an order to run was
// followed.
func (s *slot) failed() (reason string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.view
	return o.Reason, !s.ordered && (o.State == Fatal || o.State == Backoff && o.Restarts >= patience-1)
}

func (s *slot) desired() Desired {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.Desired
}

// order changes what is wanted of the slot. A process that has not become ready
// is not worth draining.
func (s *slot) order(d Desired) {
	s.mu.Lock()
	s.orderLocked(d)
	s.mu.Unlock()
	s.poke()
}

func (s *slot) orderLocked(d Desired) {
	if s.leaving != "" && d == Run {
		return // it has a successor by now
	}
	if d != s.view.Desired {
		s.told = false
	}
	s.view.Desired = d
	s.retry, s.ordered = d == Run, d == Run
	if s.abandon != nil && (d == Stop || d == Drain && s.view.State == Starting) {
		s.abandon()
	}
}

// retire makes the slot drain, and end with its process: when nobody uses that
// any more or, at the latest, at a time.
func (s *slot) retire(why string, until time.Time) {
	s.mu.Lock()
	s.leaving = why
	s.view.DrainUntil = until
	s.orderLocked(Drain)
	s.mu.Unlock()
	s.poke()
}

func (s *slot) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving != ""
}

// setTold notes what the balancer knows, for those who wait for that.
func (s *slot) setTold(state balancer.State) {
	s.mu.Lock()
	before := s.told
	s.told = (s.view.Desired == Run) == (state == balancer.Up)
	changed := s.told && !before
	s.mu.Unlock()
	if changed {
		s.sup.progress.notify()
	}
}

// settled says that the balancer knows what is wanted of the slot, or that there
// is nothing for it to know.
func (s *slot) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.view.State {
	case Ready, Degraded, Draining:
		return s.told
	}
	return true
}

// takeRetry tells once that another try was ordered.
func (s *slot) takeRetry() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.retry
	s.retry = false
	return r
}

// report leaves the newest finding of health. A later one replaces it: each says
// all there is to say.
func (s *slot) report(v verdict) {
	s.mu.Lock()
	s.verdict = v
	s.mu.Unlock()
	s.poke()
}

// setUsage leaves a new sample, and wakes the slot when the balancer should know.
func (s *slot) setUsage(cpu float64, rss uint64) {
	s.mu.Lock()
	s.cpu = cpu
	s.view.CPUPercent, s.view.RSS = 100*cpu, rss
	moved := cpu - s.toldCPU
	s.mu.Unlock()
	if moved >= loadStep || moved <= -loadStep {
		s.poke()
	}
}

func (s *slot) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// saved is the slot's part of the state file; without a process it has none.
func (s *slot) saved() (savedOrigin, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		if s.leftover == nil {
			return savedOrigin{}, false
		}
		return s.leftover.entry(), true
	}
	// The program shows for sure when it is ready: a script may have become another.
	program, _ := program(s.proc.pid)
	return savedOrigin{
		Slot:       s.index,
		ID:         s.id,
		Role:       s.view.Role,
		Program:    program,
		LastExit:   s.view.LastExit,
		PID:        s.proc.pid,
		StartTicks: s.proc.startTicks,
		Ports:      s.params.Ports,
		PIDFile:    s.params.PIDFile,
		ServiceID:  s.view.ServiceID,
		ConfigHash: s.configHash,
		Restarts:   s.view.Restarts,
	}, true
}

// output is the end of what the slot's process printed.
func (s *slot) output(n int) []string {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	return p.out.lines(n)
}
