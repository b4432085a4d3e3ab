package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestProgressLine(t *testing.T) {
	tests := []struct {
		done, all, width int
		note             string
		want             string
	}{
		{0, 4, 120, "", "[" + strings.Repeat(".", 40) + "] 0/4 origins ready"},
		{2, 4, 120, "", "[" + strings.Repeat("#", 20) + strings.Repeat(".", 20) + "] 2/4 origins ready"},
		{4, 4, 120, "done", "[" + strings.Repeat("#", 40) + "] 4/4 origins ready  done"},
		{1, 4, 40, "a very long note about it", "[###..........] 1/4 origins ready  a ve"},
		{1, 4, 20, "", "1/4 origins ready"},
		{1, 4, 8, "", "1/4 ori"},
		{0, 0, 120, "", "[" + strings.Repeat(".", 40) + "] 0/0 origins ready"},
	}
	for _, tt := range tests {
		if got := progressLine(tt.done, tt.all, "origins ready", tt.note, tt.width); got != tt.want {
			t.Errorf("progressLine(%d, %d, %q, %d)\n got %q\nwant %q", tt.done, tt.all, tt.note, tt.width, got, tt.want)
		}
	}
	for width := range 200 {
		if got := progressLine(1000, 1024, "origins ready", "note", width); len(got) > max(0, width-1) {
			t.Errorf("width %d: line of %d characters", width, len(got))
		}
	}
}

// screen shows what a terminal would after output: only \r and erase-line matter.
func screen(output string) string {
	var lines []string
	for line := range strings.SplitSeq(output, "\n") {
		parts := strings.Split(line, clearLine)
		lines = append(lines, parts[len(parts)-1])
	}
	return strings.Join(lines, "\n")
}

func TestProgressKeepsLogsAboveTheBar(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out, 40)
	fmt.Fprintln(p, "before")
	p.Draw(0, 2, "")
	if n, err := p.Write([]byte("first log\n")); n != len("first log\n") || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	p.Draw(1, 2, "")
	fmt.Fprintln(p, "second log")
	if want := "before\nfirst log\nsecond log\n" + progressLine(1, 2, "origins ready", "", 40); screen(out.String()) != want {
		t.Errorf("screen is\n%s\nwant\n%s", screen(out.String()), want)
	}
	p.End()
	p.Draw(2, 2, "")
	fmt.Fprintln(p, "after")
	if want := "before\nfirst log\nsecond log\nafter\n"; screen(out.String()) != want {
		t.Errorf("screen at the end is\n%s\nwant\n%s", screen(out.String()), want)
	}
}

func TestProgressWithoutTerminal(t *testing.T) {
	var out strings.Builder
	p := newProgress(&out, 0)
	p.Draw(1, 2, "")
	fmt.Fprintln(p, "log")
	p.End()
	if out.String() != "log\n" {
		t.Errorf("output %q", out.String())
	}
}
