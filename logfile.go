package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// rotatedLog follows one log through its rotations: srs.log, which was renamed to
// srs.log.1 when it was long enough, and so on. It reads files only, so it needs
// no running instance.
type rotatedLog struct {
	path string

	files   []*os.File // oldest first; the first is read now, the last is the newest
	pos     int64      // in the first
	pending []byte     // read, but not given out
	written time.Time  // when the first was last written to, as of the last read
	last    time.Time  // what the line before said
}

// logLine is a line and when it was written.
type logLine struct {
	at   time.Time
	text string
}

// allLines in place of a number of lines.
const allLines = -1

const (
	logBlock = 64 << 10
	// maxLogLine bounds a line, so that a file without line ends is no problem. SRS's
	// lines have 4 KiB at most (LOG_MAX_SIZE).
	maxLogLine = 64 << 10
)

// Close lets go of the files.
func (l *rotatedLog) Close() {
	for _, f := range l.files {
		_ = f.Close()
	}
	l.files = nil
}

// openTail makes the last n lines those that come next, and says how many there
// are, unless all are asked for. Of gigabytes it reads what holds these lines. No file is no error: there
// are no lines then.
func (l *rotatedLog) openTail(n int) (lines int, err error) {
	// The newest first: a rotation meanwhile moves files to where this loop comes yet.
	for k := 0; n == allLines || lines < n || k == 0; k++ {
		f, err := os.Open(numberedLog(l.path, k))
		if errors.Is(err, os.ErrNotExist) && k == 0 {
			continue // just renamed
		}
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return lines, err
		}
		if len(l.files) > 0 && sameFile(f, l.files[0]) {
			_ = f.Close()
			continue
		}
		l.files = append([]*os.File{f}, l.files...)
		want := allLines
		if n != allLines {
			want = n - lines
		}
		pos, found, err := tailOffset(f, want)
		if err != nil {
			return lines, err
		}
		l.pos = pos
		lines += found
	}
	return lines, nil
}

// numberedLog is the path of the kth file before the present one.
func numberedLog(path string, k int) string {
	if k == 0 {
		return path
	}
	return path + "." + strconv.Itoa(k)
}

func sameFile(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// tailOffset is where the last n lines of a file begin, and how many there are: it
// may have fewer.
func tailOffset(f *os.File, n int) (pos int64, lines int, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	size := st.Size()
	switch {
	case n == allLines:
		return 0, 0, nil // nobody needs to know how many
	case n == 0 || size == 0:
		return size, 0, nil
	}
	block := make([]byte, logBlock)
	for end := size; end > 0; {
		from := max(0, end-logBlock)
		part := block[:end-from]
		if _, err := f.ReadAt(part, from); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		for i := len(part) - 1; i >= 0; i-- {
			// A line is counted at the end of the one before it; the file's own last
			// byte ends a line that is counted later.
			if part[i] != '\n' || from+int64(i) == size-1 {
				continue
			}
			if lines++; lines == n {
				return from + int64(i) + 1, lines, nil
			}
		}
		end = from
	}
	return 0, lines + 1, nil
}

// next is the next complete line. Without one, ok is false: there may be more later.
func (l *rotatedLog) next() (line logLine, ok bool, err error) {
	for len(l.files) > 0 {
		if i := bytes.IndexByte(l.pending, '\n'); i >= 0 {
			return l.take(i, i+1), true, nil
		}
		if len(l.pending) >= maxLogLine {
			return l.take(maxLogLine, maxLogLine), true, nil
		}
		n, err := l.fill()
		switch {
		case err != nil:
			return logLine{}, false, err
		case n > 0:
		case len(l.files) == 1:
			return logLine{}, false, nil
		default:
			// Nobody writes to it any more, as there is a newer one.
			_ = l.files[0].Close()
			l.files, l.pos = l.files[1:], 0
			if n := len(l.pending); n > 0 {
				return l.take(n, n), true, nil
			}
		}
	}
	return logLine{}, false, nil
}

// take cuts a line off what is pending.
func (l *rotatedLog) take(end, next int) logLine {
	text := cleanLine(string(l.pending[:end]))
	l.pending = l.pending[next:]
	at, ok := lineTime(text)
	switch {
	case ok:
		l.last = at
	case l.last.IsZero():
		at = l.written
	default:
		at = l.last // it continues the one before
	}
	return logLine{at, text}
}

// fill reads on.
func (l *rotatedLog) fill() (int, error) {
	st, err := l.files[0].Stat()
	if err != nil {
		return 0, err
	}
	l.written = st.ModTime()
	if st.Size() < l.pos {
		l.pos, l.pending = 0, nil // somebody cut it
	}
	block := make([]byte, logBlock)
	n, err := l.files[0].ReadAt(block, l.pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	l.pos += int64(n)
	l.pending = append(l.pending, block[:n]...)
	return n, nil
}

// refresh looks for files that are newer than the last one.
func (l *rotatedLog) refresh() error {
	var newer []*os.File
	for k := 0; ; k++ {
		f, err := os.Open(numberedLog(l.path, k))
		if errors.Is(err, os.ErrNotExist) && k == 0 {
			continue
		}
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		if len(l.files) > 0 && sameFile(f, l.files[len(l.files)-1]) {
			_ = f.Close()
			break
		}
		newer = append([]*os.File{f}, newer...)
		if len(l.files) == 0 {
			break // the log begins now
		}
	}
	l.files = append(l.files, newer...)
	return nil
}

var colorCodes = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// cleanLine makes a line safe to show: others wrote it, and what clients call
// themselves is in it.
func cleanLine(s string) string {
	s = strings.TrimRight(s, "\r")
	if strings.IndexByte(s, 0x1b) >= 0 {
		s = colorCodes.ReplaceAllString(s, "")
	}
	return printable(strings.ReplaceAll(s, "\t", " "))
}

// lineTime reads the time of SRS's "[2026-01-02 15:04:05.000][INFO]..." and of the
// built-in origin's "time=2026-01-02T15:04:05.000Z level=INFO ...".
func lineTime(line string) (time.Time, bool) {
	if rest, ok := strings.CutPrefix(line, "time="); ok {
		stamp, _, _ := strings.Cut(rest, " ")
		t, err := time.Parse(time.RFC3339Nano, stamp)
		return t, err == nil
	}
	const form = "[2006-01-02 15:04:05.000]"
	if len(line) < len(form) || line[0] != '[' {
		return time.Time{}, false
	}
	t, err := time.ParseInLocation(form, line[:len(form)], time.Local)
	return t, err == nil
}
