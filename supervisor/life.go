package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/balancer"
)

// loadStep is how much an origin's CPU has to change for the balancer to hear of
// it: less does not change where a stream goes.
const loadStep = 0.05

// refreshPeriod is how often the balancer hears of an origin of which there is
// nothing new: in a shared one, silent origins expire (after 300 s in Redis).
const refreshPeriod = 30 * time.Second

// partingPause is between the end of our own connections to an origin and its
// SIGQUIT. SRS looks for connections in steps of a second (gracefully_dispose):
// if it had not seen our close yet, it would take that second longer.
// (It notices the signal itself within a second, as its main cycle sleeps that
// long: an idle SRS stops in 0.1 to 1.2 s.)
const partingPause = 20 * time.Millisecond

// live is one process, from its turn to start until nothing of it is left. It
// returns how long it was ready and why it ended; nil means that it was told to.
func (s *slot) live(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.abandon, s.retry = cancel, false
	wanted := s.view.Desired == Run
	s.mu.Unlock()
	if !wanted {
		return 0, nil
	}
	s.to(Starting, "waiting for its turn")
	done, ok := s.sup.turn(ctx)
	if !ok {
		return 0, nil
	}
	defer done()
	s.to(Starting, "")
	p, err := s.spawn(ctx)
	if err != nil || p == nil {
		return 0, err
	}
	defer s.forget()
	id, err := s.awaitReady(ctx, p)
	switch {
	case ctx.Err() != nil:
		s.stop(p)
		return 0, nil
	case err != nil:
		p.signal(unix.SIGKILL)
		return 0, s.ended(p, err)
	}
	done()
	s.everReady = true
	s.sup.anyReady.Store(true)
	since := time.Now()
	err = s.serve(ctx, p, id)
	return time.Since(since), err
}

// spawn proves that the slot's config is accepted and its ports are free, and
// starts the process. It returns neither process nor error when told to end.
func (s *slot) spawn(ctx context.Context) (*process, error) {
	if !s.checked {
		if err := s.check(ctx); err != nil {
			return nil, unlessDone(ctx, err)
		}
	}
	if err := s.awaitFreePorts(ctx); err != nil {
		return nil, unlessDone(ctx, err)
	}
	cage, err := s.cage()
	if err != nil {
		return nil, err
	}
	p, err := s.sup.start(s, originOutput, s.argv("-c", s.configFile), cage)
	if err != nil {
		cage.clear(s.log)
		return nil, err
	}
	p.cage = cage
	s.hold(p)
	return p, nil
}

// hold makes a process the slot's.
func (s *slot) hold(p *process) {
	s.mu.Lock()
	s.proc = p
	s.view.PID, s.view.Since = p.pid, p.started
	s.view.Version, s.view.ServiceID = "", ""
	s.mu.Unlock()
	s.sup.changed()
}

func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *slot) argv(args ...string) []string {
	cmd := s.cfg.Command
	return append(cmd[:len(cmd):len(cmd)], args...)
}

// awaitFreePorts allows for what is just going away.
func (s *slot) awaitFreePorts(ctx context.Context) error {
	for range 10 {
		if err := tryAll(ctx, s.listeners); !errors.Is(err, ErrPortBusy) {
			return err
		}
		s.pause(ctx, 50*time.Millisecond, Run)
	}
	return proveFree(ctx, s.listeners)
}

// awaitReady probes a new process until it is ready.
func (s *slot) awaitReady(ctx context.Context, p *process) (identity, error) {
	cfg := s.cfg
	api, rtmp := cfg.dialAddr(s.params.Ports.API), cfg.dialAddr(s.params.Ports.RTMP)
	deadline := time.NewTimer(cfg.StartTimeout)
	defer deadline.Stop()
	var last error
	for wait := firstTry; ; wait = min(wait*3/2, slowTry) {
		select {
		case <-ctx.Done():
			return identity{}, ctx.Err()
		case <-p.exited:
			return identity{}, errors.New("ended before it was ready")
		case <-deadline.C:
			return identity{}, fmt.Errorf("not ready after %s: %w", cfg.StartTimeout, last)
		case <-time.After(wait):
		}
		id, err := probeReady(ctx, api, rtmp, p.pid)
		if err == nil {
			return id, nil
		}
		if errors.Is(err, errImpostor) {
			return id, fmt.Errorf("%w: %w", ErrPortBusy, err)
		}
		last = err
	}
}

// serve is the time from ready to the end of the process.
func (s *slot) serve(ctx context.Context, p *process, id identity) error {
	cfg := s.cfg
	service := serviceOf(id, p.pid, p.startTicks)
	s.mu.Lock()
	s.view.ServiceID, s.view.Version = service, id.version
	s.mu.Unlock()
	origin := balancer.Origin{ID: s.id, Endpoints: cfg.endpoints(s.params.Ports), Service: service}
	state, v, _ := s.findings(p)
	if state == Draining { // ordered to before it was adopted
		origin.State = balancer.Draining
	}
	told := s.publish(&origin)
	s.to(state, s.reason(state, v))
	s.log.Info("origin ready", "pid", p.pid, "cpus", s.cpus, "rtmp", origin.Endpoints.RTMP, "took", time.Since(p.started).Round(time.Millisecond))
	s.sup.changed()
	s.sup.health.watch(s, p, id.pid, cfg.dialAddr(s.params.Ports.API), cfg.dialAddr(s.params.Ports.RTMP))
	defer s.sup.health.unwatch(s)
	refresh := time.NewTimer(nextRefresh(told))
	defer refresh.Stop()
	for {
		select {
		case <-p.exited:
			s.withdraw()
			// How it ended is known in a moment, when its group is reaped and its last
			// words are read; that it is out of the balancer is true now.
			s.log.Warn("origin ended; no stream is sent to it any more", "pid", p.pid)
			return s.ended(p, nil)
		case <-ctx.Done():
			s.sup.health.unwatch(s)
			s.withdraw()
			s.stop(p)
			return nil
		case <-refresh.C:
			told = s.publish(&origin)
			refresh.Reset(nextRefresh(told))
		case <-s.wake:
			state, v, cpu := s.findings(p)
			if v.hung {
				s.withdraw()
				s.log.Error("origin hangs; it is killed", "pid", p.pid, "because", v.muted)
				p.signalGroup(unix.SIGKILL)
				return s.ended(p, errors.New(v.muted))
			}
			s.to(state, s.reason(state, v))
			want := balancer.Up
			if state == Draining {
				want = balancer.Draining
			}
			if moved := cpu - origin.Load.CPU; want != origin.State || moved >= loadStep || moved <= -loadStep {
				origin.State = want
				told = s.publish(&origin)
				refresh.Reset(nextRefresh(told))
			} else if told {
				s.setTold(want) // an order and its opposite cancel out
			}
		}
	}
}

// nextRefresh is soon when the balancer could not be told.
func nextRefresh(told bool) time.Duration {
	if told {
		return refreshPeriod
	}
	return time.Second
}

// findings is what was left under mu, as the state that follows from it.
func (s *slot) findings(p *process) (State, verdict, float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.verdict
	if v.proc != p {
		v = verdict{}
	}
	switch {
	case s.view.Desired == Drain:
		return Draining, v, s.cpu
	case v.muted != "":
		return Degraded, v, s.cpu
	}
	return Ready, v, s.cpu
}

// reason explains a state that is not ready.
func (s *slot) reason(state State, v verdict) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != Draining || s.leaving == "":
		return v.muted
	case v.muted == "":
		return s.leaving
	}
	return s.leaving + "; " + v.muted
}

// publish tells the balancer of the origin, with its load of now.
func (s *slot) publish(o *balancer.Origin) bool {
	s.mu.Lock()
	o.Load.CPU, s.toldCPU = s.cpu, s.cpu
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), balancerTimeout)
	defer cancel()
	if err := s.sup.bal.Update(ctx, *o); err != nil {
		s.log.Warn("balancer not told of the origin; trying again", keyError, err)
		return false
	}
	s.setTold(o.State)
	return true
}

// withdraw takes the origin out of the balancer. It comes before everything else
// that is done about a dead origin.
func (s *slot) withdraw() {
	ctx, cancel := context.WithTimeout(context.Background(), balancerTimeout)
	defer cancel()
	if err := s.sup.bal.Remove(ctx, s.id); err != nil {
		s.log.Warn("balancer not told of the origin's end", keyError, err)
	}
}

// stop ends a process that should not be there any more.
func (s *slot) stop(p *process) {
	s.to(Draining, "stopping")
	cfg := s.cfg
	select {
	case <-time.After(partingPause):
	case <-p.exited:
	case <-s.sup.hurry:
	}
	hurry := s.sup.hurry
	if s.isOverdue() {
		// Its clients have had their time: none is waited for.
		hurry = make(chan struct{})
		close(hurry)
	}
	if !end(p.exited, hurry, p.signal, cfg.TermAfter, cfg.KillAfter) {
		s.log.Error("origin survives SIGKILL", "pid", p.pid)
		return
	}
	<-p.gone
	s.noteExit(p, p.exit.Error()+", as ordered", nil)
	if p.survivors != "" {
		s.log.Error("origin left processes behind", "what", p.survivors)
	}
}

// ended waits until nothing is left of a process that should live, and says how
// it ended: why, when that is known, else by its exit and its last words.
func (s *slot) ended(p *process, why error) error {
	select {
	case <-p.exited:
	case <-time.After(killPatience):
		return fmt.Errorf("pid %d survives SIGKILL: %w", p.pid, why)
	}
	<-p.gone
	if p.survivors != "" {
		s.log.Error("origin left processes behind", "what", p.survivors)
	}
	p.exit.OOM = p.diedOfOOM()
	words := lastWords(p.out, s.params.LogFile, p.pid)
	lines := lastOutput(p.out, s.params.LogFile, p.pid)
	s.noteExit(p, fmt.Sprintf("%s after %s%s", p.exit, time.Since(p.started).Round(10*time.Millisecond), suffix(words)), lines)
	if len(lines) > 0 {
		s.log.Warn("last output of the origin", "pid", p.pid, "output", strings.Join(lines, "\n"))
	}
	if why == nil {
		return fmt.Errorf("%w%s", p.exit, suffix(words))
	}
	return fmt.Errorf("%w (%w)%s", why, p.exit, suffix(words))
}

func suffix(words string) string {
	if words == "" {
		return ""
	}
	return ": " + words
}

// forget clears what the status says of the process that was.
func (s *slot) forget() {
	s.mu.Lock()
	cage := s.proc.cage
	s.mu.Unlock()
	cage.clear(s.log)
	s.mu.Lock()
	s.proc, s.verdict, s.abandon = nil, verdict{}, nil
	s.cpu, s.toldCPU = 0, 0
	s.view.PID, s.view.Since, s.view.ServiceID = 0, time.Time{}, ""
	s.view.CPUPercent, s.view.RSS = 0, 0
	s.mu.Unlock()
	s.sup.changed()
}
