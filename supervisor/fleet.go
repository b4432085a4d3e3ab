package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"srs-proxy/runtime"
)

// ReloadResult lists what a Reload did, by the IDs that the origins have now; those
// that were removed by the ones they had.
type ReloadResult struct {
	Unchanged []string `json:"unchanged,omitempty"`
	Restarted []string `json:"restarted,omitempty"`
	Added     []string `json:"added,omitempty"`
	Removed   []string `json:"removed,omitempty"`
}

// Scale changes how many origins there are, and returns when the new ones are
// ready. Those with the highest numbers drain, for DrainDeadline at most, then stop
// and are forgotten; that is not waited for. An error leaves all as it was.
func (s *Supervisor) Scale(ctx context.Context, n int) error {
	if n < 1 {
		return fmt.Errorf("scale to %d origins: there has to be one", n)
	}
	release, err := s.exclusive(ctx)
	if err != nil {
		return err
	}
	defer release()
	cfg, places, slots := s.present()
	next := *cfg
	var changes []change
	if n < len(places) {
		next.CPUs = next.CPUs[:n:n]
		for _, old := range places[n:] {
			changes = append(changes, change{old: old})
		}
	} else if next.CPUs, err = moreCPUs(cfg, places, n); err != nil {
		return err
	}
	for i := len(places); i < n; i++ {
		slot, err := s.newGeneration(ctx, &next, i, n, next.CPUs[i], slots)
		if err != nil {
			return err
		}
		slots = append(slots, slot)
		changes = append(changes, change{next: slot})
	}
	if err := s.prepare(ctx, changes); err != nil {
		return err
	}
	return s.roll(ctx, changes, &next)
}

// moreCPUs gives the places beyond those that there are the sets that the fewest
// others use.
func moreCPUs(cfg *Config, places []*slot, n int) ([]runtime.CPUSet, error) {
	choice := cfg.CPUs
	if cfg.PlanCPUs != nil {
		plan, err := cfg.PlanCPUs(n)
		if err != nil {
			return nil, fmt.Errorf("CPUs for %d origins: %w", n, err)
		}
		if len(plan) > 0 {
			choice = plan
		}
	}
	users := make(map[string]int)
	sets := make([]runtime.CPUSet, 0, n)
	for _, p := range places {
		users[p.cpuSet.String()]++
		sets = append(sets, p.cpuSet)
	}
	for len(sets) < n {
		best := slices.MinFunc(choice, func(a, b runtime.CPUSet) int { return users[a.String()] - users[b.String()] })
		users[best.String()]++
		sets = append(sets, best)
	}
	return sets, nil
}

// Drain keeps new streams from origins, of all when none is named, and returns
// when the balancer knows. The streams that they have stay. It holds until Undrain,
// over a restart of the supervisor too.
func (s *Supervisor) Drain(ctx context.Context, ids ...string) error {
	return s.orderAll(ctx, Run, Drain, ids)
}

// Undrain takes a Drain back.
func (s *Supervisor) Undrain(ctx context.Context, ids ...string) error {
	return s.orderAll(ctx, Drain, Run, ids)
}

func (s *Supervisor) orderAll(ctx context.Context, from, to Desired, ids []string) error {
	slots, err := s.resolve(ids, func(slot *slot) {
		if slot.desired() == from {
			slot.order(to)
		}
	})
	if err != nil {
		return err
	}
	if err := s.saved(ctx); err != nil {
		return fmt.Errorf("it is in force, but would not survive a restart: %w", err)
	}
	for _, slot := range slots {
		if err := s.awaitSettled(ctx, slot); err != nil {
			return err
		}
	}
	return nil
}

// drainAsBefore repeats the drains of an earlier run. What is drained and has no
// process waits until it is undrained.
func (s *Supervisor) drainAsBefore(state savedState) {
	for _, p := range s.places() {
		if slices.Contains(state.Drained, s.cfg.id(p.index, 0)) {
			p.order(Drain)
			p.log.Warn("the origin is still drained, as it was before the restart; undrain it when it should serve")
		}
	}
}

// awaitSettled waits until the balancer was told what is wanted of a slot.
func (s *Supervisor) awaitSettled(ctx context.Context, slot *slot) error {
	for {
		changed := s.progress.changed()
		if slot.settled() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("tell the balancer of %s: %w", slot.id, context.Cause(ctx))
		case <-s.ending:
			return ErrNotRunning
		case <-changed:
		}
	}
}

// Restart replaces the processes of origins, of all when none is named: new ones
// start on spare ports, and when they are ready the old ones drain, for
// DrainDeadline at most, and stop; that is not waited for. As many as may start at
// once are replaced at a time, so that the machine has to have room for few more
// processes than before, as long as the old ones are not used. An origin that does
// not serve tries again at once, and what comes of that is waited for. One that the
// operator has drained is not touched
// unless it is named, and then it is an error. An error leaves those alone that were
// not replaced yet, and says how many were.
func (s *Supervisor) Restart(ctx context.Context, ids ...string) error {
	release, err := s.exclusive(ctx)
	if err != nil {
		return err
	}
	defer release()
	targets, err := s.resolve(ids, nil)
	if err != nil {
		return err
	}
	for _, old := range targets {
		if old.desired() == Drain && len(ids) > 0 {
			return fmt.Errorf("%s is drained: undrain it instead", old.id)
		}
	}
	done := 0
	for some := range slices.Chunk(targets, s.cfg.Starts) {
		if err := s.renewSome(ctx, some); err != nil {
			if done > 0 {
				err = fmt.Errorf("%d of %d origins are replaced; then: %w", done, len(targets), err)
			}
			return err
		}
		if done += len(some); done < len(targets) {
			s.log.Info("origins replaced, the next ones follow", "done", done, "of", len(targets))
		}
	}
	return nil
}

// renewSome replaces some origins at once: all of them, or after an error none.
func (s *Supervisor) renewSome(ctx context.Context, targets []*slot) error {
	cfg, places, slots := s.present()
	var again []*slot
	var changes []change
	for _, old := range targets {
		switch o := old.status(); {
		case o.Desired == Drain, o.State == Starting:
		case o.State == Ready, o.State == Degraded:
			next, err := s.newGeneration(ctx, cfg, old.index, len(places), old.cpuSet, slots)
			if err != nil {
				return err
			}
			slots = append(slots, next)
			changes = append(changes, change{old, next})
		default:
			again = append(again, old)
		}
	}
	if err := s.prepare(ctx, changes); err != nil {
		return err
	}
	for _, slot := range again {
		slot.order(Run)
	}
	if err := s.roll(ctx, changes, cfg); err != nil {
		return err
	}
	for _, slot := range again {
		// One that fails again says so in its status, and holds up no others.
		if err := s.awaitUp(ctx, slot); err != nil && !errors.Is(err, ErrNoOriginStarts) {
			return err
		}
	}
	return nil
}

// Reload makes the supervisor follow another Config. All of it is checked first,
// every config that is new by the origin's program too: an error changes nothing
// and says why. Only origins whose config, CPUs, limits or command changed are
// replaced, as Restart does; that takes the time until all of the new ones are
// ready. Timeouts hold for processes that start from then on.
func (s *Supervisor) Reload(ctx context.Context, cfg Config) (ReloadResult, error) {
	cfg = cfg.withDefaults()
	if err := errors.Join(cfg.validate(), s.cfg.fixed(&cfg)); err != nil {
		return ReloadResult{}, err
	}
	if err := cfg.findCommand(); err != nil {
		return ReloadResult{}, err
	}
	release, err := s.exclusive(ctx)
	if err != nil {
		return ReloadResult{}, err
	}
	defer release()
	_, places, slots := s.present()
	var changes []change
	var result ReloadResult
	for i, cpus := range cfg.CPUs {
		var old *slot
		if i < len(places) {
			old = places[i]
			same, err := old.sameAs(&cfg, cpus)
			if err != nil {
				return ReloadResult{}, err
			}
			if same {
				result.Unchanged = append(result.Unchanged, old.id)
				continue
			}
		}
		next, err := s.newGeneration(ctx, &cfg, i, len(cfg.CPUs), cpus, slots)
		if err != nil {
			return ReloadResult{}, err
		}
		if old != nil {
			next.view.Desired = old.desired()
			result.Restarted = append(result.Restarted, next.id)
		} else {
			result.Added = append(result.Added, next.id)
		}
		slots = append(slots, next)
		changes = append(changes, change{old, next})
	}
	for _, old := range places[min(len(cfg.CPUs), len(places)):] {
		result.Removed = append(result.Removed, old.id)
		changes = append(changes, change{old: old})
	}
	if err := s.prepare(ctx, changes); err != nil {
		return ReloadResult{}, err
	}
	if err := s.roll(ctx, changes, &cfg); err != nil {
		return ReloadResult{}, err
	}
	s.SetLogRotation(cfg.Logs)
	return result, nil
}

// fixed names what cannot change while origins run.
func (c Config) fixed(next *Config) error {
	var changed []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"state dir", c.StateDir == next.StateDir},
		{"prefix of the origins' names", c.IDPrefix == next.IDPrefix},
		{"name of the cgroups", c.Cgroup == next.Cgroup},
		{"number of starts at once", c.Starts == next.Starts},
		{"times of the probes", c.ProbePeriod == next.ProbePeriod && c.ProbeTimeout == next.ProbeTimeout && c.ProbeMisses == next.ProbeMisses},
	} {
		if !f.same {
			changed = append(changed, f.name)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNeedsRestart, strings.Join(changed, ", "))
}

// begin starts the slots, and lets others be added.
func (s *Supervisor) begin(launch func(*slot)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.launch = launch
	for _, slot := range s.slots {
		launch(slot)
	}
}

// cease lets no slot be added any more.
func (s *Supervisor) cease() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.launch = nil
	close(s.ending)
}

// exclusive makes the caller the only one who changes the set of origins.
func (s *Supervisor) exclusive(ctx context.Context) (release func(), err error) {
	s.mu.Lock()
	running := s.launch != nil
	s.mu.Unlock()
	if !running {
		return nil, ErrNotRunning
	}
	select {
	case s.changing <- struct{}{}:
		return func() { <-s.changing }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("another change of the origins goes on: %w", context.Cause(ctx))
	case <-s.ending:
		return nil, ErrNotRunning
	}
}

// present is the config of now, the places by index, and all slots.
func (s *Supervisor) present() (cfg *Config, places, slots []*slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now, s.placesLocked(), slices.Clone(s.slots)
}

func (s *Supervisor) places() []*slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.placesLocked()
}

// placesLocked are the slots that are not just coming or going, by index.
func (s *Supervisor) placesLocked() []*slot {
	return slices.DeleteFunc(slices.Clone(s.slots), func(slot *slot) bool { return slot.role != Current })
}

// config is what new slots get.
func (s *Supervisor) config() *Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// resolve finds the present process of places: all of them for no ids. An id
// without a dot is the place's; that of one process is good while that one is
// current. While it does so no place is handed over, so what visit does to a slot
// passes to its successor.
func (s *Supervisor) resolve(ids []string, visit func(*slot)) ([]*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	places := s.placesLocked()
	found := places
	if len(ids) > 0 {
		found = nil
		for _, id := range ids {
			i := slices.IndexFunc(places, func(p *slot) bool { return p.id == id || p.cfg.id(p.index, 0) == id })
			if i < 0 {
				return nil, fmt.Errorf("%w: %s", ErrUnknownOrigin, id)
			}
			if !slices.Contains(found, places[i]) {
				found = append(found, places[i])
			}
		}
	}
	if visit != nil {
		for _, slot := range found {
			visit(slot)
		}
	}
	return found, nil
}
