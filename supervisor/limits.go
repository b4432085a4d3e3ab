package supervisor

import (
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
)

// cage is the cgroup of one process and all that it forks. Its count of OOM kills
// says what its process died of, and what is still in it then is ended with it. A
// nil one is none.
type cage struct {
	*runtime.Cgroup
	// ooms were counted before the process was in there.
	ooms uint64
}

// limits are what the slot's process may have.
func (c *Config) limits(cpus runtime.CPUSet) runtime.SlotLimits {
	l := runtime.SlotLimits{CPUQuota: c.CPUQuota, MemoryMax: c.MemoryMax}
	if c.Nice != nil {
		l.Nice = *c.Nice
	}
	if c.Mems != nil {
		if l.Mems = c.Mems(cpus); len(l.Mems) > 0 {
			l.CPUs = cpus
		}
	}
	return l
}

// sameLimits says that a process of the other config would have the same limits.
func (c *Config) sameLimits(other *Config, cpus runtime.CPUSet) bool {
	a, b := c.limits(cpus), other.limits(cpus)
	return a.CPUQuota == b.CPUQuota && a.MemoryMax == b.MemoryMax && a.Mems.Equal(b.Mems) &&
		sameInt(c.Nice, other.Nice) && sameInt(c.OOMScore, other.OOMScore)
}

func sameInt(a, b *int) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

// born is what the slot's process starts with.
func (s *slot) born(c *cage) runtime.StartOptions {
	o := runtime.StartOptions{CPUs: s.cpuSet, Nofile: s.cfg.Nofile, Nice: s.cfg.Nice, OOMScore: s.cfg.OOMScore}
	if c != nil {
		o.Cgroup = c.Cgroup
	}
	return o
}

// groupName is the ID without the dot, which separates names of groups.
func (s *slot) groupName() string { return strings.ReplaceAll(s.id, ".", "_") }

// cage makes a group for the slot's next process.
func (s *slot) cage() (*cage, error) {
	g, err := s.sup.cgroups.Slot(s.groupName(), s.cfg.limits(s.cpuSet))
	if err != nil {
		return nil, err
	}
	return s.caged(g), nil
}

// adoptCage finds the group of a process of an earlier run, or makes one.
func (s *slot) adoptCage(pid int) *cage {
	if score := s.cfg.OOMScore; score != nil {
		if err := runtime.SetOOMScore(pid, *score); err != nil {
			s.log.Warn("an adopted process keeps its OOM score", "pid", pid, keyError, err)
		}
	}
	g, err := s.sup.cgroups.Adopt(s.groupName(), pid, s.cfg.limits(s.cpuSet))
	if err != nil {
		s.log.Warn("an adopted process gets no cgroup", "pid", pid, keyError, err)
		return nil
	}
	return s.caged(g)
}

// caged notes what is in force.
func (s *slot) caged(g *runtime.Cgroup) *cage {
	c := &cage{Cgroup: g}
	c.ooms, _ = g.OOMKills() // not known is none
	missing := g.Missing()
	s.mu.Lock()
	s.view.Limits, s.view.NotInForce = s.inForce(g), missing
	s.mu.Unlock()
	s.sup.missing(missing)
	return c
}

// missing tells of limits that are not in force, once for all origins.
func (s *Supervisor) missing(limits []string) {
	s.mu.Lock()
	news := !slices.Equal(limits, s.notInForce)
	s.notInForce = limits
	s.mu.Unlock()
	if news && len(limits) > 0 {
		s.log.Warn("limits of origins are not in force", "missing", limits)
	}
}

// inForce is what the slot's process has of limits, in words.
func (s *slot) inForce(g *runtime.Cgroup) string {
	var all []string
	if len(g.Paths()) > 0 {
		all = append(all, g.Describe())
	}
	if s.cfg.Nice != nil {
		all = append(all, "nice "+strconv.Itoa(*s.cfg.Nice))
	}
	if s.cfg.OOMScore != nil {
		all = append(all, "OOM score "+strconv.Itoa(*s.cfg.OOMScore))
	}
	return strings.Join(all, "; ")
}

// diedOfOOM is asked when a process is gone.
func (p *process) diedOfOOM() bool {
	p.mu.Lock()
	ours := p.killed
	p.mu.Unlock()
	if p.cage == nil || ours || !p.exit.Adopted && p.exit.Signal != unix.SIGKILL {
		return false
	}
	n, err := p.cage.OOMKills()
	return err == nil && n > p.cage.ooms
}

// clear ends what is still in the group after its process, even if it left the
// process's own group and session, and removes it.
func (c *cage) clear(log *slog.Logger) {
	if c == nil {
		return
	}
	if left, err := c.Procs(); err == nil && len(left) > 0 {
		log.Warn("killing processes that an origin left behind", "pids", left)
		err := c.Kill()
		deadline := time.Now().Add(killPatience)
		for _, pid := range left {
			reapChild(pid, deadline)
		}
		if err != nil && !errors.Is(err, runtime.ErrNoCgroup) {
			log.Error("processes that an origin left behind", keyError, err)
		}
	}
	if err := c.Remove(); err != nil {
		log.Warn("cgroup not removed", keyError, err)
	}
}

// removeCgroups leaves the host as it was.
func (s *Supervisor) removeCgroups() {
	if err := s.cgroups.RemoveAll(); err != nil {
		s.log.Warn("cgroups not removed", keyError, err)
	}
}
