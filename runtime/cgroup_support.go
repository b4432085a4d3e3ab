package runtime

import (
	"fmt"
	"strconv"
	"strings"
)

// CgroupMode is which version of control groups a host has, or what serves a purpose.
type CgroupMode string

// The modes. Hybrid is both at once: version 1 hierarchies hold the limits, and
// a version 2 tree beside them knows the processes.
const (
	CgroupNone   CgroupMode = "none"
	CgroupV1     CgroupMode = "v1"
	CgroupV2     CgroupMode = "v2"
	CgroupHybrid CgroupMode = "hybrid"
)

// CgroupFeature is one thing that groups could do for us.
type CgroupFeature struct {
	// By is the version that does it, CgroupHybrid for both together; empty: nothing does.
	By CgroupMode
	// Why is what is missing, and what would help.
	Why string
}

// OK reports whether this can be had.
func (f CgroupFeature) OK() bool { return f.By != "" }

// CgroupSupport is what this host lets this process do with control groups. All
// of it was tried, on a group that was made for that and removed again.
type CgroupSupport struct {
	Mode CgroupMode
	// Memory limits memory and counts the kills for it, Cpuset binds to CPUs and
	// NUMA nodes, CPU limits CPU time.
	Memory, Cpuset, CPU CgroupFeature
	// Kill ends a whole group: in version 2 in one step that no fork escapes, in
	// version 1 by killing what is listed until nothing is.
	Kill CgroupFeature
	// Birth puts a child into its group before its first instruction. Without it
	// a child is moved there just after its start.
	Birth CgroupFeature
}

// noCgroups is nothing, for one reason.
func noCgroups(mode CgroupMode, why string) CgroupSupport {
	s := CgroupSupport{Mode: mode}
	for _, f := range s.features() {
		f.feature.Why = why
	}
	return s
}

type namedFeature struct {
	name    string
	feature *CgroupFeature
}

func (s *CgroupSupport) features() []namedFeature {
	return []namedFeature{{"memory", &s.Memory}, {"cpuset", &s.Cpuset}, {"cpu", &s.CPU}, {"kill", &s.Kill}, {"birth", &s.Birth}}
}

// of is the feature of a controller.
func (s *CgroupSupport) of(controller string) *CgroupFeature {
	for _, f := range s.features() {
		if f.name == controller {
			return f.feature
		}
	}
	return nil
}

// Any reports whether groups are of any use here.
func (s CgroupSupport) Any() bool {
	return s.Memory.OK() || s.Cpuset.OK() || s.CPU.OK() || s.Kill.OK() || s.Birth.OK()
}

// Gaps says what can't be had, one line for each reason.
func (s CgroupSupport) Gaps() []string {
	var order []string
	lacking := make(map[string][]string)
	for _, f := range s.features() {
		if f.feature.OK() {
			continue
		}
		if lacking[f.feature.Why] == nil {
			order = append(order, f.feature.Why)
		}
		lacking[f.feature.Why] = append(lacking[f.feature.Why], f.name)
	}
	lines := make([]string, 0, len(order))
	for _, why := range order {
		lines = append(lines, "no "+strings.Join(lacking[why], ", ")+": "+why)
	}
	return lines
}

// String is one line: "hybrid: memory v1, cpuset v1, cpu v1, kill v2, birth v1+v2".
func (s CgroupSupport) String() string {
	var parts []string
	for _, f := range s.features() {
		if f.feature.OK() {
			by := string(f.feature.By)
			if f.feature.By == CgroupHybrid {
				by = "v1+v2"
			}
			parts = append(parts, f.name+" "+by)
		}
	}
	text := string(s.Mode) + ": "
	if len(parts) == 0 {
		text += "nothing in use"
	}
	text += strings.Join(parts, ", ")
	for _, gap := range s.Gaps() {
		text += "; " + gap
	}
	return text
}

// SlotLimits is what one slot may have; zero values ask for nothing.
type SlotLimits struct {
	// CPUs and Mems, NUMA nodes, are a cage around the processes' own affinity.
	// Memory then comes from these nodes only, even when they are full.
	CPUs, Mems CPUSet
	// CPUQuota is in cores, from MinCPUQuota.
	CPUQuota float64
	// MemoryMax is in bytes. The group gets no swap with it: a server of live
	// media that swaps is slower to notice than one that is killed.
	MemoryMax uint64
	// Nice is the processes' own, told here because groups compete for a CPU as
	// wholes: where a quota puts them into a group, it counts through the group's
	// weight alone.
	Nice int
}

// Missing says which of the limits would not be in force, and why.
func (s CgroupSupport) Missing(l SlotLimits) []string {
	var missing []string
	for _, want := range []struct {
		asked   bool
		what    string
		feature CgroupFeature
	}{
		{l.MemoryMax > 0, "memory limit " + bytesText(l.MemoryMax), s.Memory},
		{len(l.Mems) > 0, "memory bound to NUMA nodes " + l.Mems.String(), s.Cpuset},
		{l.CPUQuota > 0, "CPU quota " + coresText(l.CPUQuota), s.CPU},
	} {
		if want.asked && !want.feature.OK() {
			missing = append(missing, want.what+": "+want.feature.Why)
		}
	}
	return missing
}

// bytesText is a size as an operator wrote it: 512M, 1536K, 1000000.
func bytesText(n uint64) string {
	for _, unit := range []struct {
		size uint64
		name string
	}{{1 << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}} {
		if n >= unit.size && n%unit.size == 0 {
			return fmt.Sprintf("%d%s", n/unit.size, unit.name)
		}
	}
	return strconv.FormatUint(n, 10)
}

func coresText(cores float64) string { return strconv.FormatFloat(cores, 'g', 4, 64) }
