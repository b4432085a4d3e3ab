package supervisor

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkOutput is a file of its own, because the origin itself may be running.
const checkOutput = "check.log"

// check asks the origin's program about the slot's config. It runs like the
// origin itself will: SRS compares max_connections with its limit of open files
// here too.
func (s *slot) check(ctx context.Context) error {
	p, err := s.sup.start(s, checkOutput, s.argv("-t", "-c", s.configFile))
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(filepath.Join(s.params.WorkDir, checkOutput)) }()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	select {
	case <-p.gone:
	case <-ctx.Done():
		p.signalGroup(unix.SIGKILL)
		<-p.gone
		return fmt.Errorf("check of %s: %w", s.configFile, ctx.Err())
	}
	if p.exit.Code != 0 {
		words := make([]string, 0, 4)
		for _, line := range p.out.lines(4) {
			words = append(words, logPrefix.ReplaceAllString(line, ""))
		}
		return fmt.Errorf("%w: %s says (%w): %s", ErrConfig, strings.Join(s.argv("-t", "-c", s.configFile), " "), p.exit, strings.Join(words, "; "))
	}
	s.checked = true
	return nil
}

// lastWords is the line that says best why a process ended: its last error in the
// log file, else its last line of output.
func lastWords(out *output, logFile string, pid int) string {
	if line := lastError(logFile, pid); line != "" {
		return line
	}
	if lines := out.lines(1); len(lines) > 0 {
		return logPrefix.ReplaceAllString(lines[0], "")
	}
	return ""
}

// logTail is how much of a log's end is searched for the error.
const logTail = 16 << 10

// lastError is the last line that a process logged as an error, in SRS's form.
func lastError(logFile string, pid int) string {
	f, err := os.Open(logFile)
	if err != nil {
		return ""
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size > logTail {
		_, _ = f.Seek(-logTail, io.SeekEnd)
	} else {
		_, _ = f.Seek(0, io.SeekStart)
	}
	text, err := io.ReadAll(io.LimitReader(f, logTail))
	if err != nil {
		return ""
	}
	last := ""
	mine := fmt.Sprintf("[ERROR][%d]", pid)
	for _, line := range lastLines(string(text), logTail) {
		if strings.Contains(line, mine) {
			last = logPrefix.ReplaceAllString(line, "")
		}
	}
	return last
}
