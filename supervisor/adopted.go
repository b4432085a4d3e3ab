package supervisor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// adopted is the hold on a process that somebody else, who is gone, has started.
//
// It is init's child, or that of a subreaper: whoever it is reaps it whenever he
// likes, after which its pid may be anybody's. So it is never named by its pid
// after it was proved to be ours (proof.go), but by a descriptor (pidfd_open(2))
// that was opened before the proof began and stands for this process and no other.
type adopted struct {
	fd         *os.File
	pid, group int
	startTicks uint64
	// workDir is in the mark that it and what it forked carry (strays.go).
	workDir string
}

// openPID takes hold of a process, living or not yet reaped.
func openPID(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that Go polls it
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("pidfd", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// isOver says that the process has ended, reaped or not (pidfd_open(2): "readable
// when the process terminates").
func isOver(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

func (a *adopted) alive() bool {
	over := true
	_ = onDescriptor(a.fd, func(fd int) error { over = isOver(fd); return nil }) // a closed one is over
	return !over
}

// wait returns when the process has ended.
func (a *adopted) wait() {
	if raw, err := a.fd.SyscallConn(); err == nil && raw.Read(func(fd uintptr) bool { return isOver(int(fd)) }) == nil {
		return
	}
	for a.alive() { // without a poller, which there always is
		time.Sleep(10 * time.Millisecond)
	}
}

// signal reaches this process or, after its end, nobody.
func (a *adopted) signal(sig unix.Signal) {
	_ = onDescriptor(a.fd, func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
}

// signalGroup reaches the process, and whatever of its group it forked.
func (a *adopted) signalGroup(sig unix.Signal) {
	a.signal(sig)
	a.signalMembers(sig)
}

// signalMembers reaches what the process forked into its group, and says how many
// that were. The group's number may be a stranger's by now, so each is looked at
// by itself.
func (a *adopted) signalMembers(sig unix.Signal) (found int) {
	return signalMarked(sig, func(pid int, p procStat) bool {
		return pid != a.pid && p.group == a.group
	}, func(workDir string) bool { return workDir == a.workDir })
}

// exitStatus says how the process ended, as well as it can be known.
func (a *adopted) exitStatus() *ExitError {
	// After a reparenting it can be our child after all, where we are the subreaper
	// of who started it. Then it is not reaped yet, and ours to reap.
	var status unix.WaitStatus
	err := onDescriptor(a.fd, func(fd int) error {
		return unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	})
	if err == nil {
		if pid, err := unix.Wait4(a.pid, &status, unix.WNOHANG, nil); err == nil && pid == a.pid {
			return exitError(status)
		}
	}
	// Until it is reaped it shows in /proc. From then on Linux 6.15 keeps it for
	// whoever holds a descriptor.
	for range 20 {
		if stat, err := readProcStat(a.pid); err == nil && stat.dead() && stat.startTicks == a.startTicks {
			return exitError(stat.exit)
		}
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		err := onDescriptor(a.fd, func(fd int) error { return unix.IoctlPidfdInfo(fd, &info) })
		switch {
		case err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0:
			return exitError(unix.WaitStatus(info.Exit_code))
		case err != nil && !errors.Is(err, unix.ESRCH):
			return &ExitError{Code: -1, Adopted: true}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return &ExitError{Code: -1, Adopted: true}
}

// adopt makes a process of what was proved to be ours.
func adopt(a *adopted, outs *outputs, out *output) *process {
	p := &process{
		pid:        a.pid,
		group:      a.group,
		startTicks: a.startTicks,
		started:    startedAt(a.startTicks, time.Now()),
		out:        out,
		adopted:    a,
		exited:     make(chan struct{}),
		gone:       make(chan struct{}),
	}
	outs.add(out)
	go p.attendAdopted(outs)
	return p
}

// attendAdopted is attend for a process that is not our child.
func (p *process) attendAdopted(outs *outputs) {
	defer close(p.gone)
	defer outs.end(p.out)
	defer p.adopted.fd.Close()
	p.adopted.wait()
	close(p.exited)
	p.exit = p.adopted.exitStatus()
	deadline := time.Now().Add(killPatience)
	for pause := time.Millisecond; p.adopted.signalMembers(unix.SIGKILL) > 0; pause = min(2*pause, 50*time.Millisecond) {
		if time.Now().After(deadline) {
			p.survivors = fmt.Sprintf("processes of group %d survive SIGKILL", p.group)
			break
		}
		time.Sleep(pause)
	}
}

// userHz is the unit of start times in /proc: 100 a second on all that Go runs on.
const userHz = 100

// startedAt is when a process started that did so at those ticks after the boot.
func startedAt(ticks uint64, now time.Time) time.Time {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return now
	}
	age := time.Duration(up.Nano()) - time.Duration(ticks)*(time.Second/userHz)
	return now.Add(-max(0, age))
}
