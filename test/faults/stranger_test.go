package faults

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fatalWithin is from the fault to an origin that is said to be fatal: its first
// restart, half a second in which what is just going away may free the port, and a
// look at the descriptors of all processes for who has it.
const fatalWithin = 10 * time.Second

// TestStranger takes a port of a killed origin before that is started again: the
// origin is fatal and names who has it, nobody else notices, no client gets there, and
// the origin comes back by `restart` when the stranger is gone.
func TestStranger(t *testing.T) {
	long(t)
	needCommand(t, "restart")
	in, l, f := loaded(t, "a port of a killed origin taken by a stranger")
	repeat(t, in, l, f, func(round int) []string { return strangerRound(in, l, f, in.victims(round, 1)[0], round) })
}

func strangerRound(in *instance, l *load, f *fault, victim originStatus, round int) (wrong []string) {
	hit := in.namesOf([]originStatus{victim})
	before := in.mustStatus()
	port := victim.Ports.RTMP
	if round%2 == 1 {
		port = victim.Ports.API
	}
	took := make(chan *stranger)
	l.mark()
	go func() { took <- take(port, l.marked.Add(fatalWithin)) }()
	kill(in.t, victim.PID)
	s := <-took
	if s == nil {
		return []string{fmt.Sprintf("port %d of %s could not be taken", port, victim.ID)}
	}
	defer s.leave()
	wrong = l.recover(hit, afterDeath, f)
	wrong = append(wrong, in.awaitFatal(victim.ID, os.Getpid(), l.marked, f)...)
	if _, err := in.command("restart", victim.ID); err == nil {
		wrong = append(wrong, "`restart` succeeds while a stranger has the port")
	}
	wrong = append(wrong, in.awaitFatal(victim.ID, os.Getpid(), time.Now(), nil)...)
	time.Sleep(time.Until(l.marked.Add(felt)))
	wrong = append(wrong, l.unharmed(hit, f)...)
	wrong = append(wrong, l.single()...)
	wrong = append(wrong, in.siblings(before, []originStatus{victim})...)
	if at := s.leave(); len(at) > 0 && at[len(at)-1].After(l.marked.Add(time.Second)) {
		wrong = append(wrong, fmt.Sprintf("%d clients came to the stranger on port %d, the last after %s", len(at), port, ms(at[len(at)-1].Sub(l.marked))))
	}
	back, err := in.bringBack(victim.ID)
	f.took.add(back)
	return append(wrong, err...)
}

// awaitFatal waits until an origin is fatal because of a pid.
func (in *instance) awaitFatal(id string, pid int, since time.Time, f *fault) (wrong []string) {
	in.t.Helper()
	for {
		now := in.origin(id)
		if now.State == "fatal" && strings.Contains(now.Reason, fmt.Sprintf("is held by pid %d (", pid)) {
			if f != nil {
				f.detected.add(time.Since(since))
			}
			return nil
		}
		if time.Since(since) > fatalWithin {
			return []string{fmt.Sprintf("%s is %s because of %q, it should be fatal because of pid %d", id, now.State, now.Reason, pid)}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// bringBack restarts an origin that was fatal, and says how long that took.
func (in *instance) bringBack(id string) (took time.Duration, wrong []string) {
	in.t.Helper()
	start := time.Now()
	out, _ := in.command("restart", id) // it does not wait for one that was fatal
	for {
		now := in.origin(id)
		took = time.Since(start)
		if now.State == "ready" {
			return took, nil
		}
		if took > fatalWithin {
			return took, []string{fmt.Sprintf("%s is %s after `restart`: %s; the command said %.300s", id, now.State, now.Reason, out)}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stranger is a process with a port that is not its own. It is this process, which
// would not survive to be signalled.
type stranger struct {
	ln   net.Listener
	done chan struct{}
	at   []time.Time // when clients came; valid after done
}

// take binds a port as soon as it is free, and shares it with nobody; nil when it is
// not free in time.
func take(port int, limit time.Time) *stranger {
	for time.Now().Before(limit) {
		ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		s := &stranger{ln: ln, done: make(chan struct{})}
		go s.run()
		return s
	}
	return nil
}

func (s *stranger) run() {
	defer close(s.done)
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.at = append(s.at, time.Now())
		conn.Close()
	}
}

// leave frees the port and says when clients came.
func (s *stranger) leave() []time.Time {
	s.ln.Close()
	<-s.done
	return s.at
}

// TestLeftover kills srs-proxy and takes away what proves that one of the origins is
// its own: the next one adopts all others, leaves that one alone and says who has its
// ports; the origin is back by `restart` when that process is gone.
func TestLeftover(t *testing.T) {
	long(t)
	needCommand(t, "restart")
	in, l, f := loaded(t, "kill -9 of srs-proxy, the ports of one origin held by a leftover that cannot be proved")
	repeat(t, in, l, f, func(round int) []string { return leftoverRound(in, l, f, in.victims(round, 1)[0]) })
}

func leftoverRound(in *instance, l *load, f *fault, victim originStatus) (wrong []string) {
	victims := []originStatus{victim}
	before := in.mustStatus()
	l.mark()
	in.kill()
	if err := os.Remove(filepath.Join(victim.WorkDir, "srs.pid")); err != nil {
		return []string{err.Error()}
	}
	start := time.Now()
	in.start()
	wrong = in.adopted(l, f, before, victims)
	wrong = append(wrong, in.awaitFatal(victim.ID, victim.PID, start, f)...)
	if err := syscall.Kill(victim.PID, 0); err != nil {
		wrong = append(wrong, fmt.Sprintf("the leftover, pid %d: %v", victim.PID, err))
	}
	// It is our child now.
	if err := errors.Join(syscall.Kill(victim.PID, syscall.SIGKILL), awaitChild(victim.PID)); err != nil {
		return append(wrong, fmt.Sprintf("end the leftover, pid %d: %v", victim.PID, err))
	}
	_, err := in.bringBack(victim.ID) // what is in the table is the adoption
	return append(wrong, err...)
}

func awaitChild(pid int) error {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("it had ended before, by %v", status.Signal())
	}
	return nil
}
