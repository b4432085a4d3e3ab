package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"srs-proxy/runtime"
	"srs-proxy/supervisor"
)

// topColumn is a column of the live table: statusColumns' one of the same place,
// with what a screen of a given size and a sort need.
type topColumn struct {
	name  string // for --sort
	title string
	short string // where room is scarce
	right bool
	// width is kept even if no cell needs it, so that columns do not jump about
	// when figures change.
	width int
	// drop says which columns go first where even short titles do not fit: those
	// with the highest.
	drop int
	// down sorts the largest first: of most figures that is what one looks for.
	down    bool
	compare func(a, b supervisor.OriginStatus, now time.Time) int
}

// by compares by a figure.
func by[T cmp.Ordered](of func(supervisor.OriginStatus) T) func(a, b supervisor.OriginStatus, now time.Time) int {
	return func(a, b supervisor.OriginStatus, _ time.Time) int { return cmp.Compare(of(a), of(b)) }
}

// topColumns follow statusColumns, the wide ones too.
func topColumns(wide bool) []topColumn {
	type origin = supervisor.OriginStatus
	columns := []topColumn{
		{name: "id", short: "ID", width: 9, compare: by(func(o origin) int { return o.Index })},
		{name: "state", short: "STATE", width: 8, compare: by(func(o origin) int { return severity(o.State) })},
		{name: "pid", short: "PID", width: 5, drop: 5, compare: by(func(o origin) int { return o.PID })},
		{name: "cpus", short: "CPU", width: 3, drop: 2, compare: compareCPUs},
		{name: "cpu", short: "%CPU", width: 5, down: true, compare: by(func(o origin) float64 { return o.CPUPercent })},
		{name: "mem", short: "MEM", width: 4, drop: 3, down: true, compare: by(func(o origin) uint64 { return o.RSS })},
		{name: "up", short: "UP", width: 6, drop: 4, compare: func(a, b origin, now time.Time) int {
			return cmp.Compare(a.Uptime(now), b.Uptime(now))
		}},
		{name: "restarts", short: "RST", width: 3, drop: 1, down: true, compare: by(func(o origin) int { return o.Restarts })},
		{name: "streams", short: "STR", width: 3, down: true, compare: by(func(o origin) int { return o.Streams })},
		{name: "pub", short: "PUB", width: 3, drop: 1, down: true, compare: by(func(o origin) int { return o.Publishers })},
		{name: "play", short: "PLAY", width: 4, down: true, compare: by(func(o origin) int { return o.Players })},
		{name: "in", short: "IN", width: 4, down: true, compare: by(func(o origin) float64 { return o.InBps })},
		{name: "out", short: "OUT", width: 4, down: true, compare: by(func(o origin) float64 { return o.OutBps })},
	}
	if wide {
		columns = append(columns,
			topColumn{name: "rtmp", short: "RTMP", drop: 8, compare: by(func(o origin) int { return o.Ports.RTMP })},
			topColumn{name: "http", short: "HTTP", drop: 8, compare: by(func(o origin) int { return o.Ports.HTTP })},
			topColumn{name: "api", short: "API", drop: 8, compare: by(func(o origin) int { return o.Ports.API })},
			topColumn{name: "version", short: "VERSION", drop: 7, compare: by(func(o origin) string { return o.Version })},
			topColumn{name: "last-exit", short: "LAST EXIT", drop: 9, compare: by(func(o origin) string { return o.LastExit })},
		)
	}
	for i, c := range statusColumns(wide) {
		columns[i].title, columns[i].right = c.title, c.right
	}
	return columns
}

// severity orders states: those that somebody should look at come first.
func severity(s supervisor.State) int {
	return slices.Index([]supervisor.State{
		supervisor.Fatal, supervisor.Backoff, supervisor.Degraded, supervisor.Starting,
		supervisor.Draining, supervisor.Stopped, supervisor.Ready,
	}, s)
}

// compareCPUs compares sets as lists of numbers: 2 comes before 10.
func compareCPUs(a, b supervisor.OriginStatus, _ time.Time) int {
	x, errA := runtime.ParseCPUSet(a.CPUs)
	y, errB := runtime.ParseCPUSet(b.CPUs)
	if errA != nil || errB != nil {
		return strings.Compare(a.CPUs, b.CPUs)
	}
	return slices.Compare(x, y)
}

// sorting is by which column the table is sorted, and whether the other way round.
type sorting struct {
	column  int
	reverse bool
}

// parseSorting takes a column by its name or its title.
func parseSorting(name string, reverse, wide bool) (sorting, error) {
	columns := topColumns(wide)
	names := make([]string, len(columns))
	for i, c := range columns {
		// CPU is the title of the set and what everybody calls the load.
		if strings.EqualFold(name, c.name) || strings.EqualFold(name, c.title) && c.name != "cpus" {
			return sorting{i, reverse}, nil
		}
		names[i] = c.name
	}
	return sorting{}, usageErrorf("flag --sort: there is no column %q; give %s", name, orList(names))
}

// apply sorts origins in place. Those that are equal keep the order of their
// slots, so that nothing dances about on an idle machine.
func (s sorting) apply(origins []supervisor.OriginStatus, columns []topColumn, now time.Time) {
	c := columns[s.column]
	slices.SortStableFunc(origins, func(a, b supervisor.OriginStatus) int {
		d := c.compare(a, b, now)
		if c.down != s.reverse {
			d = -d
		}
		return cmp.Or(d, cmp.Compare(a.Index, b.Index))
	})
}

// descends says which way the arrow of the sorted column points.
func (s sorting) descends(columns []topColumn) bool { return columns[s.column].down != s.reverse }
