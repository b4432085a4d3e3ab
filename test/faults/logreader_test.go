package faults

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// talkers are clients that come and go, with two lines in the log each: more than a
// pipe holds, and who copies from it.
const talkers = 400

// TestLogReader stops who reads the log of srs-proxy, until the pipe between them is
// full, and kills an origin then: nobody waits for the reader.
func TestLogReader(t *testing.T) {
	long(t)
	in, l, f := loaded(t, "log reader stopped, and kill -9 of one origin")
	repeat(t, in, l, f, func(round int) []string { return logReaderRound(in, l, f, in.victims(round, 1)[0], round) })
}

func logReaderRound(in *instance, l *load, f *fault, victim originStatus, round int) (wrong []string) {
	victims := []originStatus{victim}
	hit := in.namesOf(victims)
	before := in.mustStatus()
	reading := in.log.stop()
	defer reading()
	l.mark()
	wrong = append(wrong, in.chatter(fmt.Sprintf("chat%d", round))...)
	wrong = append(wrong, l.unharmed(nil, f)...)
	l.mark()
	kill(in.t, victim.PID)
	wrong = append(wrong, l.recover(hit, afterDeath, f)...)
	fresh := newcomersAt(in.rtmp, fmt.Sprintf("unread%d", round), 100*time.Millisecond)
	time.Sleep(time.Until(l.marked.Add(felt)))
	wrong = append(wrong, l.unharmed(hit, f)...)
	if now := in.origin(victim.ID); now.PID == 0 || now.PID == victim.PID {
		wrong = append(wrong, fmt.Sprintf("%s was not started again: %s %s", victim.ID, now.State, now.Reason))
	}
	wrong = append(wrong, l.single()...)
	wrong = append(wrong, in.siblings(before, victims)...)
	reading()
	wrong = append(wrong, fresh.end(f)...)
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if at, ok := in.logged(victim.ID, "origin ended", l.marked); ok { // read late, and written in time
			f.detected.add(at.Sub(l.marked))
			return wrong
		}
		if time.Since(start) > 2*time.Second {
			return append(wrong, "the log does not say that "+victim.ID+" ended")
		}
	}
}

// chatter is talkers, a few at a time.
func (in *instance) chatter(prefix string) (wrong []string) {
	const atOnce = 8
	var tasks sync.WaitGroup
	failed := make([]error, atOnce)
	for k := range atOnce {
		tasks.Go(func() {
			for i := range talkers / atOnce {
				peer, err := openPublish(in.rtmp, fmt.Sprintf("%s-%d-%d", prefix, k, i))
				if err != nil {
					failed[k] = err
					return // the others would wait as long
				}
				peer.conn.Close()
			}
		})
	}
	tasks.Wait()
	if err := errors.Join(failed...); err != nil {
		return []string{fmt.Sprintf("a client was not let in while nobody read the log: %v", err)}
	}
	return nil
}
