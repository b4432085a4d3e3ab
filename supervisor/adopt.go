package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/srsconf"
)

// Origins outlive a supervisor that was killed, and the next one goes on with them:
//
//	Prepare   candidates ─▶ claim (adopt_proof.go) ─▶ a slot each, its ports are not proved free
//	                                               └▶ superfluous: more than there are places
//	Run       slot: the API says who it is ─▶ ready, as if it had been started here
//	                another answers        ─▶ a stranger: left alone, and the slot starts its own if it can
//	                nothing answers        ─▶ hung: killed and replaced
//	          other config, program or CPUs ─▶ replaced when all others are ready (adopt_replace.go)
//	          superfluous ─▶ stopped
//
// What an origin's death left of its process group is ended. Without a state file
// the locks on the pid files say which origins there are, and the marks in their
// environments whose they are.

// inheritance is what Prepare found of an earlier run.
type inheritance struct {
	// adopted is how many slots have a process of that run.
	adopted int
	// folders of all that was claimed: what is found with such a mark is theirs.
	folders map[string]bool

	// Guarded by the supervisor's mu.
	strangers   map[int]bool // the processes that only looked like origins
	superfluous []*leftover  // without a place
	stale       []*slot      // slots whose process serves and should be another
}

// inherit claims the origins of an earlier run and gives them their slots. It
// signals none of them.
func (s *Supervisor) inherit(ctx context.Context, state savedState) error {
	if boot := state.BootID; boot != "" && boot != s.bootID {
		s.log.Info("the state file is of an earlier boot of this machine; its origins are gone")
		state.Origins = nil
	}
	s.inherited.folders, s.inherited.strangers = make(map[string]bool), make(map[int]bool)
	var found []*leftover
	var helpless []savedOrigin
	strangers := make(map[int]error)
	for _, cand := range s.candidates(state) {
		log := s.log.With(keyOrigin, cand.saved.ID, "pid", cand.pid)
		l, err := s.cfg.claim(cand)
		switch {
		case err == nil && s.knows(found, l.pid):
			l.letGo()
		case err == nil:
			found = append(found, l)
		case errors.Is(err, errEnded):
			if cand.saved.PID != 0 {
				log.Info("an origin of an earlier run has ended meanwhile")
				s.endOrphans(cand)
			}
		case errors.Is(err, errNotOurs):
			strangers[cand.pid] = err
		case sameProcess(cand.pid, cand.saved.StartTicks):
			// No descriptors of processes: Linux before 5.3, or a container that forbids
			// them. Without them nothing is safe.
			log.Warn("an origin of an earlier run cannot be adopted", keyError, err)
			helpless = append(helpless, cand.saved)
		}
	}
	for pid, err := range strangers {
		if !s.knows(found, pid) { // by its lock, in spite of the file
			s.inherited.strangers[pid] = true
			s.log.Warn("a process is not taken for an origin of an earlier run, and left alone", "pid", pid, "because", err)
		}
	}
	if len(helpless) > 0 {
		for _, l := range found {
			l.letGo()
		}
		return leftoverError(helpless)
	}
	return s.allot(ctx, withoutDying(ctx, found))
}

// dyingTime is longer than an origin with asprocess takes to notice that its parent
// is gone: it looks once a second (SrsServer::do_cycle).
const dyingTime = 2 * time.Second

// withoutDying waits for those to end that were started to die with their parent,
// and have only not noticed yet.
func withoutDying(ctx context.Context, found []*leftover) []*leftover {
	deadline := time.Now().Add(dyingTime)
	return slices.DeleteFunc(found, func(l *leftover) bool {
		root, err := srsconf.ParseFile(filepath.Join(l.workDir, configName))
		if err != nil || !root.On(false, "asprocess") {
			return false
		}
		for l.alive() && ctx.Err() == nil && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		if l.alive() {
			return false
		}
		l.letGo()
		return true
	})
}

func (s *Supervisor) knows(found []*leftover, pid int) bool {
	return slices.ContainsFunc(found, func(l *leftover) bool { return l.pid == pid })
}

// candidates are the processes that may be origins of an earlier run: those of the
// state file, and those that hold the lock on the pid file of a folder of ours. The
// second finds what was started right before the kill, too late for the file.
func (s *Supervisor) candidates(state savedState) []candidate {
	var all []candidate
	for _, o := range state.Origins {
		if index, gen, ok := s.cfg.parseID(o.ID); ok {
			all = append(all, candidate{
				pid:     o.PID,
				place:   birth{index: index, gen: gen, ports: o.Ports},
				saved:   o,
				command: state.Command,
			})
		}
	}
	entries, err := os.ReadDir(s.cfg.StateDir)
	if err != nil {
		return all
	}
	for _, e := range entries {
		index, gen, ok := s.cfg.parseID(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		place := birth{index: index, gen: gen}
		params := s.cfg.params(place)
		owner, err := lockOwner(params.PIDFile)
		if err != nil || owner == 0 {
			continue
		}
		// The lock may be a script's child's: the candidate is the leader of the group.
		if stat, err := readProcStat(owner); err == nil {
			owner = stat.group
		}
		if place.ports, err = portsIn(filepath.Join(params.WorkDir, configName)); err != nil {
			continue // nothing that we have started had such a config
		}
		all = append(all, candidate{pid: owner, place: place, saved: savedOrigin{ID: e.Name()}})
	}
	return all
}

// portsIn are the ports of a config as it stands on the disk.
func portsIn(file string) (srsconf.Ports, error) {
	var p srsconf.Ports
	root, err := srsconf.ParseFile(file)
	if err != nil {
		return p, err
	}
	listeners, err := srsconf.Listeners(root)
	if err != nil {
		return p, err
	}
	for _, l := range listeners {
		port := int(l.Addr.Port())
		switch l.Directive {
		case "listen", "rtmp":
			p.RTMP = cmp.Or(p.RTMP, port)
		case "http_server":
			p.HTTP = port
		case "http_api":
			p.API = port
		}
	}
	if p.RTMP == 0 || p.API == 0 {
		return p, fmt.Errorf("%s has no port for RTMP or none for the API", file)
	}
	// The others may be off in the config, and are as far apart as ever.
	base := srsconf.PortPlan{Base: p.RTMP}.Ports(0)
	if p.HTTP == base.HTTP && p.API == base.API {
		return base, nil
	}
	return p, nil
}

// allot gives what was claimed to the places. Of two processes of one place, which a
// kill in the middle of a replacement leaves, the one goes on that was known to be
// ready, or else the younger one.
func (s *Supervisor) allot(ctx context.Context, found []*leftover) error {
	slices.SortStableFunc(found, func(a, b *leftover) int {
		return cmp.Or(
			cmp.Compare(a.saved.rank(), b.saved.rank()),
			cmp.Compare(b.startTicks, a.startTicks))
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	slots := slices.Clone(s.slots)
	for _, l := range found {
		s.inherited.folders[l.workDir] = true
		i := slices.IndexFunc(slots, func(o *slot) bool { return o.index == l.place.index })
		if i < 0 || slots[i].leftover != nil {
			s.inherited.superfluous = append(s.inherited.superfluous, l)
			continue
		}
		place := l.place
		place.cpus = slots[i].cpuSet
		slot := newSlot(s, s.now, place)
		slot.leftover = l
		slot.view.Desired = slots[i].view.Desired
		slot.view.Restarts, slot.view.LastExit = l.saved.Restarts, l.saved.LastExit
		slots[i] = slot
		s.inherited.adopted++
	}
	if s.inherited.adopted == 0 {
		return nil
	}
	for i, slot := range slots {
		// This is no first start, which the first thing that is wrong ends: there are
		// origins that serve.
		slot.initial = false
		if slot.leftover != nil || !sharesPort(slot.params.Ports, found) {
			continue
		}
		// A process that was replaced before the kill has the ports of this place.
		ports, err := portsFor(ctx, s.now, slot.index, len(slots), slots)
		if err != nil {
			return fmt.Errorf("%s: %w", slot.id, err)
		}
		other := newSlot(s, s.now, birth{index: slot.index, cpus: slot.cpuSet, ports: ports})
		other.view.Desired = slot.view.Desired
		slots[i] = other
	}
	s.slots = slots
	return nil
}

func sharesPort(p srsconf.Ports, found []*leftover) bool {
	return slices.ContainsFunc(found, func(l *leftover) bool {
		return slices.ContainsFunc(l.place.ports.List(), func(port int) bool { return slices.Contains(p.List(), port) })
	})
}

// endOrphans ends what the death of an origin left of its group. The leader is
// gone, so the group's number may be used again: the mark decides.
func (s *Supervisor) endOrphans(cand candidate) {
	workDir := s.cfg.params(cand.place).WorkDir
	n := signalMarked(unix.SIGKILL,
		func(pid int, p procStat) bool { return p.group == cand.saved.PID && pid != p.group },
		func(mark string) bool { return mark == workDir })
	if n > 0 {
		s.log.Warn("processes that an origin left behind are killed", keyOrigin, cand.saved.ID, "processes", n)
	}
}

// superfluous are the leftovers without a place that are not dealt with yet.
func (s *Supervisor) superfluous() []*leftover {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.inherited.superfluous)
}

// dismiss strikes out one of them.
func (s *Supervisor) dismiss(l *leftover) {
	s.mu.Lock()
	s.inherited.superfluous = slices.DeleteFunc(slices.Clone(s.inherited.superfluous), func(o *leftover) bool { return o == l })
	s.mu.Unlock()
	s.changed()
}

// estrange notes that a leftover is none.
func (s *Supervisor) estrange(l *leftover) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited.strangers[l.pid] = true
}

// disown lets go of all that nobody has looked after: Run did not come to it.
func (s *Supervisor) disown() {
	for _, slot := range s.all() {
		if l := slot.takeLeftover(); l != nil {
			l.letGo()
		}
	}
	for _, l := range s.superfluous() {
		l.letGo()
		s.dismiss(l)
	}
}
