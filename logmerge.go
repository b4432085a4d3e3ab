package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The files of an origin's work dir that are logs: what SRS writes to its log file
// (or the built-in origin does), and what the process printed.
const (
	logFileName    = "srs.log"
	outputFileName = "output.log"
)

// originDir is the work dir of one process of an origin: origin-3, and
// origin-3.1 for one that replaced it (see supervisor/generation.go).
type originDir struct {
	name       string
	index, gen int
}

var originDirName = regexp.MustCompile(`^origin-(\d+)(?:\.(\d+))?$`)

// originDirs lists the work dirs of a state dir, those of now and of earlier.
func originDirs(stateDir string) ([]originDir, error) {
	entries, err := os.ReadDir(stateDir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", stateDir, withoutPath(err))
	}
	var dirs []originDir
	for _, e := range entries {
		m := originDirName.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		index, _ := strconv.Atoi(m[1]) // digits, by the expression
		gen, _ := strconv.Atoi(m[2])
		dirs = append(dirs, originDir{e.Name(), index, gen})
	}
	slices.SortFunc(dirs, func(a, b originDir) int { return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.gen, b.gen)) })
	return dirs, nil
}

// matches says that an ID means this dir: that of a place means all of its processes.
func (d originDir) matches(id string) bool {
	return id == "" || id == d.name || id == "origin-"+strconv.Itoa(d.index)
}

// logSource is one log among those that are shown together.
type logSource struct {
	rotatedLog
	name  string
	index int
	head  logLine
	has   bool
}

// advance makes the next line the head.
func (s *logSource) advance() (err error) {
	s.head, s.has, err = s.next()
	return err
}

// logMerge shows several logs as one, ordered by time.
type logMerge struct {
	stateDir string
	id       string // of the origin; "" for all
	out      *bufio.Writer
	colors   bool

	sources []*logSource
	width   int  // of the names
	named   bool // lines begin with the origin's name
	lines   int  // written so far
}

func newLogMerge(stateDir, id string, out io.Writer, colors bool) *logMerge {
	return &logMerge{stateDir: stateDir, id: id, out: bufio.NewWriter(out), colors: colors}
}

// Close lets go of all files.
func (m *logMerge) Close() {
	for _, s := range m.sources {
		s.Close()
	}
}

// discover adds the logs that are not known yet. They begin with their last n lines.
func (m *logMerge) discover(n int) (lines int, err error) {
	dirs, err := originDirs(m.stateDir)
	if err != nil {
		return 0, err
	}
	for _, d := range dirs {
		if !d.matches(m.id) {
			continue
		}
		for _, file := range []string{outputFileName, logFileName} {
			path := filepath.Join(m.stateDir, d.name, file)
			if slices.ContainsFunc(m.sources, func(s *logSource) bool { return s.path == path }) {
				continue
			}
			s := &logSource{rotatedLog: rotatedLog{path: path}, name: d.name, index: d.index}
			found, err := s.openTail(n)
			if err != nil {
				s.Close()
				return lines, err
			}
			lines += found
			m.sources = append(m.sources, s)
			m.width = max(m.width, len(d.name))
			m.named = m.named || s.name != m.sources[0].name
		}
	}
	return lines, nil
}

// drain writes all lines there are, but not the first skip ones.
func (m *logMerge) drain(skip int) error {
	for _, s := range m.sources {
		if err := s.advance(); err != nil {
			return err
		}
	}
	for {
		var first *logSource
		for _, s := range m.sources {
			if s.has && (first == nil || s.head.at.Before(first.head.at)) {
				first = s
			}
		}
		if first == nil {
			return m.out.Flush()
		}
		if skip > 0 {
			skip--
		} else if err := m.write(first); err != nil {
			return err
		}
		if err := first.advance(); err != nil {
			return err
		}
	}
}

func (m *logMerge) write(s *logSource) error {
	m.lines++
	if m.named {
		colors := []color{"36", "33", "32", "35", "34", "31"}
		name := s.name + strings.Repeat(" ", m.width-len(s.name)) + " | "
		if _, err := m.out.WriteString(paint(name, colors[s.index%len(colors)], m.colors)); err != nil {
			return err
		}
	}
	_, err := m.out.WriteString(s.head.text + "\n")
	return err
}

const (
	followPeriod = 200 * time.Millisecond
	// rediscover is after how many of these new origins are looked for.
	rediscover = 5
)

// follow writes what is added, until ctx ends.
func (m *logMerge) follow(ctx context.Context) error {
	tick := time.NewTicker(followPeriod)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n%rediscover == 0 {
			// A whole new log is new: all of it is shown.
			if _, err := m.discover(allLines); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		for _, s := range m.sources {
			if err := s.refresh(); err != nil {
				return err
			}
		}
		if err := m.drain(0); err != nil {
			return err
		}
	}
}

// tail writes the last n lines of all logs together.
func (m *logMerge) tail(n int) error {
	lines, err := m.discover(n)
	if err != nil {
		return err
	}
	skip := 0
	if n != allLines {
		skip = max(0, lines-n)
	}
	return m.drain(skip)
}
