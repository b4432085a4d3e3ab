package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// numberedLines are "0\n1\n..." from and to a number.
func numberedLines(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintln(&b, n)
	}
	return b.String()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// readAll takes all lines there are now.
func readAll(t *testing.T, l *rotatedLog) []string {
	t.Helper()
	var lines []string
	for {
		line, ok, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return lines
		}
		lines = append(lines, line.text)
	}
}

func TestTailOffset(t *testing.T) {
	long := strings.Repeat("x", 3*logBlock)
	tests := []struct {
		name, text string
		n          int
		tail       string
		lines      int
	}{
		{"empty", "", 3, "", 0},
		{"none asked for", "a\nb\n", 0, "", 0},
		{"fewer than asked for", "a\nb\n", 3, "a\nb\n", 2},
		{"as many", "a\nb\nc\n", 3, "a\nb\nc\n", 3},
		{"more", "a\nb\nc\nd\n", 3, "b\nc\nd\n", 3},
		{"an unfinished line", "a\nb\nc", 2, "b\nc", 2},
		{"empty lines", "a\n\n\n", 2, "\n\n", 2},
		{"only a line end", "\n", 1, "\n", 1},
		{"all", "a\nb\n", allLines, "a\nb\n", 0},
		{"lines longer than a block", "a\n" + long + "\nb\n", 2, long + "\nb\n", 2},
		{"across a block's border", strings.Repeat("1234567\n", logBlock/8+1), logBlock / 8, strings.Repeat("1234567\n", logBlock/8), logBlock / 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			write(t, path, tt.text)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			pos, lines, err := tailOffset(f, tt.n)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.text[pos:]; got != tt.tail || lines != tt.lines {
				t.Errorf("%d lines, %d bytes; want %d lines, %d bytes", lines, len(got), tt.lines, len(tt.tail))
			}
		})
	}
}

// The last lines are found whatever lies between two line ends.
func TestTailOffsetOfAnything(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 5))
	for range 200 {
		var lines []string
		for range rnd.IntN(40) {
			lines = append(lines, strings.Repeat("y", rnd.IntN(10)*rnd.IntN(3000))+"\n")
		}
		path := filepath.Join(t.TempDir(), "f")
		write(t, path, strings.Join(lines, ""))
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		n := 1 + rnd.IntN(45)
		pos, found, err := tailOffset(f, n)
		f.Close()
		want := strings.Join(lines[max(0, len(lines)-n):], "")
		if err != nil || found != min(n, len(lines)) || int64(len(strings.Join(lines, ""))-len(want)) != pos {
			t.Fatalf("%d of %d lines: found %d at %d, %v", n, len(lines), found, pos, err)
		}
	}
}

// A tail goes back into the old files as far as it has to, and no further.
func TestTailAcrossRotations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "srs.log")
	write(t, path+".2", numberedLines(0, 10))
	write(t, path+".1", numberedLines(10, 20))
	write(t, path, numberedLines(20, 23))
	tests := []struct{ n, from, files int }{
		{0, 23, 1}, {1, 22, 1}, {3, 20, 1}, {4, 19, 2}, {13, 10, 2}, {14, 9, 3}, {23, 0, 3}, {100, 0, 3}, {allLines, 0, 3},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.n), func(t *testing.T) {
			l := &rotatedLog{path: path}
			defer l.Close()
			found, err := l.openTail(tt.n)
			if err != nil {
				t.Fatal(err)
			}
			if tt.n != allLines && found != 23-tt.from {
				t.Errorf("%d lines are told of, want %d", found, 23-tt.from)
			}
			if len(l.files) != tt.files {
				t.Errorf("%d files are open, want %d", len(l.files), tt.files)
			}
			if got, want := readAll(t, l), strings.Fields(numberedLines(tt.from, 23)); !slices.Equal(got, want) {
				t.Errorf("lines %v, want %v", got, want)
			}
		})
	}
}

// Following goes through rotations, several of them between two looks and one in
// the middle of a line, and each line comes once.
func TestFollowThroughRotations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "srs.log")
	rotate := func() {
		t.Helper()
		for n := 8; n >= 0; n-- {
			if err := os.Rename(numberedLog(path, n), numberedLog(path, n+1)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	l := &rotatedLog{path: path}
	defer l.Close()
	if _, err := l.openTail(10); err != nil {
		t.Fatal(err)
	}
	var got []string
	look := func() {
		t.Helper()
		if err := l.refresh(); err != nil {
			t.Fatal(err)
		}
		got = append(got, readAll(t, l)...)
	}
	look() // there is no file yet
	write(t, path, numberedLines(0, 5))
	look()
	write(t, path, "5")
	look()
	write(t, path, "00\n")
	look()
	// The writer goes on in the renamed file until it opens the new one.
	rotate()
	look()
	write(t, numberedLog(path, 1), numberedLines(501, 505))
	look()
	write(t, path, numberedLines(505, 510))
	look()
	// Written just before the new file is there, and seen only afterwards.
	rotate()
	write(t, numberedLog(path, 1), numberedLines(510, 520))
	write(t, path, numberedLines(520, 530))
	// And several rotations at once.
	rotate()
	write(t, path, numberedLines(530, 540))
	rotate()
	write(t, path, numberedLines(540, 550))
	look()
	want := strings.Fields(numberedLines(0, 5) + numberedLines(500, 550))
	if !slices.Equal(got, want) {
		t.Errorf("lines %v\nwant %v", got, want)
	}
	// A file that is cut begins anew.
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, path, "9\n")
	got = nil
	if look(); !slices.Equal(got, []string{"9"}) {
		t.Errorf("after the cut %v", got)
	}
	if len(l.files) != 1 {
		t.Errorf("%d files are open", len(l.files))
	}
}

func TestLineTime(t *testing.T) {
	local := time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.Local)
	tests := []struct {
		line string
		want time.Time
	}{
		{"[2026-03-04 05:06:07.089][INFO][1][abc] hello", local},
		{"time=2026-03-04T05:06:07.089Z level=INFO msg=x", time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)},
		{"time=yesterday level=INFO", time.Time{}},
		{"[2026-03-04 05:06:07]", time.Time{}},
		{"[99", time.Time{}},
		{"", time.Time{}},
	}
	for _, tt := range tests {
		at, ok := lineTime(tt.line)
		if ok == tt.want.IsZero() || ok && !at.Equal(tt.want) {
			t.Errorf("%q: %v, %v; want %v", tt.line, at, ok, tt.want)
		}
	}
}

// What was written by others cannot drive the terminal.
func TestCleanLine(t *testing.T) {
	for line, want := range map[string]string{
		"plain":                         "plain",
		"\x1b[31m[ERROR] red\x1b[0m":    "[ERROR] red",
		"a\tb\r":                        "a b",
		"title \x1b]0;owned\x07 set":    "title ?]0;owned? set",
		"ünïcode \u202eevil":            "ünïcode ?evil",
		"broken \xff utf8":              "broken \ufffd utf8",
		"\x1b[2J\x1b[1;1Hnothing above": "nothing above",
	} {
		if got := cleanLine(line); got != want {
			t.Errorf("%q became %q, want %q", line, got, want)
		}
	}
}

// Several origins are one log, in the order of time; lines without a time stay
// behind the one that they belong to.
func TestLogMerge(t *testing.T) {
	dir := t.TempDir()
	stamp := func(s int) string { return fmt.Sprintf("[2026-03-04 05:06:%02d.000][INFO] ", s) }
	file := func(origin, name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, origin), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, origin, name), text)
	}
	file("origin-0", "srs.log", stamp(1)+"a\n"+stamp(4)+"d\n  more of d\n"+stamp(9)+"h\n")
	file("origin-10", "srs.log", stamp(5)+"e\n"+stamp(6)+"f\n")
	file("origin-2", "srs.log.1", stamp(2)+"b\n")
	file("origin-2", "srs.log", stamp(3)+"c\n")
	file("origin-2.1", "output.log", stamp(7)+"\x1b[31mg\x1b[0m\n")
	file("elsewhere", "srs.log", stamp(2)+"never\n")

	tests := []struct {
		name, id string
		n        int
		want     string // the last letters of the lines
		prefix   string // of the first line
	}{
		{"all", "", allLines, "a b c d d e f g h", "origin-0   | [2026"},
		{"the last three", "", 3, "f g h", "origin-10  | [2026"},
		{"one more than a file has", "", 8, "b c d d e f g h", "origin-2   | [2026"},
		{"none", "", 0, "", ""},
		{"one origin", "origin-0", allLines, "a d d h", "[2026"},
		{"a place with two processes", "origin-2", allLines, "b c g", "origin-2   | [2026"},
		{"one of them", "origin-2.1", allLines, "g", "[2026"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			m := newLogMerge(dir, tt.id, &out, false)
			defer m.Close()
			if err := m.tail(tt.n); err != nil {
				t.Fatal(err)
			}
			var letters []string
			for line := range strings.Lines(out.String()) {
				line = strings.TrimSpace(line)
				letters = append(letters, line[len(line)-1:])
			}
			if got := strings.Join(letters, " "); got != tt.want || !strings.HasPrefix(out.String(), tt.prefix) {
				t.Errorf("lines %q, want %q\n%s", got, tt.want, out.String())
			}
		})
	}
}

func TestOriginDirs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"origin-10", "origin-2", "origin-2.1", "origin-x", "origin-3.", "origin-", "srs", "origin-4"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "origin-5"), "a file")
	dirs, err := originDirs(dir)
	var names []string
	for _, d := range dirs {
		names = append(names, d.name)
	}
	if got := strings.Join(names, " "); err != nil || got != "origin-2 origin-2.1 origin-4 origin-10" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := originDirs(filepath.Join(dir, "none")); err == nil {
		t.Error("no error without a state dir")
	}
}
