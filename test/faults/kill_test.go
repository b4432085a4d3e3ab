package faults

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// felt is after how long a round is judged: a silence of a second would show.
const felt = 2 * time.Second

// TestQuiet is the load without a fault: what the machine itself does to it.
func TestQuiet(t *testing.T) {
	long(t)
	in, l, f := loaded(t, "none, ten seconds")
	f.rounds = 1
	l.mark()
	f.cpu = cores(10 * time.Second)
	report(t, 1, l.unharmed(nil, f))
	l.stop()
	f.checkBaseline(t, in)
}

// loaded is an instance with the whole load on it.
func loaded(t *testing.T, name string, flags ...string) (*instance, *load, *fault) {
	t.Helper()
	in := up(t, suite.size.origins, suite.size.origins, flags...)
	l, f := in.loaded(name)
	return in, l, f
}

func (in *instance) loaded(name string) (*load, *fault) {
	in.t.Helper()
	f := figures.fault(name)
	// What a first load leaves for the next one (buffers, threads) is no leak.
	newLoad(in.t, in, suite.size, f).stop()
	f.before = in.idle()
	l := newLoad(in.t, in, suite.size, f)
	f.cpu = cores(2 * time.Second)
	return l, f
}

// repeat runs a round as often as was asked for, each on an instance that is whole
// again, and ends with N4.
func repeat(t *testing.T, in *instance, l *load, f *fault, run func(round int) (wrong []string)) {
	t.Helper()
	for round := range suite.rounds {
		f.rounds++
		report(t, round+1, run(round))
		in.waitReady(suite.size.origins)
		l.awaitFrames(t, 10*time.Second)
	}
	l.stop()
	f.checkBaseline(t, in)
}

func TestKillOne(t *testing.T) {
	long(t)
	killOrigins(t, "kill -9 of one origin", 1)
}

func TestKillEighth(t *testing.T) {
	long(t)
	killOrigins(t, "kill -9 of an eighth of the origins", max(1, suite.size.origins/8))
}

func TestKillQuarter(t *testing.T) {
	long(t)
	killOrigins(t, "kill -9 of a quarter of the origins", max(1, suite.size.origins/4))
}

func killOrigins(t *testing.T, name string, n int) {
	in, l, f := loaded(t, name)
	repeat(t, in, l, f, func(round int) []string { return killRound(in, l, f, in.victims(round*n, n)) })
}

// victims are n origins, others in every round.
func (in *instance) victims(from, n int) (found []originStatus) {
	in.t.Helper()
	all := in.mustStatus().current()
	for i := range n {
		found = append(found, all[(from+i)%len(all)])
	}
	return found
}

// namesOf are the streams of origins.
func (in *instance) namesOf(origins []originStatus) map[string]bool {
	in.t.Helper()
	streams := in.streams()
	hit := make(map[string]bool)
	for _, o := range origins {
		for _, name := range streams[o.ID] {
			hit[name] = true
		}
	}
	return hit
}

// killRound kills origins and says what went wrong after that.
func killRound(in *instance, l *load, f *fault, victims []originStatus) (wrong []string) {
	hit := in.namesOf(victims)
	before := in.mustStatus()
	deaths, err := watchDeaths(victims)
	if err != nil {
		return []string{err.Error()}
	}
	l.mark()
	for _, v := range victims {
		if err := syscall.Kill(v.PID, syscall.SIGKILL); err != nil {
			return []string{fmt.Sprintf("kill %s, pid %d: %v", v.ID, v.PID, err)}
		}
	}
	wrong = l.recover(hit, afterDeath, f)
	time.Sleep(time.Until(l.marked.Add(felt)))
	wrong = append(wrong, l.unharmed(hit, f)...)
	wrong = append(wrong, l.single()...)
	wrong = append(wrong, in.siblings(before, victims)...)
	for _, v := range victims {
		at, ok := in.logged(v.ID, "origin ended", l.marked)
		if !ok {
			wrong = append(wrong, "the log does not say that "+v.ID+" ended")
			continue
		}
		f.detected.add(at.Sub(l.marked))
		select {
		case died := <-deaths[v.ID]:
			f.died.add(died.Sub(l.marked))
			f.noticed.add(max(0, at.Sub(died)))
		default:
			wrong = append(wrong, "the kernel does not say that "+v.ID+" ended")
		}
	}
	return wrong
}

// watchDeaths says when the kernel tells that processes are dead: a killed one first
// has to be run once more, and to give back its memory.
func watchDeaths(victims []originStatus) (map[string]chan time.Time, error) {
	deaths := make(map[string]chan time.Time)
	for _, v := range victims {
		fd, err := unix.PidfdOpen(v.PID, 0)
		if err != nil {
			return nil, fmt.Errorf("pidfd of %s, pid %d: %w", v.ID, v.PID, err)
		}
		died := make(chan time.Time, 1)
		deaths[v.ID] = died
		go func() {
			defer unix.Close(fd)
			for {
				n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(felt.Milliseconds()))
				if err == unix.EINTR {
					continue
				}
				if n == 1 {
					died <- time.Now()
				}
				return
			}
		}()
	}
	return deaths, nil
}

// siblings proves that origins other than the victims are what they were.
func (in *instance) siblings(before status, victims []originStatus) (wrong []string) {
	in.t.Helper()
	hit := idsOf(victims)
	now := make(map[string]originStatus)
	for _, o := range in.mustStatus().Origins {
		now[o.ID] = o
	}
	for _, was := range before.Origins {
		if is := now[was.ID]; !hit[was.ID] && (is.PID != was.PID || is.State != was.State || is.Restarts != was.Restarts) {
			wrong = append(wrong, fmt.Sprintf("%s was not hit; before %+v, after %+v", was.ID, was, is))
		}
	}
	return wrong
}

func idsOf(origins []originStatus) map[string]bool {
	ids := make(map[string]bool)
	for _, o := range origins {
		ids[o.ID] = true
	}
	return ids
}
