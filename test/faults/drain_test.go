package faults

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestDrainOverKill drains an origin and kills srs-proxy under load: the next one goes
// on with the same process and keeps new streams from it, until it is undrained.
func TestDrainOverKill(t *testing.T) {
	long(t)
	needCommand(t, "drain")
	in, l, f := loaded(t, "kill -9 of srs-proxy with one origin drained")
	repeat(t, in, l, f, func(round int) []string { return drainRound(in, l, f, in.victims(round, 1)[0], round) })
}

func drainRound(in *instance, l *load, f *fault, victim originStatus, round int) (wrong []string) {
	l.mark()
	if out, err := in.command("drain", victim.ID); err != nil {
		return []string{fmt.Sprintf("drain %s: %v: %.300s", victim.ID, err, out)}
	}
	wrong = l.unharmed(nil, f) // the streams that it has stay
	before := in.mustStatus()
	in.kill()
	in.start()
	took := eventually(in.t, readyWithin, "all others ready and one drained", func() (bool, string) {
		s, err := in.status()
		return err == nil && s.Totals.Ready == suite.size.origins-1 && slices.ContainsFunc(s.Origins, func(o originStatus) bool {
			return o.ID == victim.ID && o.State == "draining"
		}), fmt.Sprintf("error %v, %d ready, not ready: %q", err, s.Totals.Ready, s.unready())
	})
	f.took.add(took)
	if took > adoptWithin {
		wrong = append(wrong, fmt.Sprintf("adopted after %s, %s are allowed", ms(took), adoptWithin))
	}
	fresh := newcomersAt(in.rtmp, fmt.Sprintf("drained%d", round), 20*time.Millisecond)
	b := afterDeath
	b.accepted += took
	wrong = append(wrong, l.recover(l.everything(), b, f)...)
	if names := in.streams()[victim.ID]; len(names) > 0 {
		wrong = append(wrong, fmt.Sprintf("%s is drained and has got %q", victim.ID, names))
	}
	wrong = append(wrong, fresh.end(f)...)
	wrong = append(wrong, in.siblings(before, nil)...)
	wrong = append(wrong, in.sameServices(before, nil)...)
	wrong = append(wrong, l.single()...)
	if out, err := in.command("undrain", victim.ID); err != nil {
		wrong = append(wrong, fmt.Sprintf("undrain %s: %v: %.300s", victim.ID, err, out))
	}
	// It is the one with the fewest streams, so the next ones are its own.
	return append(wrong, in.attracts(victim, fmt.Sprintf("undrained%d", round))...)
}

// attracts proves that new streams go to an origin.
func (in *instance) attracts(o originStatus, prefix string) []string {
	const tries = 50
	for i := range tries {
		name := fmt.Sprintf("%s-%d", prefix, i)
		peer, err := openPublish(in.rtmp, name)
		if err != nil {
			return []string{fmt.Sprintf("a new name after the undrain: %v", err)}
		}
		if err := peer.holds(stay); err != nil {
			return []string{fmt.Sprintf("a new name after the undrain: %v", err)}
		}
		here := slices.Contains(in.streams()[o.ID], name)
		peer.conn.Close()
		if here {
			return nil
		}
	}
	return []string{fmt.Sprintf("none of %d new streams went to %s after it was undrained", tries, o.ID)}
}
