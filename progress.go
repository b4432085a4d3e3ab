package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// progress is a bar on the last line of a terminal, drawn again below whatever
// is logged meanwhile. Without a terminal it draws nothing and passes logs on.
type progress struct {
	out   io.Writer
	width int // columns of the terminal; 0 without one

	mu    sync.Mutex // guards the following, and the order of writes to out
	line  string     // what stands on the last line now
	ended bool
}

// clearLine returns to the first column and erases to the end of the line.
const clearLine = "\r\x1b[K"

func newProgress(out io.Writer, width int) *progress {
	return &progress{out: out, width: width}
}

// Write passes log lines on, above the bar.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line == "" {
		return p.out.Write(b)
	}
	n, err := fmt.Fprintf(p.out, "%s%s%s", clearLine, b, p.line)
	return max(0, min(len(b), n-len(clearLine))), err
}

// Draw shows how many of all origins are ready.
func (p *progress) Draw(done, all int, note string) { p.drawBar(done, all, "origins ready", note) }

// drawBar shows how much is done of all, in words that what begins.
func (p *progress) drawBar(done, all int, what, note string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width == 0 || p.ended {
		return
	}
	line := progressLine(done, all, what, note, p.width)
	if line == p.line {
		return
	}
	p.line = line
	_, _ = io.WriteString(p.out, clearLine+line) // a terminal that went away is no reason to stop origins
}

// End removes the bar for good.
func (p *progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.line != "" {
		p.line = ""
		_, _ = io.WriteString(p.out, clearLine)
	}
}

// progressLine is "[#####.....] 4/8 origins ready  note", cut to the terminal.
func progressLine(done, all int, what, note string, width int) string {
	const widest = 40
	text := fmt.Sprintf(" %d/%d %s", done, all, what)
	if note != "" {
		text += "  " + note
	}
	// The last column stays free: writing there makes some terminals wrap.
	room := width - 1
	bar := min(widest, room-len(" 1024/1024 ")-len(what)-2)
	if bar < 4 {
		return cut(strings.TrimSpace(text), room)
	}
	filled := 0
	if all > 0 {
		filled = bar * done / all
	}
	return cut("["+strings.Repeat("#", filled)+strings.Repeat(".", bar-filled)+"]"+text, room)
}

func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:max(0, n)])
	}
	return s
}
