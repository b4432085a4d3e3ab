package supervisor

import (
	"regexp"
	"strings"
	"sync"
)

const (
	// ringSize is how much of an origin's output is kept. SRS logs to its file,
	// so what comes here is its first lines and its last words.
	ringSize = 16 << 10
	// maxLine is how much of a line is shown.
	maxLine = 500
)

var (
	colorCodes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	// SRS begins its lines with "[time][LEVEL][pid][context][errno] ".
	logPrefix = regexp.MustCompile(`^(\[[^]]*\]){3,5} ?`)
)

// ring keeps the end of what an origin prints.
type ring struct {
	mu  sync.Mutex // guards buf
	buf []byte
}

// Write never fails, so that what fills it never stops reading.
func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(p)
	if len(p) > ringSize {
		p = p[len(p)-ringSize:]
	}
	if extra := len(r.buf) + len(p) - ringSize; extra > 0 {
		r.buf = append(r.buf[:0], r.buf[extra:]...)
	}
	r.buf = append(r.buf, p...)
	return n, nil
}

// lines returns the last n lines, as they were printed but safe to show.
func (r *ring) lines(n int) []string {
	r.mu.Lock()
	text := string(r.buf)
	r.mu.Unlock()
	return lastLines(text, n)
}

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
