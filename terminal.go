package main

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"golang.org/x/sys/unix"
)

// terminal is where a command talks to its user.
type terminal struct {
	out io.Writer // results
	err io.Writer // logs, progress, complaints
	// colors says that out may carry escape codes.
	colors bool
	// width is err's number of columns when both are terminals, else 0.
	width int
	// utf8 says that out shows more than ASCII.
	utf8 bool
	// tty is both ends of a terminal that a command may have to itself, else nil.
	tty *tty
}

// tty is where keys come from and pictures go.
type tty struct{ in, out *os.File }

// newTerminal looks at the streams. NO_COLOR (no-color.org) forbids colors
// when it is set to anything; a terminal without escape codes says TERM=dumb.
func newTerminal(in, out, errs *os.File, env func(string) (string, bool)) terminal {
	t := terminal{out: out, err: errs}
	name, _ := env("TERM")
	if name == "dumb" {
		return t
	}
	noColor, _ := env("NO_COLOR")
	t.colors = noColor == "" && isatty.IsTerminal(out.Fd())
	t.utf8 = isatty.IsTerminal(out.Fd()) && speaksUTF8(env)
	if isatty.IsTerminal(out.Fd()) && isatty.IsTerminal(errs.Fd()) {
		t.width = columnsOf(errs)
	}
	if isatty.IsTerminal(in.Fd()) && isatty.IsTerminal(out.Fd()) {
		t.tty = &tty{in, out}
	}
	return t
}

// screen is the terminal for a command alone, nil where there is none.
func (t terminal) screen() *fullScreen {
	if t.tty == nil {
		return nil
	}
	return &fullScreen{in: t.tty.in, out: t.tty.out}
}

// columnsOf asks the kernel; a terminal that does not know has the classic 80.
func columnsOf(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80
	}
	return int(size.Col)
}
