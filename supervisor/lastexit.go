package supervisor

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// logTail is how much of a log's end is searched for the error.
	logTail = 16 << 10
	// lastKept is how many lines are kept of what a process said last.
	lastKept = 10
)

// noteExit keeps how a process ended for the status.
func (s *slot) noteExit(p *process, text string, lines []string) {
	e := &Exit{Time: time.Now(), PID: p.pid, Code: p.exit.Code, OOM: p.exit.OOM, Ordered: lines == nil, Lines: lines}
	if p.exit.Signal != 0 {
		e.Signal = unix.SignalName(p.exit.Signal)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.LastExit, s.view.Exit = text, e
}

// lastWords is the line that says best why a process ended: its last error in the
// log file, else its last line of output.
func lastWords(out *output, logFile string, pid int) string {
	if line := lastError(logFile, pid); line != "" {
		return line
	}
	if lines := out.lines(1); len(lines) > 0 {
		return withoutSecrets(logPrefix.ReplaceAllString(lines[0], ""))
	}
	return ""
}

// lastError is the last line that a process logged as an error, in SRS's form.
func lastError(logFile string, pid int) string {
	mine := fmt.Sprintf("[ERROR][%d]", pid)
	last := ""
	for _, line := range tail(logFile) {
		if strings.Contains(line, mine) {
			last = withoutSecrets(logPrefix.ReplaceAllString(line, ""))
		}
	}
	return last
}

// lastOutput is what a process printed last or, if that was nothing, logged.
func lastOutput(out *output, logFile string, pid int) []string {
	lines := out.lines(lastKept)
	if len(lines) == 0 {
		mine := fmt.Sprintf("[%d]", pid)
		for _, line := range tail(logFile) {
			if strings.Contains(line, mine) {
				lines = append(lines, line)
			}
		}
		lines = lines[max(0, len(lines)-lastKept):]
	}
	kept := make([]string, 0, len(lines))
	for _, line := range lines {
		kept = append(kept, withoutSecrets(line))
	}
	return kept
}

// tail is the lines at the end of a log.
func tail(logFile string) []string {
	f, err := os.Open(logFile)
	if err != nil {
		return nil
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size > logTail {
		_, _ = f.Seek(-logTail, io.SeekEnd)
	} else {
		_, _ = f.Seek(0, io.SeekStart)
	}
	text, err := io.ReadAll(io.LimitReader(f, logTail))
	if err != nil {
		return nil
	}
	return lastLines(string(text), logTail)
}

// What follows a question mark in an origin's line is most often the query of a
// client's URL, with its token; what stands before an @ is a name and a password.
var (
	queries  = regexp.MustCompile(`\?[^\s"',<>)\]]+`)
	userinfo = regexp.MustCompile(`//[^/\s@]+@`)
)

func withoutSecrets(line string) string {
	return userinfo.ReplaceAllString(queries.ReplaceAllString(line, "?..."), "//...@")
}
