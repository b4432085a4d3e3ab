package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fullScreen is a terminal that a command has to itself: keys arrive as they are
// pressed, and what stood there before comes back when the command leaves.
//
//	enter ──▶ draw, draw, draw … ──▶ leave
//	  ▲                                │
//	  └────── resume (Ctrl-Z, fg) ─────┘
//
// It is for one goroutine at a time.
type fullScreen struct {
	in, out *os.File
	entered bool
	saved   unix.Termios
	// shown is what stands on the terminal now, line by line; nil when unknown.
	shown []string
}

// DEC private modes: 1049 is the alternate screen, 25 the cursor, 7 wrapping at
// the right edge, which would make a line that is too long destroy the next.
const (
	enterCodes = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
	leaveCodes = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
)

// enter takes the terminal. leave must follow on every path.
func (s *fullScreen) enter() error {
	if s.entered {
		return nil
	}
	saved, err := unix.IoctlGetTermios(int(s.in.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("terminal: read its modes: %w", err)
	}
	s.saved, s.entered = *saved, true
	return s.resume()
}

// resume sets up again what a shell may have changed while we were stopped.
func (s *fullScreen) resume() error {
	raw := s.saved
	// Keys one by one, not echoed, and Ctrl-C, Ctrl-Z and Ctrl-S are keys too.
	raw.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG | unix.IEXTEN
	raw.Iflag &^= unix.IXON | unix.ICRNL | unix.INLCR | unix.IGNCR
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETS, &raw); err != nil {
		return fmt.Errorf("terminal: set its modes: %w", err)
	}
	s.forget()
	return s.write(enterCodes)
}

// leave gives the terminal back as it was. There is nobody to tell if that
// fails: then the terminal is gone.
func (s *fullScreen) leave() {
	if !s.entered {
		return
	}
	s.entered = false
	_ = s.write(leaveCodes)
	// What was typed and not read is not meant for the shell.
	_ = unix.IoctlSetTermios(int(s.in.Fd()), unix.TCSETSF, &s.saved)
}

// size is that of the terminal; one that does not know has the classic 80 by 24.
func (s *fullScreen) size() (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(s.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return 80, 24
	}
	return int(size.Col), int(size.Row)
}

// forget makes the next draw paint every line: the terminal was resized, or
// somebody else wrote on it.
func (s *fullScreen) forget() { s.shown = nil }

// draw shows lines from the top. It writes once, and only what has changed, so
// that nothing flickers and little goes over a slow line.
func (s *fullScreen) draw(lines []string) error {
	codes := frame(s.shown, lines)
	s.shown = slices.Clone(lines)
	if codes == "" {
		return nil
	}
	return s.write(codes)
}

// frame is what turns a terminal that shows one picture into one that shows
// another. A nil picture is an unknown one. A line is erased before it is
// written: behind one that ends in the last column, the cursor is still there.
func frame(shown, lines []string) string {
	var b strings.Builder
	if shown == nil {
		b.WriteString("\x1b[H\x1b[J")
	}
	for i, l := range lines {
		if shown == nil || i >= len(shown) || shown[i] != l {
			b.WriteString("\x1b[" + strconv.Itoa(i+1) + ";1H\x1b[K" + l)
		}
	}
	if len(lines) < len(shown) {
		b.WriteString("\x1b[" + strconv.Itoa(len(lines)+1) + ";1H\x1b[J")
	}
	return b.String()
}

func (s *fullScreen) write(codes string) error {
	if _, err := s.out.WriteString(codes); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}
