package main

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// column of a table: a title and how its cells stand.
type column struct {
	title string
	right bool
}

// cell is a text with an optional color. Color never counts as width.
type cell struct {
	text  string
	color color
}

// printable replaces what could drive a terminal: part of what is shown was
// written by child processes.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// color is an ANSI SGR parameter; "" leaves the terminal's own.
type color string

const (
	green  color = "32"
	yellow color = "33"
	red    color = "31"
	dim    color = "2"
	bold   color = "1"
)

// paint wraps a text in escape codes, where the output wants any.
func paint(text string, c color, colors bool) string {
	if !colors || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// writeTable prints columns as wide as their widest cell, two spaces apart. No
// line ends in spaces.
func writeTable(w io.Writer, columns []column, rows [][]cell, colors bool) error {
	widths := make([]int, len(columns))
	for i, c := range columns {
		widths[i] = utf8.RuneCountInString(c.title)
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i].text))
		}
	}

	title := make([]cell, len(columns))
	for i, c := range columns {
		title[i] = cell{c.title, bold}
	}
	var out strings.Builder
	for _, r := range append([][]cell{title}, rows...) {
		var line strings.Builder
		for i, c := range r {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
			text := paint(c.text, c.color, colors)
			switch {
			case columns[i].right:
				line.WriteString(gap + text)
			case i == len(r)-1:
				line.WriteString(text)
			default:
				line.WriteString(text + gap)
			}
			if i < len(r)-1 {
				line.WriteString("  ")
			}
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}
