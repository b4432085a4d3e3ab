package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// slot is one generation of the place of an origin: its ports, its folder, its
// CPUs, and the process that is in it now. Its goroutine, run, owns its life;
// others leave wishes and findings under mu and wake it.
type slot struct {
	sup    *Supervisor
	cfg    *Config // as it was when the slot was made: it never changes
	index  int     // of the place
	gen    int     // of the process in the place, see generation.go
	id     string
	cpuSet runtime.CPUSet
	cpus   string
	log    *slog.Logger

	// Set by Prepare, then constant.
	params     srsconf.Params
	configFile string
	configHash string
	listeners  []srsconf.Listener

	// life is live, but for tests without processes: one process from its start to
	// its end, how long it was ready, and why it ended.
	life func(context.Context) (time.Duration, error)

	// Owned by run.
	backoff   backoff
	checked   bool // the origin has accepted the config
	everReady bool
	failures  int

	initial bool // of the first start, which a slot that cannot start ends
	bare    bool // without what only one process of a place can have

	// wake says that something under mu changed.
	wake chan struct{}

	// Guarded by the supervisor's mu.
	role       Role // the view has a copy
	completing bool // a bare one's full successor was ordered

	mu      sync.Mutex // guards the following
	view    OriginStatus
	leaving string  // why the slot ends with its process; empty for all that stay
	overdue bool    // it has drained for as long as it may
	told    bool    // the balancer knows the present state
	retry   bool    // another try was ordered
	ordered bool    // to run, and the state is of before that
	cpu     float64 // share of a core
	toldCPU float64 // what the balancer knows of it
	proc    *process
	// leftover is the slot's process of an earlier run until it is proc, or known to
	// be a stranger; taken says that run has it.
	leftover *leftover
	taken    bool
	verdict  verdict
	abandon  context.CancelFunc // ends the present life; nil without one
}

// verdict is what health finds of a process; the zero one is "well".
type verdict struct {
	proc  *process
	muted string // why it does not answer
	hung  bool   // and should be replaced
}

// configName is the name of the config in the slot's folder.
const configName = "srs.conf"

// birth is what tells one slot from another.
type birth struct {
	index, gen int
	cpus       runtime.CPUSet
	ports      srsconf.Ports
}

func newSlot(sup *Supervisor, cfg *Config, b birth) *slot {
	params := cfg.params(b)
	s := &slot{
		sup:        sup,
		cfg:        cfg,
		index:      b.index,
		gen:        b.gen,
		id:         params.ID,
		cpuSet:     b.cpus,
		cpus:       b.cpus.String(),
		log:        sup.log.With(keyOrigin, params.ID),
		params:     params,
		configFile: filepath.Join(params.WorkDir, configName),
		wake:       make(chan struct{}, 1),
	}
	s.life = s.live
	s.view = OriginStatus{
		ID:      s.id,
		Index:   b.index,
		Desired: Run,
		State:   Stopped,
		CPUs:    s.cpus,
		Ports:   params.Ports,
		WorkDir: params.WorkDir,
		LogFile: params.LogFile,
	}
	return s
}

// run lives one process after the other until the context ends, or until the one
// of a slot that leaves is gone. It returns an
// error only for a start that cannot succeed before the slot was ever ready;
// later the slot is fatal and its siblings live on.
func (s *slot) run(ctx context.Context) error {
	for {
		leftover := s.takeLeftover()
		switch desired := s.desired(); {
		case leftover != nil: // it is there, whatever is wanted now
		case ctx.Err() != nil:
			s.to(Stopped, "")
			return nil
		case desired != Run && s.isLeaving():
			s.to(Stopped, "")
			return nil
		case desired != Run:
			s.to(Stopped, "as ordered")
			s.pause(ctx, 0, desired)
			continue
		}
		var readyFor time.Duration
		var err error
		if leftover != nil {
			readyFor, err = s.liveOn(ctx, leftover)
		} else {
			readyFor, err = s.life(ctx)
		}
		if err == nil || ctx.Err() != nil || s.desired() != Run {
			s.to(Stopped, "")
			continue
		}
		if isFatal(err) {
			s.to(Fatal, err.Error())
			if s.initial && !s.everReady && s.sup.starting() {
				return fmt.Errorf("%s: %w", s.id, err)
			}
			s.log.Error("origin cannot start; fix it and restart the origin", keyError, err)
			s.pause(ctx, 0, Run)
			continue
		}
		if readyFor >= s.cfg.ResetAfter {
			s.backoff.reset()
		}
		s.failures++
		wait := s.backoff.next(rand.Float64())
		s.to(Backoff, err.Error())
		s.log.Warn("origin is started again", keyError, err, "ready_for", readyFor.Round(time.Millisecond), "wait", wait.Round(time.Millisecond))
		if s.initial && !s.everReady {
			if err := s.sup.hopeless(s.failures, err); err != nil {
				return err
			}
		}
		s.pause(ctx, wait, Run)
	}
}

// pause waits for a time, or when d is 0 for ever. It ends with the context, when
// something else than desired is wanted, and when another try is ordered.
func (s *slot) pause(ctx context.Context, d time.Duration, desired Desired) {
	var timer <-chan time.Time
	if d > 0 {
		timer = time.After(d)
	}
	for s.desired() == desired && !s.takeRetry() {
		select {
		case <-ctx.Done():
			return
		case <-timer:
			return
		case <-s.wake:
		}
	}
}

// to moves the slot to a state.
func (s *slot) to(state State, reason string) {
	s.mu.Lock()
	from := s.view.State
	if err := checkTransition(from, state); err != nil {
		// A bug; the state has to be true all the same.
		s.log.Error("state machine", keyError, err)
	}
	if state == Starting && from != Starting && (s.everReady || s.failures > 0) {
		s.view.Restarts++
	}
	changed := from != state || s.view.Reason != reason
	s.view.State, s.view.Reason, s.ordered = state, reason, false
	s.mu.Unlock()
	if changed {
		s.sup.progress.notify()
	}
}
