package supervisor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// stale says what is different about a process that was adopted from one that would
// be started now; "" for nothing.
func (s *slot) stale(l *leftover) string {
	cfg := s.cfg
	switch {
	case cfg.DieWithParent:
		return "it would not die with this process"
	case !l.sameCommand:
		return "it runs another program: " + l.program
	case !inPlan(cfg.Ports, l.place.ports):
		return "its ports are not of the present plan"
	case l.configHash != s.configHash:
		return "its config is another"
	}
	if len(s.cpuSet) > 0 {
		if cpus, err := runtime.AllowedCPUs(l.pid); err == nil && !cpus.Equal(s.cpuSet) {
			return fmt.Sprintf("it runs on the CPUs %s", cpus)
		}
	}
	if cfg.Nice != nil {
		if nice, err := runtime.Nice(l.pid); err == nil && nice != *cfg.Nice {
			return fmt.Sprintf("its nice value is %d", nice)
		}
	}
	return ""
}

// inPlan says that ports are those of some place or spare ones.
func inPlan(plan srsconf.PortPlan, p srsconf.Ports) bool {
	first := plan.Ports(0).RTMP
	stride := plan.Ports(1).RTMP - first
	k := (p.RTMP - first) / stride
	return k >= 0 && plan.Ports(k) == p
}

// replaceLater notes a slot whose process serves but should be another.
func (s *Supervisor) replaceLater(slot *slot, why string) {
	slot.log.Warn("the adopted origin is not what would be started now; it is replaced when all others are adopted", "because", why)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited.stale = append(s.inherited.stale, slot)
}

// replaceStale replaces them, when all slots know what became of their leftovers. A
// rolling restart cuts nobody; where it can't be had they are restarted in place,
// one after the other. What is drained stays as it is.
func (s *Supervisor) replaceStale(ctx context.Context) {
	if s.inherited.adopted == 0 || !s.awaitAll(ctx, s.all(), (*slot).isAdopted) {
		return
	}
	s.mu.Lock()
	stale := slices.Clone(s.inherited.stale)
	s.mu.Unlock()
	serves := func(slot *slot) bool { return slot.status().State != Starting }
	if len(stale) == 0 || !s.awaitAll(ctx, stale, serves) {
		return
	}
	var ids []string
	for _, slot := range stale {
		if slot.desired() == Run {
			ids = append(ids, slot.id)
		} else {
			slot.log.Warn("the adopted origin is drained and stays what it is; restart it after an undrain")
		}
	}
	if len(ids) == 0 {
		return
	}
	err := s.Restart(ctx, ids...)
	if err == nil || ctx.Err() != nil {
		return
	}
	s.log.Warn("no rolling restart of adopted origins; they are restarted in place, and their streams are cut", keyOrigin, strings.Join(ids, " "), "because", err)
	for _, slot := range stale {
		if err := s.renewInPlace(ctx, slot); err != nil && ctx.Err() == nil {
			slot.log.Error("the origin is not ready after its restart", keyError, err)
		}
	}
}

func (s *Supervisor) renewInPlace(ctx context.Context, o *slot) error {
	pid := o.status().PID
	if !o.renew() {
		return nil
	}
	s.awaitAll(ctx, []*slot{o}, func(o *slot) bool { return o.status().PID != pid })
	return s.awaitUp(ctx, o)
}

// awaitAll waits until something is true of some slots.
func (s *Supervisor) awaitAll(ctx context.Context, slots []*slot, holds func(*slot) bool) bool {
	for {
		changed := s.progress.changed()
		if !slices.ContainsFunc(slots, func(slot *slot) bool { return !holds(slot) }) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// isAdopted says that the slot knows what became of its leftover, if it had one.
func (s *slot) isAdopted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leftover == nil
}

// renew ends the slot's process, gracefully, and has another one started. It says
// whether there was any to end.
func (s *slot) renew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || s.abandon == nil || s.view.Desired != Run || s.leaving != "" {
		return false
	}
	s.abandon()
	return true
}

// endSuperfluous stops the leftovers for which there is no place, at once: without
// a proxy in front nobody has used them for a while.
func (s *Supervisor) endSuperfluous(ctx context.Context, l *leftover) {
	id := s.cfg.id(l.place.index, l.place.gen)
	log := s.log.With(keyOrigin, id, "pid", l.pid)
	defer s.dismiss(l)
	if _, err := s.meet(ctx, &s.cfg, l); errors.Is(err, errNotOurs) {
		l.letGo()
		s.estrange(l)
		log.Warn("a process is not taken for an origin of an earlier run, and left alone", "because", err)
		return
	}
	log.Info("an origin of an earlier run has no place any more; it is stopped", "origins", len(s.cfg.CPUs))
	p := adopt(l.adopted, s.outs, reopenOutput(filepath.Join(l.workDir, originOutput)))
	if !end(p.exited, s.hurry, p.signal, s.cfg.TermAfter, s.cfg.KillAfter) {
		log.Error("origin survives SIGKILL")
		return
	}
	<-p.gone
	log.Info("origin stopped", "exit", p.exit.Error())
}
