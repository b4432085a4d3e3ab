package supervisor

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errors that callers branch on. All of them end a start for good: trying again
// without a change of configuration gives the same.
var (
	// ErrLocked says that another supervisor uses the state dir.
	ErrLocked = errors.New("the state dir is in use")
	// ErrLeftovers says that origins of an earlier run still live.
	ErrLeftovers = errors.New("origins of an earlier run still live")
	// ErrNoBinary says that the program to start does not exist or cannot be run.
	ErrNoBinary = errors.New("the origin's program cannot be run")
	// ErrConfig says that a config could not be made or that the origin refuses it.
	ErrConfig = errors.New("the origin's config is refused")
	// ErrPortBusy says that somebody else has a port of an origin.
	ErrPortBusy = errors.New("port in use")
	// ErrNoOriginStarts says that every origin failed again and again before any was ready.
	ErrNoOriginStarts = errors.New("no origin starts")
	// ErrNotRunning says that the supervisor does not run, or is ending.
	ErrNotRunning = errors.New("the supervisor does not run")
	// ErrNeedsRestart says that something cannot change while the supervisor runs.
	ErrNeedsRestart = errors.New("it takes a restart of srs-proxy to change this")
	// ErrUnknownOrigin says that there is no slot of that name.
	ErrUnknownOrigin = errors.New("no such origin")
)

// isFatal says that another try would fail the same way.
func isFatal(err error) bool {
	return errors.Is(err, ErrNoBinary) || errors.Is(err, ErrConfig) || errors.Is(err, ErrPortBusy)
}

// ExitError says how a process ended.
type ExitError struct {
	// Code is the exit code, or -1 when a signal ended it or it is not known.
	Code int
	// Signal that ended it, or 0.
	Signal syscall.Signal
	// OOM says that the kernel killed it for want of memory; only a cgroup tells.
	OOM bool
	// Adopted says that it is not known: only a parent learns it for sure, and the
	// process was adopted from an earlier run.
	Adopted bool
}

func (e *ExitError) Error() string {
	if e.Adopted {
		return "ended, how is unknown because it was adopted"
	}
	if e.OOM {
		return "killed by SIGKILL: out of memory"
	}
	if e.Signal != 0 {
		return "killed by " + unix.SignalName(e.Signal)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}
