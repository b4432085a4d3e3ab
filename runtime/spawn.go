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
	cmd    *exec.Cmd
	cpus   CPUSet
	nofile uint64
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
	r := spawnRequest{cmd: cmd, cpus: cpus, nofile: nofile, result: make(chan error, 1)}
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
func (s *Spawner) spawnThread() {
	goruntime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The main thread's affinity is what /proc shows as the whole process's,
		// and what a second reader may take for it; leave it alone. While this
		// goroutine holds it, the next one lands elsewhere.
		started := make(chan struct{})
		go func() {
			goruntime.LockOSThread()
			close(started)
			s.serve()
		}()
		<-started
		goruntime.UnlockOSThread()
		return
	}
	s.serve()
}

// serve never unlocks its thread, so that Go ends the thread along with it.
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
func start(r spawnRequest) error {
	hostMu.Lock()
	defer hostMu.Unlock()
	if len(r.cpus) > 0 {
		home, err := getAffinity(0)
		if err != nil {
			return fmt.Errorf("start %s: %w", r.cmd.Path, err)
		}
		if err := setAffinity(0, r.cpus); err != nil {
			return fmt.Errorf("start %s: %w", r.cmd.Path, err)
		}
		// A failure here (the cpuset cgroup shrank) leaves the thread on the
		// child's CPUs, which hurts only a later child that asks for no set.
		defer func() { _ = unix.SchedSetaffinityDynamic(0, mask(home)) }()
	}
	if err := startWithNofile(r.cmd, r.nofile); err != nil {
		return fmt.Errorf("start %s: %w", r.cmd.Path, err)
	}
	return nil
}
