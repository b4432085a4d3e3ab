package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// results is what a run found, and what results.json holds.
type results struct {
	Time    time.Time `json:"time"`
	Machine string    `json:"machine"`
	Origin  string    `json:"origin"`
	// ProxyCPUs is how many CPUs each proxy could use.
	ProxyCPUs int `json:"proxy_cpus"`
	Rounds    int `json:"rounds"`
	// Scale is the share of the cases' sessions; figures of less than 1 are not theirs.
	Scale float64 `json:"scale"`
	// Skipped are lines on peers that are left out and sessions that are not made.
	Skipped []string `json:"skipped,omitempty"`
	Legs    []*leg   `json:"legs"`
	// Medians has one leg for each case and peer, each figure the median of its rounds.
	Medians []*leg `json:"medians"`
}

func newResults(o options) *results {
	return &results{Time: time.Now().UTC().Truncate(time.Second), Machine: machine(), Rounds: o.rounds, Scale: o.scale}
}

// machine is the kernel and the number of CPUs.
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	var cpus unix.CPUSet
	_ = unix.SchedGetaffinity(0, &cpus) // 0 CPUs say that it failed
	return fmt.Sprintf("%d CPUs, Linux %s %s", cpus.Count(), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]))
}

// found notes what a stack says of the surroundings.
func (r *results) found(s *stack, c benchCase) {
	r.ProxyCPUs = s.cpuCount()
	if r.Origin == "" || !c.builtin { // a case that has its own says so in its title
		r.Origin = s.software
	}
	for _, line := range s.skipped {
		if !slices.Contains(r.Skipped, line) {
			r.Skipped = append(r.Skipped, line)
		}
	}
}

// add takes a leg, and what it adds to direct's latency in the same round.
func (r *results) add(l *leg) {
	for _, d := range r.Legs {
		if d.Case == l.Case && d.Round == l.Round && d.Peer == peerDirect {
			l.AddedP50, l.AddedP99 = l.LatencyP50-d.LatencyP50, l.LatencyP99-d.LatencyP99
		}
	}
	r.Legs = append(r.Legs, l)
}

// median is the leg of medians of a case and peer, nil if there is none.
func (r *results) median(c, p string) *leg {
	for _, l := range r.Medians {
		if l.Case == c && l.Peer == p {
			return l
		}
	}
	return nil
}

// summarize makes the medians.
func (r *results) summarize() {
	r.Medians = nil
	for _, c := range caseNames() {
		for _, p := range peerNames() {
			var legs []*leg
			for _, l := range r.Legs {
				if l.Case == c && l.Peer == p {
					legs = append(legs, l)
				}
			}
			if len(legs) > 0 {
				r.Medians = append(r.Medians, medianOf(legs))
			}
		}
	}
}

// medianOf takes each measure's median; what must not happen, losses and errors, is summed up.
func medianOf(legs []*leg) *leg {
	m := &leg{Case: legs[0].Case, Peer: legs[0].Peer, Errors: map[string]int{}}
	for _, f := range measures() {
		values := make([]float64, len(legs))
		for i, l := range legs {
			values[i] = *f(l)
		}
		*f(m) = median(values)
	}
	var descriptors, threads, goroutines []float64
	for _, l := range legs {
		descriptors = append(descriptors, float64(l.Descriptors))
		threads = append(threads, float64(l.Threads))
		goroutines = append(goroutines, float64(l.Goroutines))
		m.PublishedBytes += l.PublishedBytes
		m.ExpectedFrames += l.ExpectedFrames
		m.DeliveredFrames += l.DeliveredFrames
		m.DeliveredBytes += l.DeliveredBytes
		m.LostFrames += l.LostFrames
		m.Disordered += l.Disordered
		m.Damaged += l.Damaged
		m.Held, m.NewSessions = l.Held, m.NewSessions+l.NewSessions
		m.Disturbed = m.Disturbed || l.Disturbed
		for text, n := range l.Errors {
			m.Errors[text] += n
		}
	}
	m.Descriptors, m.Threads, m.Goroutines = int(median(descriptors)), int(median(threads)), int(median(goroutines))
	return m
}

// measures are the figures of a leg that have a median.
func measures() []func(*leg) *float64 {
	return []func(*leg) *float64{
		func(l *leg) *float64 { return &l.Seconds },
		func(l *leg) *float64 { return &l.ProxyCPU }, func(l *leg) *float64 { return &l.OriginCPU },
		func(l *leg) *float64 { return &l.LoadCPU }, func(l *leg) *float64 { return &l.MachineCPU },
		func(l *leg) *float64 { return &l.ProxyCost }, func(l *leg) *float64 { return &l.BothCost }, func(l *leg) *float64 { return &l.MachineCost },
		func(l *leg) *float64 { return &l.LatencyP50 }, func(l *leg) *float64 { return &l.LatencyP99 },
		func(l *leg) *float64 { return &l.AddedP50 }, func(l *leg) *float64 { return &l.AddedP99 },
		func(l *leg) *float64 { return &l.FirstP50 }, func(l *leg) *float64 { return &l.FirstP99 },
		func(l *leg) *float64 { return &l.PreludeP99 }, func(l *leg) *float64 { return &l.LateP99 },
		func(l *leg) *float64 { return &l.RSS }, func(l *leg) *float64 { return &l.OriginOut }, func(l *leg) *float64 { return &l.IdleCPU },
		func(l *leg) *float64 { return &l.Live }, func(l *leg) *float64 { return &l.Fetches },
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}

// write puts the results into files of a folder, and the table on out.
func (r *results) write(dir string, out io.Writer) error {
	r.summarize()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := r.table(textStyle)
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"results.txt": []byte(text), "results.md": []byte(r.table(markdownStyle)), "results.json": append(b, '\n'), "results.svg": []byte(r.plot()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "written to %s: results.txt, .md, .json, .svg\n", dir)
	return err
}

// head says where the figures come from.
func (r *results) head() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%s. %s; %d CPU(s) for the proxy; origin: %s; medians of %d round(s), interleaved.\n", r.Time.Format(time.DateTime+" UTC"), r.Machine, r.ProxyCPUs, r.Origin, r.Rounds)
	if r.Scale != 1 {
		_, _ = fmt.Fprintf(&b, "The cases are scaled to %g of their sessions: their figures do not hold for the titles.\n", r.Scale)
	}
	for _, line := range r.Skipped {
		b.WriteString(line + ".\n")
	}
	return b.String()
}
