package main

import (
	"strings"
	"unicode/utf8"
)

// Colors of the live screen, besides those of tables.
const (
	cyan    color = "36"
	reverse color = "7"
)

// line is one line of a screen. What its cells hold is printable.
type line []cell

func (l *line) add(c color, text string) {
	if n := len(*l); n > 0 && (*l)[n-1].color == c {
		(*l)[n-1].text += text
	} else if text != "" {
		*l = append(*l, cell{text, c})
	}
}

func (l line) width() int {
	n := 0
	for _, c := range l {
		n += utf8.RuneCountInString(c.text)
	}
	return n
}

// render cuts a line to a width; 0 leaves it whole. Colors never count, and a
// line never ends in spaces.
func (l line) render(width int, colors bool) string {
	var b strings.Builder
	left := width
	for i, c := range l {
		text := c.text
		if width > 0 {
			text = cut(text, left)
			left -= utf8.RuneCountInString(text)
		}
		if i == len(l)-1 && c.color == "" {
			text = strings.TrimRight(text, " ")
		}
		b.WriteString(paint(text, c.color, colors))
	}
	if colors {
		return b.String()
	}
	return strings.TrimRight(b.String(), " ")
}

// spread puts one text at the left and one at the right end of a width.
func spread(left, right line, width int) line {
	gap := width - left.width() - right.width()
	if gap < 1 {
		return left
	}
	var l line
	l = append(l, left...)
	l.add("", strings.Repeat(" ", gap))
	return append(l, right...)
}

// glyphs are the characters that stand for something.
type glyphs struct {
	origins, proxy string // in bars
	levels         []string
	down, up       string // which way a column is sorted
	arrows         string // the keys that choose the column
	scroll         string // the keys that scroll
}

// newGlyphs are those of a terminal that shows UTF-8, or of any.
func newGlyphs(utf8 bool) glyphs {
	if !utf8 {
		return glyphs{
			origins: "|", proxy: "#", levels: strings.Split("0123456789", ""),
			down: "v", up: "^", arrows: "<>", scroll: "jk",
		}
	}
	return glyphs{
		origins: "|", proxy: "#", levels: strings.Split("▁▂▃▄▅▆▇█", ""),
		down: "↓", up: "↑", arrows: "←→", scroll: "↑↓",
	}
}

// level is the character for a load in percent.
func (g glyphs) level(percent float64) string {
	n := int(percent * float64(len(g.levels)) / 100)
	return g.levels[max(0, min(n, len(g.levels)-1))]
}

// speaksUTF8 asks the locale as setlocale(3) does.
func speaksUTF8(env func(string) (string, bool)) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v, _ := env(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}
