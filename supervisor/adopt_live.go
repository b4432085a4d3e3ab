package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// takeLeftover gives the slot's process of an earlier run, once.
func (s *slot) takeLeftover() *leftover {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return nil
	}
	s.taken = true
	return s.leftover
}

// loseLeftover forgets that there was one.
func (s *slot) loseLeftover() {
	s.mu.Lock()
	s.leftover = nil
	s.mu.Unlock()
	s.sup.changed()
	s.sup.progress.notify()
}

// liveOn is live for a process of an earlier run: from a look at who it is until
// nothing of it is left.
func (s *slot) liveOn(ctx context.Context, l *leftover) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.abandon, s.retry = cancel, false
	stop := s.view.Desired == Stop
	s.mu.Unlock()
	if stop {
		cancel()
	}
	s.to(Starting, fmt.Sprintf("adopting pid %d of an earlier run", l.pid))
	id, err := s.sup.meet(ctx, s.cfg, l)
	if errors.Is(err, errNotOurs) {
		l.letGo()
		s.sup.estrange(l)
		s.loseLeftover()
		s.log.Warn("a process is not taken for an origin of an earlier run, and left alone", "pid", l.pid, "because", err)
		return 0, nil // what has its ports is the next start's concern
	}
	p := adopt(l.adopted, s.sup.outs, reopenOutput(filepath.Join(l.workDir, originOutput)))
	p.cage = s.adoptCage(l.pid)
	s.hold(p)
	defer s.forget()
	defer s.loseLeftover()
	switch {
	case ctx.Err() != nil:
		s.stop(p)
		return 0, nil
	case err != nil:
		s.log.Error("an origin of an earlier run hangs; it is killed", "pid", p.pid, "because", err)
		p.signalGroup(unix.SIGKILL)
		return 0, s.ended(p, err)
	}
	s.everReady = true
	s.sup.anyReady.Store(true)
	s.log.Info("origin adopted", "pid", p.pid, "up_for", time.Since(p.started).Round(time.Second))
	if why := s.stale(l); why != "" {
		s.sup.replaceLater(s, why)
	}
	s.loseLeftover()
	since := time.Now()
	err = s.serve(ctx, p, id)
	return time.Since(since), err
}

// meet asks a leftover who it is, until it answers or is given up. An answer of
// anybody else is errNotOurs; any other error means that it is ours and does not
// answer, or that it has just ended.
func (s *Supervisor) meet(ctx context.Context, cfg *Config, l *leftover) (identity, error) {
	api, rtmp := cfg.dialAddr(l.place.ports.API), cfg.dialAddr(l.place.ports.RTMP)
	start := time.Now()
	// As long as a living origin may be silent before it is taken for hung; longer
	// if it had just been started.
	patience := cfg.ProbeTimeout + time.Duration(cfg.ProbeMisses)*cfg.ProbePeriod
	patience = max(patience, cfg.StartTimeout-start.Sub(startedAt(l.startTicks, start)))
	silent := false
	defer func() {
		if silent {
			s.silent.Add(-1)
		}
	}()
	for wait := firstTry; ; wait = min(wait*3/2, slowTry) {
		id, err := introduce(ctx, api, rtmp, l)
		if err == nil || errors.Is(err, errNotOurs) || ctx.Err() != nil {
			return id, err
		}
		if !l.alive() {
			return id, errEnded
		}
		if !silent {
			silent = true
			s.silent.Add(1)
		}
		if waited := time.Since(start); waited > patience {
			// Of two wrongs, to wait for one that hangs and to kill all because the host
			// does, the first is the lesser.
			host := hostTrouble(int(s.silent.Load()), len(s.all()), false)
			if !host || waited > cfg.StartTimeout {
				return s.given(ctx, rtmp, l, fmt.Errorf("it has not answered for %s: %w", waited.Round(time.Millisecond), err))
			}
		}
		select {
		case <-ctx.Done():
			return identity{}, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// given is who a leftover is whose API is silent: as long as it speaks RTMP, it is
// who the kernel says.
func (s *Supervisor) given(ctx context.Context, rtmp netip.AddrPort, l *leftover, why error) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if shakeHands(ctx, rtmp) != nil {
		return identity{}, why
	}
	return identity{pid: l.answers, service: l.saved.ServiceID}, nil
}

// introduce asks once.
func introduce(ctx context.Context, api, rtmp netip.AddrPort, l *leftover) (identity, error) {
	id, err := probeReady(ctx, api, rtmp, l.pid)
	switch {
	case errors.Is(err, errImpostor):
		return id, fmt.Errorf("%w: %w", errNotOurs, err)
	case id.pid == 0:
		return id, err // no answer
	case id.pid != l.answers:
		return id, fmt.Errorf("%w: the API on %s is answered by pid %d, and pid %d has the lock on %s", errNotOurs, api, id.pid, l.answers, l.params.PIDFile)
	case !knownService(l.saved.ServiceID, id, l.pid, l.startTicks):
		return id, fmt.Errorf("%w: its service id is %s and was %s", errNotOurs, id.service, printable(l.saved.ServiceID))
	}
	return id, err
}

// serviceOf is what tells a process from its successor: what it says, or who it is
// where it says nothing.
func serviceOf(id identity, pid int, startTicks uint64) string {
	return cmp.Or(id.service, strconv.Itoa(pid)+"-"+strconv.FormatUint(startTicks, 10))
}

// knownService says that a process answers as it did when it was saved. Nothing may
// have been saved, or who the process is in place of what it says: its API was silent then.
func knownService(saved string, id identity, pid int, startTicks uint64) bool {
	return saved == "" || saved == serviceOf(id, pid, startTicks) || saved == serviceOf(identity{}, pid, startTicks)
}

// entry is what the state file says of a leftover until it is a process of a slot.
func (l *leftover) entry() savedOrigin {
	o := l.saved
	o.Slot, o.PID, o.StartTicks = l.place.index, l.pid, l.startTicks
	o.Ports, o.PIDFile, o.ConfigHash, o.Program = l.place.ports, l.params.PIDFile, l.configHash, l.program
	return o
}
