package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// logQueue stands between those who log and who reads the log:
//
//	sessions, supervisor ─▶ Write ─▶ waiting ─▶ run ─▶ stderr ─▶ journald, a file, a pipe
//
// A write to a pipe whose reader has stopped blocks for ever, and with it whoever
// logs: sessions that come and go, and the restart of an origin. Here a reader
// that stops costs lines, which are counted, and nobody waits.
type logQueue struct {
	w    io.Writer
	lost func(lines int) []byte
	wake chan struct{}
	done chan struct{} // closed by Close
	end  func()

	mu      sync.Mutex    // guards the following
	waiting []byte        // whole lines
	missed  int           // lines for which there was no room after those
	empty   chan struct{} // closed when all is written; nil when there is nothing to write
}

const (
	// logQueueSize is some thousand lines: a burst, or seconds of a slow reader.
	logQueueSize = 1 << 20
	// logPatience is how long an end waits for the reader.
	logPatience = time.Second
)

// newLogQueue writes to w. What it says itself has the form of all other lines.
func newLogQueue(w io.Writer, format string) *logQueue {
	q := &logQueue{w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	q.end = sync.OnceFunc(func() { close(q.done) })
	q.lost = func(lines int) []byte {
		var b bytes.Buffer
		newLogger(&b, nil, format).Warn("log lines were lost: who reads the log was too slow", "lines", lines)
		return b.Bytes()
	}
	go q.run()
	return q
}

// Write takes a line, or counts it as lost. It never waits and never fails.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	if q.missed > 0 || len(q.waiting)+len(line) > logQueueSize {
		q.missed++ // once one is lost, so are those up to the line that says it
	} else {
		q.waiting = append(q.waiting, line...)
	}
	if q.empty == nil {
		q.empty = make(chan struct{})
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// run writes what waits, until Close.
func (q *logQueue) run() {
	for {
		select {
		case <-q.done:
			return
		case <-q.wake:
		}
		for q.writeSome() {
		}
	}
}

// writeSome says whether there was anything to write.
func (q *logQueue) writeSome() bool {
	q.mu.Lock()
	text, missed := q.waiting, q.missed
	q.waiting, q.missed = nil, 0
	if len(text) == 0 && missed == 0 {
		if q.empty != nil {
			close(q.empty)
			q.empty = nil
		}
		q.mu.Unlock()
		return false
	}
	q.mu.Unlock()
	// A full disk must not stop media, and a reader that is gone neither.
	_, _ = q.w.Write(text)
	if missed > 0 {
		_, _ = q.w.Write(q.lost(missed))
	}
	return true
}

// Flush returns when all is written, or when the reader takes too long.
func (q *logQueue) Flush() {
	q.mu.Lock()
	empty := q.empty
	q.mu.Unlock()
	if empty == nil {
		return
	}
	select {
	case <-empty:
	case <-time.After(logPatience):
	}
}

// Close flushes and ends the writing. What is logged after it is lost.
func (q *logQueue) Close() {
	q.Flush()
	q.end()
}
