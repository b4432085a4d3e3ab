package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"srs-proxy/supervisor"
)

// view is the picture at the time now: as many lines as the terminal has.
func (m *topModel) view(now time.Time) []line {
	if m.help {
		return m.fill(m.helpLines(), nil)
	}
	head := []line{m.titleLine(now)}
	if !m.table && m.rows >= 10 {
		head = append(head, m.totalLines()...)
		// A third of the room for the cores, the rest for the origins.
		head = append(head, coreLines(coresOf(m.report), m.columns, (m.rows-7)/3, m.glyphs)...)
	}
	origins := m.selected()
	columns := topColumns(m.wide)
	m.sort.apply(origins, columns, m.report.Time)
	rows := m.cells(origins)
	measured := rows
	if m.table {
		measured = append(slices.Clip(rows), m.totalCells())
	}
	layout := fitTable(columns, measured, m.sort, m.glyphs, m.columns)
	head = append(head, layout.titles(m.columns))

	foot := append(m.troubleLines(max(1, m.rows/8), layout.note > 0), line{})
	if m.table {
		foot = slices.Insert(foot, 0, layout.row(m.totalCells(), ""))
	}
	m.page = max(1, m.rows-len(head)-len(foot))
	m.scroll(0)
	last := min(len(origins), m.offset+m.page)
	body := head
	for i := m.offset; i < last; i++ {
		body = append(body, layout.row(rows[i], noteOf(origins[i])))
	}
	foot[len(foot)-1] = m.keysLine(len(origins), m.offset, last)
	return m.fill(body, foot)
}

// fill puts the foot at the bottom of the terminal.
func (m *topModel) fill(body, foot []line) []line {
	lines := body[:min(len(body), max(0, m.rows-len(foot)))]
	for len(lines)+len(foot) < m.rows {
		lines = append(lines, line{})
	}
	lines = append(lines, foot...)
	return lines[:min(len(lines), m.rows)]
}

// plain is the same as plain text of any length, for a file or a pipe.
func (m *topModel) plain() []line {
	const width, most = 80, 16 // of the cores' part
	lines := append([]line{m.titleLine(m.report.Time)}, m.totalLines()...)
	lines = append(lines, coreLines(coresOf(m.report), width, most, m.glyphs)...)
	origins := m.selected()
	columns := topColumns(m.wide)
	m.sort.apply(origins, columns, m.report.Time)
	rows := m.cells(origins)
	layout := fitTable(columns, rows, m.sort, m.glyphs, 0)
	lines = append(lines, line{}, layout.titles(0))
	for _, r := range rows {
		lines = append(lines, layout.row(r, ""))
	}
	return append(lines, m.troubleLines(len(origins), false)...)
}

// titleLine says who is running, or that nobody is.
func (m *topModel) titleLine(now time.Time) line {
	r := m.report
	var left, right line
	if m.trouble != nil {
		left.add(red, fmt.Sprintf("No answer for %s, trying again: %s", formatUptime(now.Sub(m.since)), printable(m.trouble.Error())))
		return left
	}
	left.add(bold, "srs-proxy "+printable(r.Version))
	left.add("", fmt.Sprintf("  %s  up %s  pid %d", printable(r.Software), formatUptime(r.Time.Sub(r.Started)), r.PID))
	right.add(dim, fmt.Sprintf("every %s  ", m.interval))
	right.add("", r.Time.Format(time.TimeOnly))
	if m.columns == 0 {
		left.add("", "  "+r.Time.Format(time.DateTime))
		return left
	}
	return spread(left, right, m.columns)
}

// totalLines are the sums.
func (m *topModel) totalLines() []line {
	r, t := m.report, m.report.Totals
	var origins, streams, cpu line
	origins.add(dim, "Origins  ")
	c := green
	if t.Ready < t.Origins {
		c = yellow
	}
	origins.add(c, fmt.Sprintf("%d/%d ready", t.Ready, t.Origins))
	figure := func(l *line, name, value string) {
		l.add(dim, "   "+name+" ")
		l.add(bold, value)
	}
	figure(&origins, "restarts", strconv.Itoa(t.Restarts))
	for i, s := range m.otherStates() {
		origins.add("", strings.Repeat(" ", 3-min(1, i)))
		origins.add(stateColor(s.state), fmt.Sprintf("%d %s", s.count, s.state))
	}
	streams.add(dim, "Streams  ")
	streams.add(bold, strconv.Itoa(t.Streams))
	figure(&streams, "publishers", strconv.Itoa(t.Publishers))
	figure(&streams, "players", strconv.Itoa(t.Players))
	figure(&streams, "in", formatBits(t.InBps))
	figure(&streams, "out", formatBits(t.OutBps))
	streams.add(dim, " bit/s")
	cpu.add(dim, "CPU      ")
	cpu.add(bold, formatCores(t.CPUPercent+r.Self.CPUPercent))
	cpu.add(dim, fmt.Sprintf(" of %d cores", len(coresOf(r))))
	figure(&cpu, "origins "+m.glyphs.origins, formatCores(t.CPUPercent))
	figure(&cpu, "proxy "+m.glyphs.proxy, formatCores(r.Self.CPUPercent))
	figure(&cpu, "memory", formatBytes(t.RSS+r.Self.RSS))
	return []line{origins, streams, cpu}
}

func formatCores(percent float64) string { return strconv.FormatFloat(percent/100, 'f', 2, 64) }

type stateCount struct {
	state supervisor.State
	count int
}

// otherStates counts those that are not ready, the worst first.
func (m *topModel) otherStates() []stateCount {
	var counts []stateCount
	for _, o := range m.report.Origins {
		if o.State == supervisor.Ready {
			continue
		}
		i := slices.IndexFunc(counts, func(c stateCount) bool { return c.state == o.State })
		if i < 0 {
			i, counts = len(counts), append(counts, stateCount{state: o.State})
		}
		counts[i].count++
	}
	slices.SortFunc(counts, func(a, b stateCount) int { return severity(a.state) - severity(b.state) })
	return counts
}

func (m *topModel) cells(origins []supervisor.OriginStatus) [][]cell {
	rows := make([][]cell, len(origins))
	for i, o := range origins {
		rows[i] = statusRow(o, m.report.Time, m.wide)
		if m.trouble != nil { // what was, not what is
			for j := range rows[i] {
				rows[i][j].color = dim
			}
		}
	}
	return rows
}

func (m *topModel) totalCells() []cell { return totalsRow(m.report.Totals, m.wide) }

// troubleLines explain what is not as it should be, in at most so many lines;
// where the table explains it they don't.
func (m *topModel) troubleLines(most int, explained bool) []line {
	if explained || len(m.report.Origins) == 0 {
		return nil
	}
	var lines []line
	unhealthy := m.report.Unhealthy()
	for i, o := range unhealthy {
		var l line
		if len(lines) == most-1 && i < len(unhealthy)-1 {
			l.add(dim, fmt.Sprintf("and %d more", len(unhealthy)-i))
			if m.filter != showTroubled {
				l.add(dim, "; press f to see them")
			}
			return append(lines, l)
		}
		l.add(stateColor(o.State), o.ID+" "+string(o.State))
		if why := explainOrigin(o); why != "" {
			l.add("", ": "+why)
		}
		lines = append(lines, l)
	}
	return lines
}

// keysLine is the last one: what can be pressed, and where in the table we are.
func (m *topModel) keysLine(origins, first, last int) line {
	var left, right line
	for _, k := range [][2]string{
		{"q", "quit"}, {m.glyphs.arrows, "sort"}, {"r", "reverse"}, {m.glyphs.scroll, "scroll"}, {"f", "show " + m.filter.String()}, {"?", "help"},
	} {
		left.add(bold, k[0])
		left.add(dim, " "+k[1]+"  ")
	}
	switch {
	case origins == 0:
		right.add("", "none")
	case first > 0 || last < origins:
		right.add("", fmt.Sprintf("%d-%d of %d", first+1, last, origins))
	}
	return spread(left, right, m.columns)
}

func (m *topModel) helpLines() []line {
	text := `Keys

  left right  < >    choose the column to sort by
  r                  sort the other way round
  up down  j k       scroll; PgUp, PgDn, Home, End too
  f                  show all origins, troubled ones (not ready), busy ones
  space              look again now
  Ctrl-L             paint the screen anew
  Ctrl-Z             suspend
  q  Ctrl-C          quit

%CPU is the share of one core over the last second. The bars sum up what the
origins pinned to a core use (` + m.glyphs.origins + `) and the proxy's part (` + m.glyphs.proxy + `).
IN and OUT are bits per second between two looks at the origins (SRS counts
every 3 s); at the first look they are SRS's averages over 30 s.

Any key goes back.`
	var lines []line
	for s := range strings.SplitSeq(text, "\n") {
		var l line
		l.add("", s)
		lines = append(lines, l)
	}
	return lines
}
