package main

import (
	"fmt"
	"slices"
	"strings"

	"srs-proxy/runtime"
)

// coreLoad is what one CPU does for us, in percent. It comes from the processes'
// own times and the CPUs they are pinned to: what /proc/stat says of a CPU is
// wrong on some virtual machines, and counts what is not ours. A process that
// may use several CPUs is counted as if it used them evenly.
type coreLoad struct {
	cpu            int
	origins, proxy float64
}

func (c coreLoad) total() float64 { return c.origins + c.proxy }

// coresOf sums a report by CPU.
func coresOf(r report) []coreLoad {
	sums := make(map[int]coreLoad)
	add := func(cpus string, percent float64, into func(*coreLoad) *float64) {
		set, err := runtime.ParseCPUSet(cpus)
		if err != nil {
			return
		}
		for _, id := range set {
			c := sums[id]
			c.cpu = id
			*into(&c) += percent / float64(len(set))
			sums[id] = c
		}
	}
	for _, o := range r.Origins {
		cpus := o.CPUs
		if cpus == "" {
			cpus = r.Self.CPUs // not pinned: it may go where we may
		}
		add(cpus, o.CPUPercent, func(c *coreLoad) *float64 { return &c.origins })
	}
	add(r.Self.CPUs, r.Self.CPUPercent, func(c *coreLoad) *float64 { return &c.proxy })
	cores := make([]coreLoad, 0, len(sums))
	for _, c := range sums {
		cores = append(cores, c)
	}
	slices.SortFunc(cores, func(a, b coreLoad) int { return a.cpu - b.cpu })
	return cores
}

// Widths of a bar with its label and brackets. A narrower one tells too little,
// in a wider one the eye is lost.
const (
	barLeast = 16
	barMost  = 50
)

// coreLines shows the cores in at most so many lines: a bar for each where that
// fits, column by column, else a character for each.
func coreLines(cores []coreLoad, width, lines int, g glyphs) []line {
	if len(cores) == 0 || lines < 1 {
		return nil
	}
	for across := 1; across <= width/barLeast; across++ {
		down := (len(cores) + across - 1) / across
		if down > lines || across < len(cores) && width/across > 2*barMost {
			continue
		}
		return barGrid(cores, down, min(barMost, width/across), g)
	}
	return coreStrips(cores, width, lines, g)
}

func barGrid(cores []coreLoad, down, width int, g glyphs) []line {
	label := len(fmt.Sprint(cores[len(cores)-1].cpu))
	out := make([]line, down)
	for i, c := range cores {
		l := &out[i%down]
		if i >= down {
			l.add("", " ")
		}
		l.add("", fmt.Sprintf("%*d ", label, c.cpu))
		l.bar(c, width-label-2, g)
	}
	return out
}

// bar is "[|||||##      42%]": the origins' share, then the proxy's.
func (l *line) bar(c coreLoad, width int, g glyphs) {
	inner := width - 2
	percent := fmt.Sprintf("%.0f%%", c.total())
	origins := min(inner, share(c.origins, inner))
	proxy := min(inner, share(c.total(), inner)) - origins
	row := []rune(strings.Repeat(g.origins, origins) + strings.Repeat(g.proxy, proxy) + strings.Repeat(" ", inner-origins-proxy))
	text := inner - len(percent)
	// The figure stands over the bar's end.
	l.add(dim, "[")
	l.add(loadColor(c.total()), string(row[:min(origins, text)]))
	l.add(cyan, string(row[min(origins, text):min(origins+proxy, text)]))
	l.add("", string(row[min(origins+proxy, text):text]))
	l.add("", percent)
	l.add(dim, "]")
}

// share rounds up what is visible at all: a core that does something shows it.
func share(percent float64, width int) int {
	n := int(percent*float64(width)/100 + 0.5)
	if n == 0 && percent >= 1 {
		return 1
	}
	return n
}

// coreStrips shows a character for each core, the same number in each line.
func coreStrips(cores []coreLoad, width, lines int, g glyphs) []line {
	last := fmt.Sprint(cores[len(cores)-1].cpu)
	label := 2*len(last) + 1
	across := width - label - 2
	if across < 1 {
		return nil
	}
	// Powers of two are how CPUs are numbered.
	for n := 128; n >= 16; n /= 2 {
		if n <= across && (len(cores)+n-1)/n <= lines {
			across = n
			break
		}
	}
	var out []line
	for part := range slices.Chunk(cores, across) {
		if len(out) == lines {
			break
		}
		var l line
		l.add("", fmt.Sprintf("%*s ", label, fmt.Sprintf("%d-%d", part[0].cpu, part[len(part)-1].cpu)))
		for _, c := range part {
			l.add(loadColor(c.total()), g.level(c.total()))
		}
		out = append(out, l)
	}
	return out
}

// loadColor warns before a core is full: SRS drops frames when it is.
func loadColor(percent float64) color {
	switch {
	case percent >= 90:
		return red
	case percent >= 70:
		return yellow
	default:
		return green
	}
}
