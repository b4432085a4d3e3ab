package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// SRS writes a line for each request of its API, so that even an idle origin's
// log grows by 10 MB a day. A log that has become too long is renamed and the
// origin told to open a new one (SIGUSR1): what it writes in between goes to the
// renamed file, so no line is lost.
//
//	srs.log ─▶ srs.log.1 ─▶ srs.log.2 ─▶ … ─▶ gone

// LogRotation says when an origin's log file gives way to a new one.
type LogRotation struct {
	// MaxSize in bytes; 0 lets logs grow for ever.
	MaxSize int64
	// Keep is how many old files there are; less than 1 means 1, because the last
	// lines may be in one.
	Keep int
}

const (
	// rotatePeriod lets a log that is written at 10 MB/s, more than any disk is
	// meant for, become 50 MB too long.
	rotatePeriod = 5 * time.Second
	// complainPeriod is between two log lines of the same failure.
	complainPeriod = 10 * time.Minute
)

// SetLogRotation changes the rotation of a running supervisor.
func (s *Supervisor) SetLogRotation(r LogRotation) { s.rotation.Store(&r) }

// rotateLogs looks at all logs until the context ends. Nothing that goes wrong
// with a file stops it, or anything else.
func (s *Supervisor) rotateLogs(ctx context.Context) {
	ticker := time.NewTicker(rotatePeriod)
	defer ticker.Stop()
	var complaint time.Time
	for {
		if r := s.rotation.Load(); r != nil && r.MaxSize > 0 {
			for _, slot := range s.all() {
				if err := s.rotateLog(slot, *r); err != nil && time.Since(complaint) > complainPeriod {
					complaint = time.Now()
					slot.log.Warn("log file not rotated; it goes on growing", keyError, err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// rotateLog rotates one slot's log if it is due.
func (s *Supervisor) rotateLog(slot *slot, r LogRotation) error {
	path := slot.params.LogFile
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A template may log elsewhere. Or the origin was told to open a new file and
		// has not: then it is told again.
		if _, err := os.Lstat(oldLog(path, 1)); err == nil {
			return slot.reopenLog()
		}
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() < r.MaxSize:
		return nil // a link or a device is the operator's own arrangement
	}
	if !slot.canReopenLog() {
		return nil
	}
	if err := shiftLogs(path, max(1, r.Keep)); err != nil {
		return err
	}
	slot.log.Log(context.Background(), slog.LevelDebug, "log file rotated", "bytes", info.Size())
	return slot.reopenLog()
}

// oldLog is the path of the nth file before the present one.
func oldLog(path string, n int) string { return path + "." + strconv.Itoa(n) }

// shiftLogs makes the log the first of the old ones. The oldest go first, so an
// error in the middle loses no file but those that are too many.
func shiftLogs(path string, keep int) error {
	for n := keep + 1; ; n++ { // after keep was lowered there are several
		if err := os.Remove(oldLog(path, n)); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			break
		}
	}
	for n := keep - 1; n >= 1; n-- {
		if err := os.Rename(oldLog(path, n), oldLog(path, n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Rename(path, oldLog(path, 1))
}

// canReopenLog says that a signal would be understood. A process that is about to
// start has no handler for it yet and would end.
func (s *slot) canReopenLog() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc == nil || s.view.ServiceID != ""
}

// reopenLog tells the slot's origin to open its log anew. Without a process there
// is nothing to do: the next one opens it.
func (s *slot) reopenLog() error {
	s.mu.Lock()
	p, ready := s.proc, s.view.ServiceID != ""
	s.mu.Unlock()
	if p == nil || !ready {
		return nil
	}
	// The child may be a script that waits for the origin, and would die of the signal.
	if pid := s.sup.health.answering(s, p); pid != p.pid {
		return p.signalMember(pid, unix.SIGUSR1)
	}
	p.signal(unix.SIGUSR1)
	return nil
}

// answering is the process that answers for p: itself, or one that it started. It
// is 0 when that is not watched any more.
func (h *health) answering(s *slot, p *process) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.targets[s]; t != nil && t.proc == p {
		return t.pid
	}
	return 0
}

// signalMember reaches another process of the group. It is not our child, so only
// a descriptor makes sure that it still is the one whose group was looked at.
func (p *process) signalMember(pid int, sig unix.Signal) error {
	if pid <= 1 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil //nolint:nilerr // it has ended
	}
	defer unix.Close(fd)
	if group, err := unix.Getpgid(pid); err != nil || group != p.group {
		return nil //nolint:nilerr // the same
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal pid %d: %w", pid, err)
	}
	return nil
}
