package main

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// vt is as much of a terminal as our codes use, with its traps: text beyond the
// last column overwrites it (no wrapping), the cursor stays on it behind a
// character written there, and cannot go below the last row.
type vt struct {
	columns, rows int
	cells         [][]rune
	column, row   int
	alternate     bool
	hidden        bool
	colored       bool // an SGR was seen
	rest          string
}

func newVT(columns, rows int) *vt {
	v := &vt{}
	v.resize(columns, rows)
	return v
}

// resize blanks the screen: what a terminal makes of it is its own affair.
func (v *vt) resize(columns, rows int) {
	v.columns, v.rows = columns, rows
	v.cells = make([][]rune, rows)
	for i := range v.cells {
		v.cells[i] = []rune(strings.Repeat(" ", columns))
	}
}

var csi = regexp.MustCompile(`^\x1b\[([0-9;?]*)([A-Za-z])`)

// write takes codes, and keeps what is not complete for the next time. It
// returns an error for what it does not know.
func (v *vt) write(s string) error {
	s = v.rest + s
	v.rest = ""
	for s != "" {
		if s[0] == 0x1b {
			m := csi.FindStringSubmatch(s)
			if m == nil {
				if len(s) < 16 && strings.IndexFunc(s[1:], func(r rune) bool { return r >= 'A' && r <= 'z' && r != '[' }) < 0 {
					v.rest = s
					return nil
				}
				return fmt.Errorf("unknown sequence %.16q", s)
			}
			if err := v.control(m[1], m[2]); err != nil {
				return err
			}
			s = s[len(m[0]):]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && !utf8.FullRuneInString(s) {
			v.rest = s
			return nil
		}
		s = s[n:]
		switch {
		case r == '\r':
			v.column = 0
		case r == '\n':
			v.row = min(v.row+1, v.rows-1)
		case r < ' ' || r == 0x7f || r == utf8.RuneError:
			return fmt.Errorf("control character %q", r)
		default:
			v.cells[v.row][v.column] = r
			v.column = min(v.column+1, v.columns-1)
		}
	}
	return nil
}

func (v *vt) control(parameters, final string) error {
	switch parameters + final {
	case "?1049h", "?1049l":
		v.alternate = final == "h"
		return nil
	case "?25h", "?25l":
		v.hidden = final == "l"
		return nil
	case "?7h", "?7l":
		return nil
	case "H":
		v.row, v.column = 0, 0
		return nil
	case "K":
		blank(v.cells[v.row][v.column:])
		return nil
	case "J":
		blank(v.cells[v.row][v.column:])
		for _, row := range v.cells[v.row+1:] {
			blank(row)
		}
		return nil
	case "2J":
		for _, row := range v.cells {
			blank(row)
		}
		return nil
	}
	switch final {
	case "m":
		v.colored = v.colored || parameters != "0"
		return nil
	case "H":
		row, column, _ := strings.Cut(parameters, ";")
		r, err1 := strconv.Atoi(row)
		c, err2 := strconv.Atoi(column)
		if err1 != nil || err2 != nil || r < 1 || c < 1 {
			break
		}
		v.row, v.column = min(r, v.rows)-1, min(c, v.columns)-1
		return nil
	}
	return fmt.Errorf("unknown sequence CSI %s %s", parameters, final)
}

func blank(cells []rune) {
	for i := range cells {
		cells[i] = ' '
	}
}

func (v *vt) lines() []string {
	out := make([]string, v.rows)
	for i, row := range v.cells {
		out[i] = strings.TrimRight(string(row), " ")
	}
	return out
}

func (v *vt) String() string { return strings.Join(v.lines(), "\n") }

// Whatever the pictures are, the terminal shows the last one, each by one write
// of what has changed.
func TestFramesShowThePicture(t *testing.T) {
	const columns, rows = 6, 5
	random := rand.New(rand.NewPCG(1, 2))
	picture := func() []string {
		lines := make([]string, 1+random.IntN(rows))
		for i := range lines {
			// Often the full width: the last column is the hard one.
			lines[i] = strings.Repeat(string(rune('a'+random.IntN(3))), []int{0, 3, columns}[random.IntN(3)])
		}
		return lines
	}
	v := newVT(columns, rows)
	var shown []string
	for i := range 2000 {
		lines := picture()
		if i%100 == 0 {
			shown = nil
			for range rows {
				if err := v.write("\x1b[" + strconv.Itoa(1+random.IntN(rows)) + ";1Hnoise"); err != nil {
					t.Fatal(err)
				}
			}
		}
		codes := frame(shown, lines)
		if err := v.write(codes); err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(lines)
		for len(want) < rows {
			want = append(want, "")
		}
		if got := v.lines(); !slices.Equal(got, want) {
			t.Fatalf("picture %d: got %q, want %q after %q", i, got, want, codes)
		}
		if slices.Equal(shown, lines) && codes != "" {
			t.Fatalf("the same picture again writes %q", codes)
		}
		shown = lines
	}
}

func TestFrameWritesOnlyWhatChanged(t *testing.T) {
	codes := frame([]string{"one", "two", "three"}, []string{"one", "TWO", "three"})
	if !strings.Contains(codes, "TWO") || strings.Contains(codes, "one") || strings.Contains(codes, "three") {
		t.Errorf("%q", codes)
	}
}

func TestKeyDecoder(t *testing.T) {
	tests := []struct {
		in   string
		want []key
	}{
		{"q", []key{"q"}},
		{"qJ?", []key{"q", "J", "?"}},
		{"\x03\x1a\x0c\t\r\n ", []key{keyCtrlC, keyCtrlZ, keyCtrlL, keyTab, keyEnter, keyEnter, " "}},
		{"\x1b[A\x1b[B\x1b[C\x1b[D", []key{keyUp, keyDown, keyRight, keyLeft}},
		{"\x1bOA\x1bOB\x1bOC\x1bOD", []key{keyUp, keyDown, keyRight, keyLeft}},
		{"\x1b[5~\x1b[6~\x1b[Z", []key{keyPageUp, keyPageDown, keyBackTab}},
		{"\x1b[H\x1b[F\x1bOH\x1bOF\x1b[1~\x1b[4~\x1b[7~\x1b[8~", []key{keyHome, keyEnd, keyHome, keyEnd, keyHome, keyEnd, keyHome, keyEnd}},
		{"\x1b[1;5Aq", []key{"q"}},                                       // Ctrl-Up
		{"\x1b[15~\x1bOPq", []key{"q"}},                                  // F5, F1
		{"\x1bqj", []key{"j"}},                                           // Alt-q is not q
		{"\x1b\x1b[A", []key{keyUp}},                                     // Escape, then a key
		{"\x1b\x03", []key{keyCtrlC}},                                    // nobody presses Alt-Ctrl-C
		{"\x1b[" + strings.Repeat("1;", 100) + "qj", []key{"j"}},         // swallowed to its end
		{"\x1b[200~", nil},                                               // a paste begins
		{"\x00\x01\x7f\x80\xff\xc3\xa4j", []key{"j"}},                    // nothing that has a meaning
		{"\x1b[<0;10;20Mq", []key{"q"}},                                  // a mouse that nobody asked for
		{"jjk", []key{"j", "j", "k"}},                                    // held down
		{"\x1b[?62;c", nil},                                              // what a terminal answers
		{strings.Repeat("\x1b", 40) + "[A", []key{keyUp}},                // a stuck Escape
		{"\x1b[" + strings.Repeat("0", maxSequence-3) + "A", nil},        // as long as is kept
		{"\x1b[" + strings.Repeat("0", maxSequence) + "5~k", []key{"k"}}, // longer
		{"\x1b[5\x1b[6~", []key{keyPageDown}},                            // cut off by the next
		{"\x1b[A" + string(rune(0x1f600)) + "j", []key{keyUp, "j"}},      // a smile
		{"\x1b[\x03j", []key{keyCtrlC, "j"}},                             // breaks it off
	}
	for _, tt := range tests {
		var whole, pieces keyDecoder
		if got := whole.feed([]byte(tt.in)); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
		var got []key
		for i := range len(tt.in) {
			got = append(got, pieces.feed([]byte{tt.in[i]})...)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q byte by byte: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

// Whatever comes before, Ctrl-C gets through: nobody is locked in.
func FuzzKeyDecoder(f *testing.F) {
	f.Add([]byte("\x1b[1;5A"))
	f.Add([]byte("\x1bO"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var d keyDecoder
		for _, k := range d.feed(in) {
			if k == "" {
				t.Error("an empty key")
			}
		}
		if len(d.pending) > maxSequence {
			t.Errorf("%d bytes pending", len(d.pending))
		}
		if got := d.feed([]byte{3}); !slices.Equal(got, []key{keyCtrlC}) {
			t.Errorf("after %q Ctrl-C does nothing", in)
		}
	})
}
