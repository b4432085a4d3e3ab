package faults

import (
	"fmt"
	"testing"
	"time"
)

// adoptWithin is from the start of the next supervisor to all origins ready.
const adoptWithin = 3 * time.Second

// TestKillSupervisor kills srs-proxy under load and starts it again: the origins are
// the same processes, and the streams come back.
func TestKillSupervisor(t *testing.T) {
	long(t)
	in, l, f := loaded(t, "kill -9 of srs-proxy, and `up` again")
	everything := make(map[string]bool)
	for _, p := range l.pubs {
		everything[p.name] = true
	}
	for round := range suite.rounds {
		f.rounds++
		before := in.mustStatus()
		l.mark()
		in.kill()
		in.start()
		took := in.waitReady(suite.size.origins)
		f.took.add(took)
		wrong := in.siblings(before, nil)
		if took > adoptWithin {
			wrong = append(wrong, fmt.Sprintf("adopted after %s, %s are allowed", ms(took), adoptWithin))
		}
		// The clients have to find the new process first.
		b := afterDeath
		b.accepted += took
		wrong = append(wrong, l.recover(everything, b, f)...)
		wrong = append(wrong, in.sameServices(before)...)
		wrong = append(wrong, l.single()...)
		report(t, round+1, wrong)
		l.awaitFrames(t, 10*time.Second)
	}
	l.stop()
	f.checkBaseline(t, in)
}

// kill ends srs-proxy as nothing can prevent.
func (in *instance) kill() {
	in.t.Helper()
	kill(in.t, in.pid())
	<-in.ended
}

// sameServices proves that the origins did not start again: SRS's service id is
// random for each process.
func (in *instance) sameServices(before status) (wrong []string) {
	in.t.Helper()
	now := make(map[string]originStatus)
	for _, o := range in.mustStatus().Origins {
		now[o.ID] = o
	}
	for _, was := range before.Origins {
		if is := now[was.ID]; is.ServiceID != was.ServiceID || is.ServiceID == "" {
			wrong = append(wrong, fmt.Sprintf("%s has service id %q, and had %q", was.ID, is.ServiceID, was.ServiceID))
		}
	}
	return wrong
}
