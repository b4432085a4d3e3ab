package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

// stateFormat changes when the meaning of the file does.
const stateFormat = 1

// stateLimit is far above what a thousand origins need.
const stateLimit = 4 << 20

// savedState is what a next run needs to know of this one if it ends without
// stopping its origins.
type savedState struct {
	Format int    `json:"format"`
	BootID string `json:"boot_id"`
	// PID of the supervisor.
	PID     int           `json:"pid"`
	Command []string      `json:"command"`
	Origins []savedOrigin `json:"origins"`
	// Drained are the places that the operator has drained.
	Drained []string `json:"drained,omitempty"`
}

// savedOrigin names a process for ever: a pid alone is given to another process
// sooner or later, with its start time and the boot id it is not.
type savedOrigin struct {
	Slot       int           `json:"slot"`
	ID         string        `json:"id"`
	PID        int           `json:"pid"`
	StartTicks uint64        `json:"start_ticks"`
	Ports      srsconf.Ports `json:"ports"`
	PIDFile    string        `json:"pid_file"`
	ServiceID  string        `json:"service_id,omitempty"`
	ConfigHash string        `json:"config_hash"`
	Restarts   int           `json:"restarts"`
	// Role of the process in its place.
	Role Role `json:"role,omitempty"`
	// Program is the file that it runs, as /proc/PID/exe says.
	Program  string `json:"program,omitempty"`
	LastExit string `json:"last_exit,omitempty"`
}

// rank is lower for what serves the place.
func (o savedOrigin) rank() int {
	switch o.Role {
	case Current:
		return 0
	case Successor:
		return 1
	}
	return 2
}

func statePath(dir string) string { return filepath.Join(dir, "state.json") }

// loadState reads the state file; without one the state is empty. A file that
// makes no sense is moved aside and otherwise ignored: nobody is signalled, let
// alone killed, on its word.
func loadState(dir string, log *slog.Logger) savedState {
	path := statePath(dir)
	state, err := readState(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return state
	}
	aside := path + ".bad"
	if renameErr := os.Rename(path, aside); renameErr != nil {
		aside = "it stays where it is: " + renameErr.Error()
	}
	log.Warn("state file is unusable; going on without", "file", path, keyError, err, "kept_as", aside)
	return savedState{}
}

func readState(path string) (savedState, error) {
	// What stands there may be anything: a link, a FIFO.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return savedState{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return savedState{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > stateLimit {
		return savedState{}, fmt.Errorf("not a file of ours: %s, %d bytes", info.Mode(), info.Size())
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return savedState{}, fmt.Errorf("others than we may have written it: %s", info.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, stateLimit))
	if err != nil {
		return savedState{}, err
	}
	var state savedState
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&state); err != nil {
		return savedState{}, err
	}
	if state.Format != stateFormat {
		return savedState{}, fmt.Errorf("format %d in place of %d", state.Format, stateFormat)
	}
	for _, o := range state.Origins {
		if o.PID <= 1 || o.StartTicks == 0 || o.Slot < 0 {
			return savedState{}, fmt.Errorf("origin %q: pid %d, slot %d", o.ID, o.PID, o.Slot)
		}
	}
	return state, nil
}

// sameProcess says that a process still is the one that started then, and alive.
func sameProcess(pid int, startTicks uint64) bool {
	var sampler runtime.ProcSampler
	if err := sampler.Open(pid); err != nil {
		return false
	}
	defer func() { _ = sampler.Close() }()
	// The open descriptor holds on to one process: if the start time fits now and
	// the sample below succeeds, both are of that one.
	if ticks, err := runtime.StartTime(pid); err != nil || ticks != startTicks {
		return false
	}
	u, err := sampler.Sample()
	return err == nil && u.State != 'Z' && u.State != 'X'
}

// leftoverError names origins of an earlier run and how to end them.
func leftoverError(left []savedOrigin) error {
	names := make([]string, 0, len(left))
	pids := make([]string, 0, len(left))
	for _, o := range left {
		names = append(names, fmt.Sprintf("%s (pid %d, ports %d-%d)", o.ID, o.PID, o.Ports.RTMP, o.Ports.Exporter))
		pids = append(pids, strconv.Itoa(o.PID))
	}
	const shown = 8
	if len(names) > shown {
		names = append(names[:shown], fmt.Sprintf("%d more", len(names)-shown))
	}
	return fmt.Errorf("%w: %s; stop them with: kill %s", ErrLeftovers, strings.Join(names, ", "), strings.Join(pids, " "))
}

// savePause lets the changes of a burst share one write.
const savePause = 20 * time.Millisecond

// keepState writes the state file whenever something changed, until ended is
// closed. A clean end leaves no file.
func (s *Supervisor) keepState(ended <-chan struct{}) {
	for {
		select {
		case <-s.dirty:
			if err := s.saveState(); err != nil {
				s.log.Error("state file not written: a next run would not know these origins", keyError, err)
			}
		case reply := <-s.saves:
			reply <- s.saveState()
			continue
		case <-ended:
			if state := s.state(); len(state.Origins)+len(state.Drained) > 0 {
				if err := s.saveState(); err != nil {
					s.log.Error("state file not written", keyError, err)
				}
				return
			}
			if err := os.Remove(statePath(s.cfg.StateDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.log.Warn("state file not removed", keyError, err)
			}
			return
		}
		select {
		case <-time.After(savePause):
		case <-ended:
		}
	}
}

// changed says that the state file is out of date.
func (s *Supervisor) changed() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// saved returns when the state of now is in the file.
func (s *Supervisor) saved(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case s.saves <- reply:
		return <-reply
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.ending: // what comes now is saved at the end
		return nil
	}
}

func (s *Supervisor) saveState() error {
	text, err := json.MarshalIndent(s.state(), "", " ")
	if err != nil {
		return err
	}
	return srsconf.WriteFile(statePath(s.cfg.StateDir), append(text, '\n'))
}

func (s *Supervisor) state() savedState {
	state := savedState{Format: stateFormat, BootID: s.bootID, PID: os.Getpid(), Command: s.config().Command}
	for _, slot := range s.all() {
		if o, ok := slot.saved(); ok {
			state.Origins = append(state.Origins, o)
		}
	}
	for _, l := range s.superfluous() {
		state.Origins = append(state.Origins, l.entry())
	}
	for _, slot := range s.places() {
		if slot.desired() == Drain {
			state.Drained = append(state.Drained, s.cfg.id(slot.index, 0))
		}
	}
	return state
}
