package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"srs-proxy/supervisor"
)

// writeLimits prints, below the wide table, which control groups are in force, what
// they hold each origin to, and what was asked for and is not in force. What is the
// same for many origins is said once.
func writeLimits(w io.Writer, s supervisor.Snapshot, colors bool) error {
	var lines []string
	if s.Cgroups != "" {
		lines = append(lines, paint("cgroups:", bold, colors)+" "+printable(s.Cgroups))
	}
	lines = append(lines, sayOnce(s.Origins, "limits", green, colors, func(o supervisor.OriginStatus) []string {
		if o.Limits == "" {
			return nil
		}
		return []string{o.Limits}
	})...)
	lines = append(lines, sayOnce(s.Origins, "not in force", red, colors, func(o supervisor.OriginStatus) []string { return o.NotInForce })...)
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	return nil
}

// sayOnce is a line for each different text, with the origins that it is about.
func sayOnce(origins []supervisor.OriginStatus, what string, color color, colors bool, texts func(supervisor.OriginStatus) []string) []string {
	var order []string
	about := make(map[string][]supervisor.OriginStatus)
	for _, o := range origins {
		for _, text := range texts(o) {
			if about[text] == nil {
				order = append(order, text)
			}
			about[text] = append(about[text], o)
		}
	}
	lines := make([]string, 0, len(order))
	for _, text := range order {
		whose := "all origins"
		if len(about[text]) < len(origins) {
			whose = originRanges(about[text])
		}
		lines = append(lines, fmt.Sprintf("%s %s", paint(what+", "+whose+":", color, colors), printable(text)))
	}
	return lines
}

// originRanges names origins in few words: "origin-0 to origin-6, origin-9".
func originRanges(origins []supervisor.OriginStatus) string {
	var parts []string
	ids := func(o supervisor.OriginStatus) bool { return o.ID == originID(strconv.Itoa(o.Index)) }
	origins = slices.Clone(origins)
	slices.SortStableFunc(origins, func(a, b supervisor.OriginStatus) int { return a.Index - b.Index })
	for i := 0; i < len(origins); {
		j := i
		for j+1 < len(origins) && ids(origins[i]) && ids(origins[j+1]) && origins[j+1].Index == origins[j].Index+1 {
			j++
		}
		switch j - i {
		case 0:
			parts = append(parts, origins[i].ID)
		case 1:
			parts = append(parts, origins[i].ID, origins[j].ID)
		default:
			parts = append(parts, origins[i].ID+" to "+origins[j].ID)
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}
