package supervisor

import "time"

// liveness is what is known of one origin by its probes: one every period,
// answered within the timeout or missed. It is pure: the caller has the clock.
type liveness struct {
	nextAt  time.Time
	sentAt  time.Time // of the probe that is out; zero when none is
	misses  int       // in a row
	mutedAt time.Time // when the first of them was sent
}

// lateTick is how late our own clock tick may be before nothing that it finds is
// held against an origin: then it is the host that stands still, not they.
const lateTick = 500 * time.Millisecond

// due says that the next probe should be sent.
func (l *liveness) due(now time.Time) bool {
	return l.sentAt.IsZero() && !now.Before(l.nextAt)
}

// sent notes a probe. Its successor is due a period later, however long the
// answer takes.
func (l *liveness) sent(now time.Time, period time.Duration) {
	l.sentAt = now
	l.nextAt = now.Add(period)
}

// answered notes the answer; it tells whether probes had been missed before it.
func (l *liveness) answered() (recovered bool) {
	recovered = l.misses > 0
	l.sentAt, l.mutedAt, l.misses = time.Time{}, time.Time{}, 0
	return recovered
}

// expired looks at the probe that is out: it counts a miss when it is over the
// timeout. After a late tick the probe gets its time once more.
func (l *liveness) expired(now time.Time, timeout time.Duration, late bool) bool {
	switch {
	case l.sentAt.IsZero():
		return false
	case late:
		l.sentAt = now
		return false
	case now.Sub(l.sentAt) < timeout:
		return false
	}
	if l.misses == 0 {
		l.mutedAt = l.sentAt
	}
	l.misses++
	l.sentAt = time.Time{}
	return true
}

// hostTrouble says that the host stands still rather than the origins that miss:
// over a quarter of them miss together, or our own tick is late. One alone never
// is "together", however few there are.
func hostTrouble(missing, watched int, late bool) bool {
	return late || missing > 1 && 4*missing > watched
}
