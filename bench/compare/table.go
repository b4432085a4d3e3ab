package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// style is a form of the table.
type style int

const (
	textStyle style = iota
	markdownStyle
)

// column is one of the table's.
type column struct {
	title string
	value func(r *results, c benchCase, l *leg) string
}

func columns() []column {
	number := func(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	return []column{
		{"peer", func(_ *results, _ benchCase, l *leg) string { return l.Peer }},
		{"MB", func(_ *results, _ benchCase, l *leg) string {
			return number(float64(max(l.DeliveredBytes, l.PublishedBytes))/1e6, 0)
		}},
		{"lost", func(_ *results, _ benchCase, l *leg) string { return fmt.Sprint(l.LostFrames) }},
		{"errors", func(_ *results, _ benchCase, l *leg) string { return fmt.Sprint(sum(l.Errors)) }},
		{"proxy", func(_ *results, _ benchCase, l *leg) string {
			if l.Peer == peerDirect {
				return "-"
			}
			return number(l.ProxyCost, 2)
		}},
		{"+origin", func(_ *results, c benchCase, l *leg) string { return only(c.kind != holding, number(l.BothCost, 2)) }},
		{"machine", func(_ *results, c benchCase, l *leg) string {
			return only(c.kind != holding, number(l.MachineCost, 2))
		}},
		{"live KB", func(_ *results, c benchCase, l *leg) string { return only(l.Live != 0, number(l.Live, 2)) }},
		{"of haproxy", func(r *results, c benchCase, l *leg) string { return r.ratio(c, l, peerHAProxy) }},
		{"of nginx", func(r *results, c benchCase, l *leg) string { return r.ratio(c, l, peerNginx) }},
		{"+origin of direct", func(r *results, c benchCase, l *leg) string { return r.ratio(c, l, peerDirect) }},
		{"p50 ms", func(_ *results, _ benchCase, l *leg) string { return number(l.LatencyP50, 2) }},
		{"p99 ms", func(_ *results, _ benchCase, l *leg) string { return number(l.LatencyP99, 2) }},
		{"added p50", func(_ *results, _ benchCase, l *leg) string { return number(l.AddedP50, 2) }},
		{"added p99", func(_ *results, _ benchCase, l *leg) string { return number(l.AddedP99, 2) }},
		{"first p50", func(_ *results, _ benchCase, l *leg) string { return number(l.FirstP50, 1) }},
		{"first p99", func(_ *results, _ benchCase, l *leg) string { return number(l.FirstP99, 1) }},
		{"prelude p99", func(_ *results, _ benchCase, l *leg) string { return number(l.PreludeP99, 1) }},
		{"origin out", func(_ *results, c benchCase, l *leg) string {
			return only(c.unit == perGB, number(l.OriginOut, 2)) // the kernel counts no datagrams there
		}},
		{"fetches", func(_ *results, c benchCase, l *leg) string { return only(c.kind == polling, number(l.Fetches, 2)) }},
		{"idle ms/s", func(_ *results, _ benchCase, l *leg) string { return number(l.IdleCPU*1000, 1) }},
		{"RSS MB", func(_ *results, _ benchCase, l *leg) string { return number(l.RSS, 1) }},
		{"fds", func(_ *results, _ benchCase, l *leg) string { return fmt.Sprint(l.Descriptors) }},
		{"threads", func(_ *results, _ benchCase, l *leg) string { return fmt.Sprint(l.Threads) }},
		{"goroutines", func(_ *results, _ benchCase, l *leg) string { return only(l.Goroutines != 0, fmt.Sprint(l.Goroutines)) }},
	}
}

// only is text where it means something.
func only(means bool, text string) string {
	if !means {
		return "-"
	}
	return text
}

// ratio is a leg's cost to that of another peer: of direct with the origin, since direct
// has nothing else.
func (r *results) ratio(c benchCase, l *leg, to string) string {
	other := r.median(c.name, to)
	if other == nil || l.Peer == peerDirect && to != peerDirect {
		return "-"
	}
	mine, theirs := l.ProxyCost, other.ProxyCost
	if to == peerDirect {
		mine, theirs = l.BothCost, other.BothCost
	}
	if theirs == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", mine/theirs)
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// table shows the medians, a block for each case.
func (r *results) table(as style) string {
	var b strings.Builder
	b.WriteString(r.head())
	for _, c := range cases() {
		rows := [][]string{titles()}
		notes := ""
		for _, p := range peerNames() {
			l := r.median(c.name, p)
			if l == nil {
				continue
			}
			var row []string
			for _, col := range columns() {
				row = append(row, col.value(r, c, l))
			}
			rows = append(rows, row)
			if l.Disturbed {
				notes += p + ": disturbed; this machine was too busy to measure, at least in one round\n"
			}
			for text, n := range l.Errors {
				notes += fmt.Sprintf("%s: %d x %s\n", p, n, text)
			}
		}
		if len(rows) == 1 {
			continue
		}
		if as == markdownStyle {
			_, _ = fmt.Fprintf(&b, "\n### %s (%s)\n\n%s", c.title, c.unit, markdown(rows))
		} else {
			_, _ = fmt.Fprintf(&b, "\n%s (%s)\n%s", c.title, c.unit, aligned(rows))
		}
		if notes != "" {
			b.WriteString("\n" + notes)
		}
	}
	b.WriteString("\n")
	return b.String()
}

func titles() []string {
	var row []string
	for _, col := range columns() {
		row = append(row, col.title)
	}
	return row
}

func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|---|" + strings.Repeat("--:|", len(row)-1) + "\n")
		}
	}
	return b.String()
}

// aligned pads the first column on the right and the others, which are numbers, on the left.
func aligned(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			if i == 0 {
				_, _ = fmt.Fprintf(&b, "%-*s", width[i], cell)
			} else {
				_, _ = fmt.Fprintf(&b, "  %*s", width[i], cell)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
