package main

import (
	"slices"
	"time"

	"srs-proxy/supervisor"
)

// topModel is the live screen without a terminal: reports and keys go in, lines
// come out.
//
//	report ─▶ ┌──────────┐
//	key ────▶ │ topModel │ ─▶ view: lines
//	size ───▶ └──────────┘
type topModel struct {
	// table is the screen of `status -w`: the table alone.
	table    bool
	wide     bool
	glyphs   glyphs
	interval time.Duration

	columns, rows int // of the terminal

	report report
	// trouble is why the last try brought no report, since when there is none.
	trouble error
	since   time.Time

	sort   sorting
	filter filter
	offset int // of the first row shown
	page   int // rows shown, as of the last view
	help   bool
}

// filter is which origins are shown.
type filter int

const (
	showAll filter = iota
	showTroubled
	showBusy
	filterCount
)

func (f filter) String() string {
	switch f {
	case showTroubled:
		return "troubled"
	case showBusy:
		return "busy"
	default:
		return "all"
	}
}

func (f filter) shows(o supervisor.OriginStatus) bool {
	switch f {
	case showTroubled:
		return o.State != supervisor.Ready
	case showBusy:
		return o.Streams > 0 || o.Players > 0
	default:
		return true
	}
}

// action is what a key asks of whoever has the terminal.
type action int

const (
	actNone action = iota
	actQuit
	actSuspend
	actRepaint
	actRefresh
)

// received takes a new report.
func (m *topModel) received(r report) {
	m.report, m.trouble, m.since = r, nil, time.Time{}
}

// failed takes the reason why there is none. The last report stays.
func (m *topModel) failed(err error, now time.Time) {
	if m.trouble == nil {
		m.since = now
	}
	m.trouble = err
}

// press takes a key.
func (m *topModel) press(k key) action {
	switch k {
	case "q", "Q", keyCtrlC:
		return actQuit
	case keyCtrlZ:
		return actSuspend
	case keyCtrlL:
		return actRepaint
	}
	if m.help { // any key closes it
		m.help = false
		return actNone
	}
	columns := len(topColumns(m.wide))
	switch k {
	case "?", "h", "H":
		m.help = true
	case " ", keyEnter:
		return actRefresh
	case keyUp, "k":
		m.scroll(-1)
	case keyDown, "j":
		m.scroll(1)
	case keyPageUp, "b":
		m.scroll(-m.page)
	case keyPageDown:
		m.scroll(m.page)
	case keyHome, "g":
		m.offset = 0
	case keyEnd, "G":
		m.offset = len(m.report.Origins)
		m.scroll(0)
	case keyLeft, "<", ",", keyBackTab:
		m.sort = sorting{column: (m.sort.column + columns - 1) % columns}
	case keyRight, ">", ".", keyTab:
		m.sort = sorting{column: (m.sort.column + 1) % columns}
	case "r", "R":
		m.sort.reverse = !m.sort.reverse
	case "f", "F":
		m.filter, m.offset = (m.filter+1)%filterCount, 0
	}
	return actNone
}

// scroll moves the rows, within what there is.
func (m *topModel) scroll(n int) {
	m.offset = max(0, min(m.offset+n, len(m.selected())-m.page))
}

// selected are the origins that the filter shows.
func (m *topModel) selected() []supervisor.OriginStatus {
	return slices.DeleteFunc(slices.Clone(m.report.Origins), func(o supervisor.OriginStatus) bool {
		return !m.filter.shows(o)
	})
}
