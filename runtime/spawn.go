package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrSpawnerClosed is what Start returns after Close.
var ErrSpawnerClosed = errors.New("the spawner is closed")

// Spawner starts children that are on their CPUs from their first instruction.
//
// A child inherits the affinity of the thread that forks it. So one goroutine,
// locked to a thread of its own, does affinity, fork, exec, and its old affinity
// again, for all children one after the other (a fork and exec is about a
// millisecond). Threads that Go starts never descend from a locked thread, so
// none of ours inherits a child's CPUs.
//
// The thread lives until Close. That matters to children with SysProcAttr.Pdeathsig,
// which the kernel sends when the thread that forked them ends: they get it at
// Close or at our death, not at a whim of the scheduler. Nothing here sets it.
type Spawner struct {
	requests  chan spawnRequest
	closed    chan struct{}
	closeOnce sync.Once
	ended     chan struct{}
}

type spawnRequest struct {
	cmd *exec.Cmd
	StartOptions
	result chan error
}

// NewSpawner starts the thread.
func NewSpawner() *Spawner {
	s := newSpawner()
	go s.spawnThread()
	return s
}

func newSpawner() *Spawner {
	return &Spawner{
		requests: make(chan spawnRequest),
		closed:   make(chan struct{}),
		ended:    make(chan struct{}),
	}
}

// Start is cmd.Start with the child on cpus (empty: wherever we may run) and with
// nofile as its soft RLIMIT_NOFILE (0: ours), both from its first instruction;
// see nofile.go for the one exception. When it returns an error no child is left.
func (s *Spawner) Start(cmd *exec.Cmd, cpus CPUSet, nofile uint64) error {
	return s.StartWith(cmd, StartOptions{CPUs: cpus, Nofile: nofile})
}

// StartWith is Start with more to choose; see limits.go for what is in force
// from the child's first instruction on, and from when the rest is.
func (s *Spawner) StartWith(cmd *exec.Cmd, o StartOptions) error {
	r := spawnRequest{cmd: cmd, StartOptions: o, result: make(chan error, 1)}
	select {
	case s.requests <- r:
		return <-r.result
	case <-s.closed:
		return ErrSpawnerClosed
	}
}

// Close ends the thread; children live on. It waits for a Start in progress.
func (s *Spawner) Close() {
	s.closeOnce.Do(func() { close(s.closed) })
	<-s.ended
}

// spawnThread serves the requests on a thread of its own.
func (s *Spawner) spawnThread() { runLocked(s.serve) }

// onThread runs f on a thread that ends with it, and returns after f.
func onThread(f func()) {
	done := make(chan struct{})
	go runLocked(func() {
		defer close(done)
		f()
	})
	<-done
}

// runLocked runs f on the thread of this goroutine, which must end after it: it
// never unlocks the thread, so that Go ends the thread along with the goroutine.
func runLocked(f func()) {
	goruntime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		f()
		return
	}
	// The main thread's affinity is what /proc shows as the whole process's,
	// and what a second reader may take for it; leave it alone. While this
	// goroutine holds it, the next one lands elsewhere.
	started := make(chan struct{})
	go func() {
		goruntime.LockOSThread()
		close(started)
		f()
	}()
	<-started
	goruntime.UnlockOSThread()
}

func (s *Spawner) serve() {
	defer close(s.ended)
	for {
		select {
		case r := <-s.requests:
			r.result <- start(r)
		case <-s.closed:
			return
		}
	}
}

// start runs on the locked thread.
func start(r spawnRequest) (err error) {
	hostMu.Lock()
	defer hostMu.Unlock()
	switch {
	case !r.ownThread():
		err = r.start()
	case r.cmd.SysProcAttr != nil && r.cmd.SysProcAttr.Pdeathsig != 0:
		err = ErrPdeathsig
	default:
		onThread(func() { err = r.start() })
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", r.cmd.Path, err)
	}
	return nil
}

// start makes the calling thread what the child is to be, forks, and makes it
// what it was as far as that is possible.
func (r spawnRequest) start() error {
	home, err := getAffinity(0)
	if err != nil {
		return err
	}
	// Groups first: a thread that enters a cpuset gets all of its CPUs.
	restore, err := r.mark()
	if err != nil {
		return err
	}
	defer restore()
	if len(r.CPUs) > 0 {
		if err := setAffinity(0, r.CPUs); err != nil {
			return err
		}
		// A failure here (the cpuset cgroup shrank) leaves the thread on the
		// child's CPUs, which hurts only a later child that asks for no set.
		defer func() { _ = unix.SchedSetaffinityDynamic(0, mask(home)) }()
	}
	r.aim(r.cmd)
	if err := startWithNofile(r.cmd, r.Nofile); err != nil {
		return err
	}
	if err := r.finish(r.cmd.Process.Pid); err != nil {
		kill(r.cmd)
		return err
	}
	return nil
}
