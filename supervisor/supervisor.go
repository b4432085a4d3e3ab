package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// Keys of log attributes.
const (
	keyOrigin = "origin"
	keyError  = "error"
)

// Registry is what the supervisor needs of a balancer.
type Registry interface {
	Update(ctx context.Context, o balancer.Origin) error
	Remove(ctx context.Context, id string) error
	// Origins says how many sessions an origin still has.
	Origins(ctx context.Context) ([]balancer.Status, error)
}

// Supervisor keeps origins running. Prepare once, then Run once.
type Supervisor struct {
	cfg    Config // as New got it; what a Reload changes is in now
	bal    Registry
	log    *slog.Logger
	health *health
	stats  statsCache
	// rotation is of the origins' logs.
	rotation atomic.Pointer[LogRotation]

	// Set by Prepare.
	inherited inheritance
	lock      *os.File
	bootID    string
	spawner   *runtime.Spawner
	cgroups   *runtime.Cgroups

	began bool // Run was called

	// changing is held by who changes the set of origins: one at a time.
	changing chan struct{}
	// retired is poked when a slot begins to leave.
	retired chan struct{}

	mu sync.Mutex // guards the following
	// now is the config that new slots get.
	now *Config
	// slots are all generations of all places, by index, then by age. The list is
	// replaced and never changed in place.
	slots []*slot
	// launch begins the life of another slot; nil unless Run runs and is not ending.
	launch func(*slot)
	ending chan struct{} // closed when Run begins to end
	// notInForce are limits that the log was told of.
	notInForce []string

	outs     *outputs
	turns    chan struct{} // as many as may start at once
	dirty    chan struct{} // the state file is out of date
	saves    chan chan error
	progress notifier
	once     sync.Once // closes allReady
	allReady chan struct{}
	hurryUp  sync.Once // closes hurry
	hurry    chan struct{}
	anyReady atomic.Bool
	silent   atomic.Int32 // leftovers that have not answered yet
	tired    atomic.Int32 // slots that failed again and again before any was ready
}

// New makes a supervisor that has touched nothing yet.
func New(cfg Config, bal Registry, log *slog.Logger) *Supervisor {
	cfg = cfg.withDefaults()
	s := &Supervisor{
		cfg:      cfg,
		bal:      bal,
		log:      log,
		health:   newHealth(cfg, log),
		outs:     newOutputs(),
		turns:    make(chan struct{}, cfg.Starts),
		dirty:    make(chan struct{}, 1),
		changing: make(chan struct{}, 1),
		retired:  make(chan struct{}, 1),
		ending:   make(chan struct{}),
		saves:    make(chan chan error),
		allReady: make(chan struct{}),
		hurry:    make(chan struct{}),
	}
	s.SetLogRotation(cfg.Logs)
	s.now = &s.cfg
	for i := range cfg.CPUs {
		slot := newSlot(s, s.now, birth{index: i, cpus: cfg.CPUs[i], ports: cfg.Ports.Ports(i)})
		slot.initial = true
		s.slots = append(s.slots, slot)
	}
	return s
}

// Run starts the origins and keeps them running until the context ends; then it
// stops them all and returns nil when none is left. What would keep an origin
// from ever starting ends Run at once, with an error that says what it is, as
// long as not all were ready once.
func (s *Supervisor) Run(ctx context.Context) error {
	if s.lock == nil {
		return fmt.Errorf("supervisor runs without Prepare")
	}
	s.began = true
	defer s.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	// These outlive the slots: the file has to know of them to the end.
	ended := make(chan struct{})
	var helpers, slots sync.WaitGroup
	hctx, stopHealth := context.WithCancel(context.WithoutCancel(ctx))
	helpers.Go(func() { s.health.run(hctx) })
	helpers.Go(func() { s.rotateLogs(hctx) })
	helpers.Go(func() { s.outs.run(ended) })
	helpers.Go(func() { s.keepState(ended) })
	helpers.Go(func() { s.watchProgress(ended) })

	var first error
	var failed sync.Once
	s.begin(func(slot *slot) {
		slots.Go(func() {
			if err := slot.run(ctx); err != nil {
				failed.Do(func() { first = err })
				cancel(err)
			}
			if slot.isLeaving() {
				s.drop(slot)
			}
		})
	})
	slots.Go(func() { s.watchRetiring(ctx) })
	slots.Go(func() { s.watchOrphans(ctx) })
	slots.Go(func() { s.replaceStale(ctx) })
	for _, l := range s.superfluous() {
		slots.Go(func() { s.endSuperfluous(ctx, l) })
	}
	<-ctx.Done()
	s.cease()
	slots.Wait()
	s.endStrays()
	s.removeCgroups()
	stopHealth()
	close(ended)
	helpers.Wait()
	return first
}

// Close lets go of what Prepare took. Run does it too.
func (s *Supervisor) Close() {
	if s.spawner != nil {
		s.spawner.Close()
	}
	if s.cgroups != nil {
		if !s.began && s.inherited.adopted == 0 {
			s.removeCgroups() // nobody is in them, and nobody will be
		}
		if err := s.cgroups.Close(); err != nil { // a second time it does nothing
			s.log.Warn("cgroups", keyError, err)
		}
	}
	s.disown()
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// Hurry makes a stop that is going on, or a later one, skip the graceful part.
func (s *Supervisor) Hurry() { s.hurryUp.Do(func() { close(s.hurry) }) }

// SetDesired orders a slot to run, drain or stop. To order a run of one that
// waits for its next try, or has given up, makes it try at once.
func (s *Supervisor) SetDesired(id string, d Desired) error {
	slot, err := s.slot(id)
	if err != nil {
		return err
	}
	slot.order(d)
	return nil
}

// LastTick is when the loop that looks after the origins' health came round last;
// zero before its first round. It comes a few times in a ProbePeriod: when it is
// older than a few seconds, that loop stands still.
func (s *Supervisor) LastTick() time.Time {
	if at := s.health.ticked.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Output returns the last n lines that an origin's process printed. SRS prints
// little: its log is the file that the status names.
func (s *Supervisor) Output(id string, n int) ([]string, error) {
	slot, err := s.slot(id)
	if err != nil {
		return nil, err
	}
	return slot.output(n), nil
}

func (s *Supervisor) slot(id string) (*slot, error) {
	for _, slot := range s.all() {
		if slot.id == id {
			return slot, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknownOrigin, id)
}

// all are the slots of now, the older generation of a place before the newer.
func (s *Supervisor) all() []*slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slots
}

// turn waits until another origin may start. What it returns gives the turn to
// the next one.
func (s *Supervisor) turn(ctx context.Context) (done func(), ok bool) {
	select {
	case s.turns <- struct{}{}:
		return sync.OnceFunc(func() { <-s.turns }), true
	case <-ctx.Done():
		return nil, false
	}
}

// start spawns a slot's program, which prints to a file of that name.
func (s *Supervisor) start(slot *slot, output string, argv []string, cage *cage) (*process, error) {
	env := append(srsconf.CleanEnv(slot.cfg.Env), strayMark+slot.params.WorkDir, configMark+slot.configHash)
	return start(s.spawner, s.outs, launch{
		output: output,
		argv:   argv,
		env:    env,
		dir:    slot.params.WorkDir,
		born:   slot.born(cage),
	})
}

// patience is how often every origin may fail, with none ready ever, before the
// whole start is given up.
const patience = 3

// hopeless counts the slots that failed that often. When all of them did it
// returns an error.
func (s *Supervisor) hopeless(failures int, err error) error {
	n := len(s.cfg.CPUs)
	if failures != patience || int(s.tired.Add(1)) < n || s.anyReady.Load() {
		return nil
	}
	return fmt.Errorf("%w: each of %d failed %d times, at last with: %w", ErrNoOriginStarts, n, patience, err)
}
