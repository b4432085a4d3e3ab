package supervisor

import (
	"regexp"
	"strings"
)

// maxLine is how much of a line is shown.
const maxLine = 500

var (
	colorCodes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	// SRS begins its lines with "[time][LEVEL][pid][context][errno] ".
	logPrefix = regexp.MustCompile(`^(\[[^]]*\]){3,5} ?`)
)

// lastLines are the last n lines of a text that hold anything, without colors
// and control characters.
func lastLines(text string, n int) []string {
	var lines []string
	for line := range strings.Lines(colorCodes.ReplaceAllString(text, "")) {
		if line = printable(strings.TrimSpace(line)); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}

// printable replaces what could confuse a terminal, and cuts what is too long.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(s) > maxLine {
		s = strings.ToValidUTF8(s[:maxLine], "") + "..."
	}
	return s
}
