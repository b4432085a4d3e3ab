package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// MinCPUQuota is the least CPU time that the kernel can ration, in cores.
const MinCPUQuota = 0.01

// A group that has used up its quota stands still until its period ends. The
// kernel's default of 100 ms is a gap that viewers see; a fifth of it is not, and
// still leaves the least quota that the kernel takes, 1 ms, for all but tiny ones.
const (
	quotaPeriod     = 20_000  // microseconds
	quotaPeriodTiny = 100_000 // below 0.05 cores
	quotaLeast      = 1_000
)

// apply sets all limits, also those that are not asked for: the group may be an
// old one. What can't be set is noted, and the rest is set.
func (g *Cgroup) apply(l SlotLimits) {
	g.inForce, g.missing = nil, nil
	for _, limit := range []struct {
		controller string
		asked      bool
		spare      bool // not missed where it can't be had
		what       string
		set        func(groupDir, SlotLimits) error
	}{
		{"memory", l.MemoryMax > 0, false, "memory " + bytesText(l.MemoryMax), applyMemory},
		// CPUs are the affinity's matter in the first place.
		{"cpuset", len(l.CPUs) > 0, true, "cpus " + l.CPUs.String(), applyCPUs},
		{"cpuset", len(l.Mems) > 0, false, "nodes " + l.Mems.String(), applyMems},
		{"cpu", l.CPUQuota > 0, false, "quota " + coresText(l.CPUQuota), applyQuota},
	} {
		d, found := g.part(limit.controller)
		if !found {
			if limit.asked && !limit.spare {
				g.missing = append(g.missing, limit.what+": "+g.whyNot(limit.controller))
			}
			continue
		}
		err := limit.set(d, l)
		switch {
		case err != nil && limit.asked:
			g.missing = append(g.missing, limit.what+": "+err.Error())
		case err != nil:
			g.missing = append(g.missing, "no "+limit.controller+" limit: "+err.Error())
		case limit.asked:
			g.inForce = append(g.inForce, limit.what)
		}
	}
}

func (g *Cgroup) whyNot(controller string) string {
	support := g.owner.Support()
	if f := support.of(controller); !f.OK() {
		return f.Why
	}
	return "the group was made without the " + controller + " controller"
}

// applyMemory limits memory, and swap to none. Version 1 counts memory and swap
// together in memsw, which must never be below the memory's limit.
func applyMemory(d groupDir, l SlotLimits) error {
	if d.tree.v2 {
		limit, swap := "max", "max"
		if l.MemoryMax > 0 {
			limit, swap = strconv.FormatUint(l.MemoryMax, 10), "0"
		}
		return errors.Join(
			optional(change(d.path, "memory.swap.max", swap)),
			change(d.path, "memory.max", limit))
	}
	limit := "-1"
	if l.MemoryMax > 0 {
		limit = strconv.FormatUint(min(l.MemoryMax, math.MaxInt64), 10)
	}
	// One of the two orders is allowed, depending on whether the limit rises.
	const memory, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	if err := optional(writeCgroup(d.path, both, limit)); err == nil {
		return writeCgroup(d.path, memory, limit)
	}
	if err := writeCgroup(d.path, memory, limit); err != nil {
		return err
	}
	return optional(writeCgroup(d.path, both, limit))
}

func applyCPUs(d groupDir, l SlotLimits) error {
	return applySet(d, "cpuset.cpus", "cpuset.effective_cpus", l.CPUs)
}

// applyMems binds to those of the nodes that have memory for us.
func applyMems(d groupDir, l SlotLimits) error {
	const file, effective = "cpuset.mems", "cpuset.effective_mems"
	mems := l.Mems
	if len(mems) > 0 {
		usable, err := effectiveSet(d, filepath.Dir(d.path), file, effective)
		if err != nil {
			return err
		}
		if mems = mems.intersect(usable); len(mems) == 0 {
			return fmt.Errorf("only nodes %s have memory for us", usable)
		}
	}
	return applySet(d, file, effective, mems)
}

// effectiveSet is what of a CPU or node list is in force in a folder; effective
// is version 1's name for it.
func effectiveSet(d groupDir, dir, file, effective string) (CPUSet, error) {
	if d.tree.v2 {
		effective = file + ".effective"
	}
	set, _, err := readCPUSet(filepath.Join(dir, effective))
	return set, err
}

// applySet writes a CPU or node list, empty for all that the parent has, and
// looks what came of it. A list that is in force can't be emptied while there
// are processes, so the parent's is written out.
func applySet(d groupDir, file, effective string, set CPUSet) error {
	want := set
	if len(set) == 0 {
		now, _, err := readCPUSet(filepath.Join(d.path, file))
		if err != nil || len(now) == 0 && d.tree.v2 {
			return err
		}
		if want, err = effectiveSet(d, filepath.Dir(d.path), file, effective); err != nil {
			return err
		}
	}
	if err := change(d.path, file, want.String()); err != nil {
		return err
	}
	got, err := effectiveSet(d, d.path, file, effective)
	if err != nil {
		return err
	}
	if !got.Equal(want) {
		return fmt.Errorf("only %s of %s can be used here", got, want)
	}
	return nil
}

// copyCpuset gives a new version 1 group its parent's CPUs and nodes; without
// any of them nobody can enter.
func copyCpuset(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, _, err := readOptional(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if have != "" {
			continue
		}
		text, _, err := readOptional(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := writeCgroup(dir, file, text); err != nil {
			return err
		}
	}
	return nil
}

func applyQuota(d groupDir, l SlotLimits) error {
	if l.CPUQuota != 0 && !(l.CPUQuota >= MinCPUQuota) { // NaN is neither
		return fmt.Errorf("the least is %g cores", MinCPUQuota)
	}
	period := quotaPeriod
	if l.CPUQuota*quotaPeriod < quotaLeast {
		period = quotaPeriodTiny
	}
	quota := strconv.FormatInt(int64(math.Round(min(l.CPUQuota, maxCPU)*float64(period))), 10)
	if d.tree.v2 {
		limit := "max"
		if l.CPUQuota > 0 {
			limit = quota + " " + strconv.Itoa(period)
		}
		return errors.Join(change(d.path, v2Quota, limit), optional(change(d.path, "cpu.weight.nice", strconv.Itoa(l.Nice))))
	}
	// The two files of version 1 must make sense after each write, and not exceed
	// the parent's share.
	if err := change(d.path, v1Quota, "-1"); err != nil {
		return err
	}
	if l.CPUQuota > 0 {
		if err := change(d.path, v1Period, strconv.Itoa(period)); err != nil {
			return err
		}
		err := writeCgroup(d.path, v1Quota, quota)
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("more than a group above this one has: %w", err)
		}
		if err != nil {
			return err
		}
	}
	return change(d.path, "cpu.shares", strconv.Itoa(niceShares(l.Nice)))
}

// niceShares is the weight of a process of that nice value, 1024 for 0 and a
// quarter more for each step (sched_prio_to_weight in the kernel).
func niceShares(nice int) int {
	return int(math.Round(1024 * math.Pow(1.25, float64(-nice))))
}

// change writes a value unless it is there: every change of a cpuset makes the
// kernel rebuild its scheduling domains.
func change(dir, file, text string) error {
	now, found, err := readOptional(filepath.Join(dir, file))
	if err == nil && found && now == text {
		return nil
	}
	return writeCgroup(dir, file, text)
}

// optional forgives a file that this kernel does not have: there is no swap
// accounting, for one.
func optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
