package supervisor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// drainPoll is how often retiring processes are looked at.
const drainPoll = 200 * time.Millisecond

// change is what happens to one place: next takes the place of old. Without old
// the place is a new one, without next it is given up.
type change struct{ old, next *slot }

// prepare writes and checks the configs of all that is new; what was there goes on
// unchanged. After an error nothing is left of it.
func (s *Supervisor) prepare(ctx context.Context, changes []change) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Starts)
	others := s.all()
	for _, c := range changes {
		if c.next == nil {
			continue
		}
		g.Go(func() error {
			return c.next.prove(ctx, slices.DeleteFunc(slices.Clone(others), func(o *slot) bool { return o.index != c.next.index }))
		})
	}
	err := g.Wait()
	if err != nil {
		for _, c := range changes {
			if c.next != nil {
				c.next.tidy()
			}
		}
	}
	return err
}

// roll makes changes that were prepared: all that is new starts next to what is
// there, and only when all of it is ready does the old retire. So there are never
// fewer ready origins than before, and an error leaves everything as it was.
func (s *Supervisor) roll(ctx context.Context, changes []change, cfg *Config) error {
	for i, c := range changes {
		if c.next == nil {
			continue
		}
		if err := s.add(c.next); err != nil {
			for _, rest := range changes[i:] {
				if rest.next != nil {
					rest.next.tidy()
				}
			}
			s.abort(changes[:i])
			return err
		}
	}
	for _, c := range changes {
		if c.next == nil {
			continue
		}
		if err := s.awaitUp(ctx, c.next); err != nil {
			s.abort(changes)
			return err
		}
	}
	s.settle(changes, cfg)
	return nil
}

// add lists a slot, behind the older ones of its place, and begins its life.
func (s *Supervisor) add(slot *slot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.launch == nil {
		return ErrNotRunning
	}
	slot.setRole(Successor)
	at := len(s.slots)
	for i, o := range s.slots {
		if o.index > slot.index {
			at = i
			break
		}
	}
	s.slots = slices.Insert(slices.Clone(s.slots), at, slot)
	s.launch(slot)
	return nil
}

// awaitUp waits until a new slot is ready. One whose place is drained needs not be.
func (s *Supervisor) awaitUp(ctx context.Context, slot *slot) error {
	for {
		changed := s.progress.changed()
		if o := slot.status(); o.Desired != Run || o.State == Ready {
			return nil
		}
		if reason, failed := slot.failed(); failed {
			return fmt.Errorf("%w: %s: %s", ErrNoOriginStarts, slot.id, reason)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", slot.id, context.Cause(ctx))
		case <-s.ending:
			return ErrNotRunning
		case <-changed:
		}
	}
}

// settle hands the places over.
func (s *Supervisor) settle(changes []change, cfg *Config) {
	s.mu.Lock()
	s.now = cfg
	for _, c := range changes {
		if c.next != nil {
			c.next.succeed(c.old)
		}
		if c.old != nil {
			c.old.setRole(Retiring)
		}
	}
	s.mu.Unlock()
	until := time.Now().Add(cfg.DrainDeadline)
	for _, c := range changes {
		switch {
		case c.old == nil:
			c.next.log.Info("origin added")
		case c.next == nil:
			c.old.retire("one origin too many", until)
			c.old.log.Info("origin given up; it drains", "until", until.Format(time.TimeOnly))
		default:
			c.old.retire("replaced by "+c.next.id, until)
			c.old.log.Info("origin replaced; the old process drains", "by", c.next.id, "until", until.Format(time.TimeOnly))
		}
	}
	s.retiring()
}

// abort takes new slots back. Those that were ready may have got streams, and
// drain; the others end at once.
func (s *Supervisor) abort(changes []change) {
	s.mu.Lock()
	until := time.Now().Add(s.now.DrainDeadline)
	for _, c := range changes {
		if c.next != nil {
			c.next.setRole(Retiring)
		}
	}
	s.mu.Unlock()
	for _, c := range changes {
		if c.next != nil {
			c.next.retire("not needed after all", until)
		}
	}
	s.retiring()
}

func (s *Supervisor) retiring() {
	s.changed()
	s.progress.notify()
	select {
	case s.retired <- struct{}{}:
	default:
	}
}

// watchRetiring stops what retires when nobody uses it any more, or when its time
// is over.
func (s *Supervisor) watchRetiring(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for {
		var tick <-chan time.Time
		if s.release(ctx) {
			tick = time.After(drainPoll)
		}
		for _, bare := range s.incomplete() {
			tasks.Go(func() {
				if err := s.Restart(ctx, bare.id); err != nil && ctx.Err() == nil {
					bare.log.Error("it stays without what only one process of its place can have; restart it", keyError, err)
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-s.retired:
		case <-tick:
		}
	}
}

// release looks at all that retires; it says whether there is any.
func (s *Supervisor) release(ctx context.Context) bool {
	var leaving []*slot
	for _, slot := range s.all() {
		if slot.isLeaving() {
			leaving = append(leaving, slot)
		}
	}
	if len(leaving) == 0 {
		return false
	}
	sessions, err := s.sessions(ctx)
	now := time.Now()
	for _, slot := range leaving {
		o := slot.status()
		n, known := sessions[slot.id]
		switch {
		case o.Desired == Stop:
		case !now.Before(o.DrainUntil):
			slot.log.Warn("the time to drain is over; the origin is stopped", "sessions", n, keyError, err)
			slot.expire()
		case known && n == 0 && o.State == Draining && slot.settled():
			slot.order(Stop)
		}
	}
	return true
}

// sessions are how many each origin has, by id.
func (s *Supervisor) sessions(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, balancerTimeout)
	defer cancel()
	origins, err := s.bal.Origins(ctx)
	if err != nil {
		return nil, err
	}
	n := make(map[string]int, len(origins))
	for _, o := range origins {
		n[o.ID] = o.Publishers + o.Players
	}
	return n, nil
}

// incomplete are the bare slots that can have everything now; each is named once.
func (s *Supervisor) incomplete() []*slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*slot
	for _, p := range s.slots {
		alone := !slices.ContainsFunc(s.slots, func(o *slot) bool { return o != p && o.index == p.index })
		if p.bare && alone && p.role == Current && !p.completing {
			p.completing = true
			found = append(found, p)
		}
	}
	return found
}

// drop forgets a slot that has ended. Its folder is tidied before its name is free.
func (s *Supervisor) drop(gone *slot) {
	gone.tidy()
	s.mu.Lock()
	s.slots = slices.DeleteFunc(slices.Clone(s.slots), func(o *slot) bool { return o == gone })
	s.mu.Unlock()
	gone.log.Info("origin gone", "last_exit", gone.status().LastExit)
	s.retiring()
}

// setRole is called with the supervisor's mu.
func (s *slot) setRole(r Role) {
	s.role = r
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.Role = r
}

// succeed makes the slot the one of its place, as old was, with the supervisor's mu.
func (s *slot) succeed(old *slot) {
	s.setRole(Current)
	if old == nil {
		return
	}
	was := old.status()
	s.mu.Lock()
	s.view.Restarts += was.Restarts
	if s.view.LastExit == "" {
		s.view.LastExit, s.view.Exit = was.LastExit, was.Exit
	}
	ordered := s.view.Desired != was.Desired
	s.mu.Unlock()
	if ordered {
		s.order(was.Desired) // meanwhile
	}
}

// expire stops a slot whose time to drain is over.
func (s *slot) expire() {
	s.mu.Lock()
	s.overdue = true
	s.orderLocked(Stop)
	s.mu.Unlock()
	s.poke()
}

func (s *slot) isOverdue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.overdue
}
