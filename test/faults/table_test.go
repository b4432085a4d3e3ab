package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// series are measured times.
type series []time.Duration

func (s *series) add(d time.Duration) { *s = append(*s, d) }

// String is the median and the worst.
func (s series) String() string {
	if len(s) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(s))
	return fmt.Sprintf("%s / %s", short(sorted[len(sorted)/2]), short(sorted[len(sorted)-1]))
}

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// fault is what was measured of one kind.
type fault struct {
	name   string
	rounds int
	// Of the streams that were hit: until the supervisor says it, until the
	// publisher is closed, from there until it is in again, until players see
	// frames. Whatever a command or a start took is in took.
	detected, closed, accepted, frames, took series
	gone                                     series // what was replaced
	// Until the kernel tells of a death, and from there until the supervisor says it.
	died, noticed series
	// Of all others.
	gap     time.Duration
	late    time.Duration // how long this process itself stood still
	cuts    int
	missing uint64
	split   int // streams that SRS has split
	// New names meanwhile.
	newcomers series
	refused   int
	// Of the program, without load.
	before, after usage
	cpu           float64 // cores, of the whole machine, under load
}

// table collects faults of all tests.
type table struct {
	mu     sync.Mutex
	faults []*fault
}

var figures table

func (tb *table) fault(name string) *fault {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	f := &fault{name: name}
	tb.faults = append(tb.faults, f)
	return f
}

// markdown has nothing to say when nothing ran.
func (tb *table) markdown() string {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if len(tb.faults) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n| fault | times | seen by the supervisor | publisher closed | published again | frames again | command or start | old origins gone | others: longest silence | this process late | others: cuts, frames lost | new names, refused | split by SRS | descriptors | threads | MiB | cores busy | dead for the kernel | seen after that |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, f := range tb.faults {
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %d, %d | %s (%d), %d | %d | %d → %d | %d → %d | %d → %d | %.1f | %s | %s |\n",
			f.name, f.rounds, f.detected, f.closed, f.accepted, f.frames, f.took, f.gone, short(f.gap), short(f.late), f.cuts, f.missing,
			f.newcomers, len(f.newcomers), f.refused, f.split,
			f.before.descriptors, f.after.descriptors, f.before.threads, f.after.threads, f.before.rss>>20, f.after.rss>>20, f.cpu, f.died, f.noticed)
	}
	return b.String()
}
