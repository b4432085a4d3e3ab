// Package quiet keeps floods out of the log.
//
//	failure, failure, failure ─▶ Log.Warn ─▶ one line a second, left_out=2
package quiet

import (
	"log/slog"
	"sync"
	"time"
)

// Log logs at most one line a second, and with the next one how many it left
// out: when the origins are down, every poll of every player fails.
type Log struct {
	log *slog.Logger

	mu      sync.Mutex // guards the following fields
	last    time.Time
	skipped int
}

// New returns a Log that writes to log.
func New(log *slog.Logger) *Log { return &Log{log: log} }

// Warn logs, or counts.
func (q *Log) Warn(msg string, args ...any) {
	q.mu.Lock()
	now := time.Now()
	if now.Sub(q.last) < time.Second {
		q.skipped++
		q.mu.Unlock()
		return
	}
	skipped := q.skipped
	q.last, q.skipped = now, 0
	q.mu.Unlock()
	if skipped > 0 {
		args = append(args, "left_out", skipped)
	}
	q.log.Warn(msg, args...)
}
