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
	repeat(t, in, l, f, func(int) []string {
		before := in.mustStatus()
		l.mark()
		in.kill()
		in.start()
		return in.adopted(l, f, before, nil)
	})
}

// adopted proves that the srs-proxy that was just started goes on with all origins but
// the victims, and that the streams come back.
func (in *instance) adopted(l *load, f *fault, before status, victims []originStatus) (wrong []string) {
	in.t.Helper()
	want := suite.size.origins - len(victims)
	took := eventually(in.t, readyWithin, fmt.Sprintf("%d origins ready", want), func() (bool, string) {
		s, err := in.status()
		return err == nil && s.Totals.Ready >= want, fmt.Sprintf("error %v, %d ready, not ready: %q", err, s.Totals.Ready, s.unready())
	})
	f.took.add(took)
	wrong = in.siblings(before, victims)
	if took > adoptWithin {
		wrong = append(wrong, fmt.Sprintf("adopted after %s, %s are allowed", ms(took), adoptWithin))
	}
	// The clients have to find the new process first.
	b := afterDeath
	b.accepted += took
	wrong = append(wrong, l.recover(l.everything(), b, f)...)
	wrong = append(wrong, in.sameServices(before, victims)...)
	return append(wrong, l.single()...)
}

// kill ends srs-proxy as nothing can prevent.
func (in *instance) kill() {
	in.t.Helper()
	kill(in.t, in.pid())
	<-in.ended
}

// sameServices proves that the origins did not start again: SRS's service id is
// random for each process.
func (in *instance) sameServices(before status, victims []originStatus) (wrong []string) {
	in.t.Helper()
	now := make(map[string]originStatus)
	for _, o := range in.mustStatus().Origins {
		now[o.ID] = o
	}
	hit := idsOf(victims)
	for _, was := range before.Origins {
		if is := now[was.ID]; !hit[was.ID] && (is.ServiceID != was.ServiceID || is.ServiceID == "") {
			wrong = append(wrong, fmt.Sprintf("%s has service id %q, and had %q", was.ID, is.ServiceID, was.ServiceID))
		}
	}
	return wrong
}
