package supervisor

import (
	"fmt"
	"time"
)

// liveness is what is known of one origin by its probes: one every period,
// answered within the timeout or missed. It is pure: the caller has the clock.
type liveness struct {
	nextAt  time.Time
	sentAt  time.Time // of the probe that is out; zero when none is
	misses  int       // in a row
	mutedAt time.Time // when the first of them was sent
	heardAt time.Time // the last answer
}

// vitality is what is known of an origin by its API and by RTMP together. An API
// that is dead while RTMP answers is no reason to cut the streams: the origin is
// degraded and kept. It hangs when neither answers, and when RTMP alone does not,
// because then no client gets in.
type vitality struct {
	api, rtmp liveness
	full      bool // it accepts a client and closes: it has as many as it takes
}

func (v *vitality) well() bool { return v.api.misses == 0 && v.rtmp.misses == 0 }

// hung says that so many misses are enough. RTMP is asked from the first miss of
// the API on, so it is one behind when both are silent.
func (v *vitality) hung(misses int) bool {
	return v.rtmp.misses >= misses || v.api.misses >= misses && v.rtmp.misses >= max(1, misses-1)
}

// apiExpired is expired of the API. When it begins to be silent RTMP is asked at once:
// a second later would be a second more until the origin counts as hung.
func (v *vitality) apiExpired(now time.Time, timeout time.Duration, late bool) bool {
	if !v.api.expired(now, timeout, late) {
		return false
	}
	if v.api.misses == 1 {
		v.rtmp.nextAt = now
	}
	return true
}

// missing says that nothing shows that the origin lives.
func (v *vitality) missing() bool {
	return v.rtmp.misses > 0 || v.api.misses > 0 && v.rtmp.heardAt.Before(v.api.mutedAt)
}

// why says what is wrong with an origin, "" when nothing is.
func (v *vitality) why(now time.Time) string {
	silent := func(l *liveness) string {
		return fmt.Sprintf("has not answered for %.1f s", now.Sub(l.mutedAt).Seconds())
	}
	switch {
	case v.api.misses > 0 && v.rtmp.misses > 0:
		return "its API " + silent(&v.api) + ", and RTMP neither"
	case v.api.misses > 0 && v.full:
		return "its API " + silent(&v.api) + ", and it turns new clients away, as with max_connections reached"
	case v.api.misses > 0:
		return "its API " + silent(&v.api)
	case v.rtmp.misses > 0:
		return "RTMP " + silent(&v.rtmp) + ", but its API does"
	case v.full:
		return "it turns new clients away, as with max_connections reached"
	}
	return ""
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
func (l *liveness) answered(now time.Time) (recovered bool) {
	recovered = l.misses > 0
	l.sentAt, l.mutedAt, l.misses = time.Time{}, time.Time{}, 0
	l.heardAt = now
	return recovered
}

// unsent takes back a probe that could not leave.
func (l *liveness) unsent() { l.sentAt = time.Time{} }

// hasten makes the next probe due within a period.
func (l *liveness) hasten(now time.Time, period time.Duration) {
	if soon := now.Add(period); l.nextAt.After(soon) {
		l.nextAt = now
	}
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
