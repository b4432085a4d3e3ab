package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"srs-proxy/runtime"
)

// process is the leader of a process group of its own, from its start until
// nothing of the group is left: our child, or one of an earlier run's that was
// adopted.
//
// A child's pid is a name that can be trusted only until the child is reaped, so
// everything that signals or reaps it holds mu and looks at reaped first. The pid
// of an adopted process is a name that others reap: that one is reached through
// its descriptor alone (adopted).
type process struct {
	pid        int
	group      int
	startTicks uint64
	started    time.Time
	out        *output
	// adopted is nil for our own children.
	adopted *adopted
	// cage is its cgroup; nil without one.
	cage *cage

	// exited is closed when the main process is dead. The rest of its group may
	// still live for a moment.
	exited chan struct{}
	// gone is closed when the group is empty, all of it is reaped and the last of
	// the output is kept; exit holds then.
	gone chan struct{}
	exit *ExitError
	// survivors says what of the group did not die; empty in any sane world.
	survivors string

	mu     sync.Mutex // guards the following
	reaped bool
	killed bool // by us, with SIGKILL
	status unix.WaitStatus
}

// launch says what to start and where.
type launch struct {
	argv []string
	env  []string
	dir  string
	// output is the name of the file in dir for what it prints.
	output string
	born   runtime.StartOptions
}

// start spawns a process. Its stdin is /dev/null; what it prints goes to a file
// that outs bounds, or nowhere when none can be made: a full disk is no reason to
// have no origin.
func start(spawner *runtime.Spawner, outs *outputs, l launch) (*process, error) {
	cmd := exec.Command(l.argv[0], l.argv[1:]...) //nolint:noctx // it is ended by signals, not by a context
	cmd.Env, cmd.Dir = l.env, l.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := newOutput(filepath.Join(l.dir, l.output))
	if err == nil {
		cmd.Stdout, cmd.Stderr = out.f, out.f
	} else {
		out = &output{kept: []byte(err.Error() + "\n")}
	}
	if err := spawner.StartWith(cmd, l.born); err != nil {
		out.end()
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ENOEXEC) {
			return nil, fmt.Errorf("%w: %w", ErrNoBinary, err)
		}
		return nil, err
	}
	p := &process{
		pid:     cmd.Process.Pid,
		group:   cmd.Process.Pid,
		started: time.Now(),
		out:     out,
		exited:  make(chan struct{}),
		gone:    make(chan struct{}),
	}
	// From here on the child is waited for by its group (see reap), so the
	// library's handle is of no use.
	_ = cmd.Process.Release()
	// It cannot be reaped yet, so its /proc entry is there.
	p.startTicks, _ = runtime.StartTime(p.pid)
	outs.add(out)
	go p.attend(outs)
	return p, nil
}

// attend waits for the end of the main process and clears up behind it.
func (p *process) attend(outs *outputs) {
	defer close(p.gone)
	defer outs.end(p.out)
	waitExit(p.pid)
	close(p.exited)
	// SRS forks ffmpeg into its own group. The dead leader is not reaped yet, so
	// the group's number still is ours and no stranger's.
	p.signalGroup(unix.SIGKILL)
	deadline := time.Now().Add(killPatience)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		p.reap()
		if unix.Kill(-p.group, 0) == unix.ESRCH { //nolint:errorlint // a bare errno
			break
		}
		if time.Now().After(deadline) {
			p.survivors = fmt.Sprintf("processes of group %d survive SIGKILL", p.group)
			break
		}
		time.Sleep(pause)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exit = exitError(p.status)
}

// waitExit returns when a child is dead and leaves it to be reaped. With a pidfd
// the wait is in Go's poller; without (Linux before 5.3) it takes a thread.
func waitExit(pid int) {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if err == nil {
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		if raw, err := f.SyscallConn(); err == nil && raw.Read(func(uintptr) bool { return isDead(pid) }) == nil {
			return
		}
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// isDead looks at an unreaped child.
func isDead(pid int) bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	return info.Signo != 0 || errors.Is(err, unix.ECHILD)
}

// reap takes the dead of the group: the main process, and what it forked and
// left to us, the subreaper. It waits for nobody outside of the group, so it
// steals no child of another package.
func (p *process) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-p.group, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid == 0:
			return
		case pid == p.pid:
			p.reaped, p.status = true, status
		}
	}
}

// reapStrays is reap for the time while the main process lives. What an adopted
// one leaves behind is not ours to reap.
func (p *process) reapStrays() {
	if p.adopted != nil {
		return
	}
	select {
	case <-p.exited: // attend does it, after it killed the group
	default:
		if !isDead(p.pid) {
			p.reap()
		}
	}
}

// signal reaches the main process, if it is still there.
func (p *process) signal(sig unix.Signal) {
	p.noteKill(sig)
	if p.adopted != nil {
		p.adopted.signal(sig)
		return
	}
	p.kill(p.pid, sig)
}

// signalGroup reaches the whole group as long as its leader is not reaped, or is
// adopted.
func (p *process) signalGroup(sig unix.Signal) {
	p.noteKill(sig)
	if p.adopted != nil {
		p.adopted.signalGroup(sig)
		return
	}
	p.kill(-p.group, sig)
}

// noteKill remembers that it was we who killed the main process.
func (p *process) noteKill(sig unix.Signal) {
	select {
	case <-p.exited:
		return
	default:
	}
	if sig == unix.SIGKILL {
		p.mu.Lock()
		p.killed = true
		p.mu.Unlock()
	}
}

func (p *process) kill(target int, sig unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(target, sig) // ESRCH is what we want, and our own children are never EPERM
	}
}

func exitError(status unix.WaitStatus) *ExitError {
	if status.Signaled() {
		return &ExitError{Code: -1, Signal: status.Signal()}
	}
	return &ExitError{Code: status.ExitStatus()}
}

// end stops a process: SIGQUIT, SIGTERM after term, SIGKILL after kill; a hurry
// goes to SIGTERM at once and to SIGKILL soon after. It returns when exited is
// closed, or false when even SIGKILL did not help.
func end(exited, hurry <-chan struct{}, signal func(unix.Signal), term, kill time.Duration) bool {
	signal(unix.SIGQUIT)
	terminate, kills := time.NewTimer(term), time.NewTimer(kill)
	defer terminate.Stop()
	defer kills.Stop()
	for {
		select {
		case <-exited:
			return true
		case <-hurry:
			hurry = nil
			terminate.Stop()
			kills.Reset(min(hurryKill, kill))
			signal(unix.SIGTERM)
		case <-terminate.C:
			signal(unix.SIGTERM)
		case <-kills.C:
			signal(unix.SIGKILL)
			select {
			case <-exited:
				return true
			case <-time.After(killPatience):
				return false
			}
		}
	}
}
