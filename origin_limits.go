package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"srs-proxy/runtime"
)

// cgroupAuto is the value of --cgroup that makes a name of the state dir.
const cgroupAuto = "auto"

// originsOOMScore is how much more than ours the origins' oom_score_adj is, in
// thousandths of the machine's memory: far more than the proxy takes, and an origin
// that is killed comes back in a tenth of a second.
const originsOOMScore = 200

// cgroupName begins the names of our groups.
func (c *Config) cgroupName() string { return cgroupNameFor(c.Cgroup, c.StateDir) }

// cgroupNameFor gives two instances two names, as they have two state dirs: neither
// may take the other's groups for what it left behind itself.
func cgroupNameFor(cgroup, stateDir string) string {
	switch {
	case cgroup != cgroupAuto:
		return cgroup
	case stateDir == unitStateDir:
		return "srs-proxy"
	}
	sum := sha256.Sum256([]byte(stateDir))
	return "srs-proxy-" + hex.EncodeToString(sum[:4])
}

// choosePriorities decides the origins' OOM score, and finds out here rather than
// at the first start that a nice value cannot be had.
func (s *setup) choosePriorities(context.Context) error {
	s.oomScore = s.cfg.OOMScore.pointer()
	if s.oomScore == nil {
		// Where ours cannot be read theirs cannot be set either, and nothing is lost.
		if own, err := runtime.OOMScore(); err == nil {
			score := min(own+originsOOMScore, 1000)
			s.oomScore = &score
		}
	}
	if nice := s.cfg.Nice.pointer(); nice != nil {
		if err := runtime.TryNice(*nice); err != nil {
			return fmt.Errorf("%s: %w", s.cfg.value("nice").place(), err)
		}
	}
	return nil
}

// tryOOMScore is for the start alone: it gives this process the score for a moment,
// and who is forked in that moment would keep it.
func (s *setup) tryOOMScore(context.Context) error {
	score := s.cfg.OOMScore.pointer()
	if score == nil {
		return nil // more than ours can always be had
	}
	if err := runtime.TryOOMScore(*score); err != nil {
		return fmt.Errorf("%s: %w", s.cfg.value("oom-score").place(), err)
	}
	return nil
}

// memsFor are the NUMA nodes from which an origin has its memory. Only origins that
// float over the CPUs of a node are bound to its memory: it is what the layout is
// for, and a full node then means an OOM kill there rather than slow memory.
func (s *setup) memsFor(cpus runtime.CPUSet) runtime.CPUSet {
	if s.cfg.CPULayout != runtime.NUMA || len(s.host.Nodes(s.host.Allowed())) < 2 {
		return nil
	}
	return s.host.Nodes(cpus)
}

// slotLimits are what each origin may have at most, as its cgroup would hold it.
func (s *setup) slotLimits() runtime.SlotLimits {
	l := runtime.SlotLimits{CPUQuota: s.cfg.CPUQuota, MemoryMax: s.cfg.MemoryMax}
	for _, cpus := range s.cpus.Origins {
		l.Mems = l.Mems.Union(s.memsFor(cpus))
	}
	return l
}

// explainCgroups adds to a failed start which setting helps.
func (s *setup) explainCgroups(err error) error {
	if errors.Is(err, runtime.ErrCgroupTaken) {
		return fmt.Errorf("%w with --cgroup, here or there", err)
	}
	return err
}
