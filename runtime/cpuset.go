package runtime

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxCPU bounds the CPU numbers that are believed; Linux builds for 8192 at most.
const maxCPU = 8192

// CPUSet is a set of CPU numbers, sorted and without duplicates. Nil is the empty set.
type CPUSet []int

// ParseCPUSet reads the kernel's list format, "0-3,8". Blank text is the empty set.
func ParseCPUSet(text string) (CPUSet, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	var set CPUSet
	for part := range strings.SplitSeq(text, ",") {
		lowText, highText, isRange := strings.Cut(strings.TrimSpace(part), "-")
		low, err := parseCPU(lowText)
		if err != nil {
			return nil, fmt.Errorf("CPU set %q: %w", clip(text), err)
		}
		high := low
		if isRange {
			if high, err = parseCPU(highText); err != nil {
				return nil, fmt.Errorf("CPU set %q: %w", clip(text), err)
			}
		}
		if high < low {
			return nil, fmt.Errorf("CPU set %q: range %d-%d runs backwards", clip(text), low, high)
		}
		// A long text of wide ranges must not grow the set beyond what exists.
		if len(set)+high-low >= 2*maxCPU {
			set = newCPUSet(set)
		}
		for id := low; id <= high; id++ {
			set = append(set, id)
		}
	}
	return newCPUSet(set), nil
}

func parseCPU(text string) (int, error) {
	id, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is not a CPU number (want a list like 0-3,8)", clip(text))
	}
	if id >= maxCPU {
		return 0, fmt.Errorf("CPU %d is over the last possible one, %d", id, maxCPU-1)
	}
	return int(id), nil
}

// clip keeps a hostile or huge input from filling an error message.
func clip(text string) string {
	if len(text) > 64 {
		return text[:64] + "..."
	}
	return text
}

// newCPUSet sorts ids and drops duplicates, in place.
func newCPUSet(ids []int) CPUSet {
	slices.Sort(ids)
	return slices.Compact(ids)
}

// String is the kernel's list format, "0-3,8".
func (s CPUSet) String() string {
	var b strings.Builder
	for i := 0; i < len(s); {
		j := i
		for j+1 < len(s) && s[j+1] == s[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(s[i]))
		if j > i {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(s[j]))
		}
		i = j + 1
	}
	return b.String()
}

// Contains reports whether CPU id is in the set.
func (s CPUSet) Contains(id int) bool {
	_, found := slices.BinarySearch(s, id)
	return found
}

// Union is what is in s, in t, or in both.
func (s CPUSet) Union(t CPUSet) CPUSet {
	return newCPUSet(slices.Concat(s, t))
}

// Minus is what is in s and not in t.
func (s CPUSet) Minus(t CPUSet) CPUSet {
	var left CPUSet
	for _, id := range s {
		if !t.Contains(id) {
			left = append(left, id)
		}
	}
	return left
}

// Equal reports whether both hold the same CPUs.
func (s CPUSet) Equal(t CPUSet) bool { return slices.Equal(s, t) }

// intersect is what is in both.
func (s CPUSet) intersect(t CPUSet) CPUSet { return s.Minus(s.Minus(t)) }
