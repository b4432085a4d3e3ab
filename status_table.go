package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"srs-proxy/supervisor"
)

// writeStatus prints the table of `status` and `up`: a line for each origin,
// a totals line, and a line for each origin that is not as it should be.
func writeStatus(w io.Writer, s supervisor.Snapshot, wide, colors bool) error {
	columns := statusColumns(wide)
	rows := make([][]cell, 0, len(s.Origins)+1)
	for _, o := range s.Origins {
		rows = append(rows, statusRow(o, s.Time, wide))
	}
	rows = append(rows, totalsRow(s.Totals(), wide))
	if err := writeTable(w, columns, rows, colors); err != nil {
		return err
	}
	for _, o := range s.Unhealthy() {
		if why := explainOrigin(o); why != "" {
			if _, err := fmt.Fprintf(w, "%s %s\n", paint(o.ID+" "+string(o.State)+":", stateColor(o.State), colors), why); err != nil {
				return fmt.Errorf("write table: %w", err)
			}
		}
	}
	if wide {
		return writeLimits(w, s, colors)
	}
	return nil
}

func statusColumns(wide bool) []column {
	columns := []column{
		{title: "ID"},
		{title: "STATE"},
		{title: "PID", right: true},
		{title: "CPU", right: true},
		{title: "%CPU", right: true},
		{title: "MEM", right: true},
		{title: "UP", right: true},
		{title: "RESTARTS", right: true},
		{title: "STREAMS", right: true},
		{title: "PUB", right: true},
		{title: "PLAY", right: true},
		{title: "IN", right: true},
		{title: "OUT", right: true},
	}
	if wide {
		columns = append(columns,
			column{title: "RTMP", right: true},
			column{title: "HTTP", right: true},
			column{title: "API", right: true},
			column{title: "VERSION"},
			column{title: "LAST EXIT"},
		)
	}
	return columns
}

func statusRow(o supervisor.OriginStatus, now time.Time, wide bool) []cell {
	pid, mem, up, busy := "-", "-", "-", "-"
	if o.PID != 0 {
		pid, mem, up = strconv.Itoa(o.PID), formatBytes(o.RSS), formatUptime(o.Uptime(now))
		busy = formatPercent(o.CPUPercent)
	}
	row := []cell{
		{text: o.ID},
		{string(o.State), stateColor(o.State)},
		{text: pid},
		{text: orDash(o.CPUs)},
		{text: busy},
		{text: mem},
		{text: up},
		{text: strconv.Itoa(o.Restarts)},
		{text: strconv.Itoa(o.Streams)},
		{text: strconv.Itoa(o.Publishers)},
		{text: strconv.Itoa(o.Players)},
		{text: formatBits(o.InBps)},
		{text: formatBits(o.OutBps)},
	}
	if wide {
		row = append(row,
			cell{text: strconv.Itoa(o.Ports.RTMP)},
			cell{text: strconv.Itoa(o.Ports.HTTP)},
			cell{text: strconv.Itoa(o.Ports.API)},
			cell{text: orDash(o.Version)},
			cell{text: orDash(o.LastExit)},
		)
	}
	return row
}

func totalsRow(t supervisor.Totals, wide bool) []cell {
	state := fmt.Sprintf("%d/%d ready", t.Ready, t.Origins)
	row := []cell{
		{"TOTAL", bold},
		{state, bold},
		{}, {},
		{text: formatPercent(t.CPUPercent)},
		{text: formatBytes(t.RSS)},
		{},
		{text: strconv.Itoa(t.Restarts)},
		{text: strconv.Itoa(t.Streams)},
		{text: strconv.Itoa(t.Publishers)},
		{text: strconv.Itoa(t.Players)},
		{text: formatBits(t.InBps)},
		{text: formatBits(t.OutBps)},
	}
	if wide {
		row = append(row, cell{}, cell{}, cell{}, cell{}, cell{})
	}
	return row
}

// explainOrigin says in a line why an origin is not as it should be.
func explainOrigin(o supervisor.OriginStatus) string {
	switch {
	case o.Reason != "":
		return printable(o.Reason)
	case o.LastExit != "":
		return printable("last exit: " + o.LastExit)
	default:
		return printable(o.StatsError)
	}
}

func stateColor(s supervisor.State) color {
	switch s {
	case supervisor.Ready:
		return green
	case supervisor.Backoff, supervisor.Fatal, stateDown:
		return red
	case supervisor.Stopped:
		return dim
	default:
		return yellow
	}
}

func formatPercent(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}
