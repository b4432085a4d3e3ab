package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
)

// newLogger writes to w in the form and from the level that was asked for.
func newLogger(w io.Writer, level slog.Leveler, format string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// quieting holds a part's lines below a level back until that is lowered: a
// hundred origins that become ready are one line a second, not a hundred lines.
type quieting struct {
	slog.Handler
	level *slog.LevelVar
}

func (q quieting) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= q.level.Level() && q.Handler.Enabled(ctx, l)
}

// WithAttrs keeps a logger's children quiet too.
func (q quieting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieting{q.Handler.WithAttrs(attrs), q.level}
}

// WithGroup keeps a logger's children quiet too.
func (q quieting) WithGroup(name string) slog.Handler {
	return quieting{q.Handler.WithGroup(name), q.level}
}

// logFile is a log that is opened again on a signal, so that logrotate can
// move it away (SRS does so on SIGUSR1).
type logFile struct {
	path string

	mu sync.Mutex // guards w, and the order of lines
	w  io.Writer
	f  *os.File // w, when it is a file
}

func openLogFile(path string) (*logFile, error) {
	l := &logFile{path: path}
	if err := l.reopen(); err != nil {
		return nil, err
	}
	return l, nil
}

// reopen keeps the old file when the new one cannot be opened.
func (l *logFile) reopen() error {
	if l.path == "" {
		return nil
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("log file %s: %w", l.path, withoutPath(err))
	}
	l.mu.Lock()
	old := l.f
	l.w, l.f = f, f
	l.mu.Unlock()
	if old != nil {
		_ = old.Close()
	}
	return nil
}

// reopenOn opens the file again for each signal until ctx ends.
func (l *logFile) reopenOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			if err := l.reopen(); err != nil {
				_, _ = fmt.Fprintln(l, err) // into the old file, which is still there
			}
		}
	}
}

// Write never fails: a full disk must not stop media.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(b)
	return len(b), nil
}

// Close closes the file.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
