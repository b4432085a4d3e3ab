package main

import (
	"slices"
	"strings"
	"unicode/utf8"

	"srs-proxy/supervisor"
)

// tableLayout is which columns are shown, and how, so that the table fits.
type tableLayout struct {
	columns []topColumn
	shown   []int // indexes of columns, in order
	widths  []int // of all columns
	gap     int
	short   bool
	sort    sorting
	glyphs  glyphs
	note    int // width of the column that explains; 0 without one
}

// noteLeast is the narrowest column that explains anything.
const noteLeast = 20

// fitTable lays out rows for a width; 0 is any. It tries less and less room
// between columns, then short titles, then leaves columns out.
func fitTable(columns []topColumn, rows [][]cell, sort sorting, g glyphs, width int) tableLayout {
	t := tableLayout{columns: columns, sort: sort, glyphs: g, gap: 2}
	for i := range columns {
		t.shown = append(t.shown, i)
	}
	t.measure(rows)
	if width == 0 {
		return t
	}
	if t.width() > width {
		t.gap = 1
	}
	if t.width() > width {
		t.short = true
		t.measure(rows)
	}
	for t.width() > width && t.leaveOne() {
		continue
	}
	if room := width - t.width() - t.gap; room >= noteLeast {
		t.note = room
	}
	return t
}

// measure finds how wide the columns have to be.
func (t *tableLayout) measure(rows [][]cell) {
	t.widths = make([]int, len(t.columns))
	for i, c := range t.columns {
		t.widths[i] = max(c.width, utf8.RuneCountInString(t.title(i)))
		for _, r := range rows {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(r[i].text))
		}
	}
}

func (t *tableLayout) title(i int) string {
	title := t.columns[i].title
	if t.short {
		title = t.columns[i].short
	}
	if i != t.sort.column {
		return title
	}
	if t.sort.descends(t.columns) {
		return title + t.glyphs.down
	}
	return title + t.glyphs.up
}

func (t *tableLayout) width() int {
	sum := t.gap * (len(t.shown) - 1)
	for _, i := range t.shown {
		sum += t.widths[i]
	}
	return sum
}

// leaveOne leaves out the column that is missed least, never the sorted one.
func (t *tableLayout) leaveOne() bool {
	least := -1
	for at, i := range t.shown {
		if drop := t.columns[i].drop; i != t.sort.column && drop > 0 && (least < 0 || drop >= t.columns[t.shown[least]].drop) {
			least = at
		}
	}
	if least < 0 {
		return false
	}
	t.shown = slices.Delete(t.shown, least, least+1)
	return true
}

// titles is the table's first line, over the whole width.
func (t *tableLayout) titles(width int) line {
	var l line
	for at, i := range t.shown {
		c := reverse
		if i == t.sort.column {
			c = reverse + ";" + bold
		}
		l.add(c, t.pad(i, t.title(i)))
		if at < len(t.shown)-1 {
			l.add(reverse, strings.Repeat(" ", t.gap))
		}
	}
	if t.note > 0 {
		l.add(reverse, strings.Repeat(" ", t.gap)+"NOTE")
	}
	l.add(reverse, strings.Repeat(" ", max(0, width-l.width())))
	return l
}

// row is a line of cells; note explains it.
func (t *tableLayout) row(cells []cell, note string) line {
	var l line
	for at, i := range t.shown {
		text := t.pad(i, cells[i].text)
		l.add(cells[i].color, text)
		if at < len(t.shown)-1 {
			l.add("", strings.Repeat(" ", t.gap))
		}
	}
	if t.note > 0 && note != "" {
		l.add("", strings.Repeat(" ", t.gap))
		l.add(dim, cut(note, t.note))
	}
	return l
}

func (t *tableLayout) pad(i int, text string) string {
	gap := strings.Repeat(" ", max(0, t.widths[i]-utf8.RuneCountInString(text)))
	if t.columns[i].right {
		return gap + text
	}
	return text + gap
}

// noteOf explains an origin that is not as it should be.
func noteOf(o supervisor.OriginStatus) string {
	if o.State == supervisor.Ready && o.StatsError == "" {
		return ""
	}
	return explainOrigin(o)
}
