package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// deafFor is longer than three misses in a row take, after which an origin that
	// hangs is killed.
	deafFor = 6500 * time.Millisecond
	// noticed bounds how long a probe takes to be missed, or answered again: a period
	// and a timeout, and what a busy machine adds.
	noticed = 5 * time.Second
)

// TestDeafAPI makes the API of an origin hear nothing, as one that is stuck, while its
// media goes on: the origin is degraded and kept, and nobody is cut.
func TestDeafAPI(t *testing.T) {
	long(t)
	in, l, f := loaded(t, "API of one origin dead, its media fine")
	if err := deafen(in.victims(0, 1)[0], false); err != nil {
		t.Skip("the sockets of an origin cannot be reached: ", err)
	}
	repeat(t, in, l, f, func(round int) []string { return deafRound(in, l, f, in.victims(round, 1)[0], round) })
}

func deafRound(in *instance, l *load, f *fault, victim originStatus, round int) (wrong []string) {
	before := in.mustStatus()
	fresh := newcomersAt(in.rtmp, fmt.Sprintf("deaf%d", round), 100*time.Millisecond)
	l.mark()
	if err := deafen(victim, true); err != nil {
		return append(fresh.end(f), err.Error())
	}
	for degraded := false; time.Since(l.marked) < deafFor; time.Sleep(20 * time.Millisecond) {
		switch now := in.origin(victim.ID); {
		case now.State == "degraded" && now.PID == victim.PID && strings.Contains(now.Reason, "API has not answered"):
			if !degraded {
				degraded = true
				f.detected.add(time.Since(l.marked))
			}
		case degraded || now.State != "ready" || time.Since(l.marked) > noticed:
			wrong = append(wrong, fmt.Sprintf("after %s %s is %+v, with degraded expected", ms(time.Since(l.marked)), victim.ID, now))
			time.Sleep(time.Until(l.marked.Add(deafFor)))
		}
	}
	wrong = append(wrong, l.unharmed(nil, f)...)
	wrong = append(wrong, fresh.end(f)...)
	if err := deafen(victim, false); err != nil && in.origin(victim.ID).PID == victim.PID {
		wrong = append(wrong, err.Error())
	}
	f.took.add(eventually(in.t, noticed, victim.ID+" is ready again", func() (bool, string) {
		now := in.origin(victim.ID)
		return now.State == "ready", fmt.Sprintf("%+v", now)
	}))
	wrong = append(wrong, l.single()...)
	return append(wrong, in.siblings(before, nil)...)
}

// deafen has the kernel drop all that comes to an origin's API, or no longer: to its
// listener and to the connections that it has.
func deafen(o originStatus, deaf bool) error {
	process, err := unix.PidfdOpen(o.PID, 0)
	if err != nil {
		return fmt.Errorf("descriptor of pid %d: %w", o.PID, err)
	}
	defer unix.Close(process)
	dir := fmt.Sprintf("/proc/%d/fd", o.PID)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	sockets := 0
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if what, _ := os.Readlink(filepath.Join(dir, e.Name())); err != nil || !strings.HasPrefix(what, "socket:") {
			continue
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err == unix.EBADF { //nolint:errorlint // a bare errno; it was closed just now
			continue
		}
		if err != nil {
			return fmt.Errorf("descriptor %d of pid %d: %w", number, o.PID, err)
		}
		if addr, err := unix.Getsockname(fd); err == nil && portOf(addr) == o.Ports.API {
			sockets++
			err = dropAll(fd, deaf)
			if err != nil {
				unix.Close(fd)
				return err
			}
		}
		unix.Close(fd)
	}
	if sockets == 0 {
		return fmt.Errorf("pid %d has no socket on port %d", o.PID, o.Ports.API)
	}
	return nil
}

func portOf(addr unix.Sockaddr) int {
	switch a := addr.(type) {
	case *unix.SockaddrInet4:
		return a.Port
	case *unix.SockaddrInet6:
		return a.Port
	}
	return 0
}

// dropAll sets or takes away a filter that lets no packet in. What a listener then
// accepts would inherit it, but nothing comes to be accepted.
func dropAll(fd int, drop bool) error {
	if drop {
		nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
		return os.NewSyscallError("SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing}))
	}
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	if err == unix.ENOENT { //nolint:errorlint // a bare errno; it has none
		return nil
	}
	return os.NewSyscallError("SO_DETACH_FILTER", err)
}
