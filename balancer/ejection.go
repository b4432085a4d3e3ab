package balancer

import "time"

// Passive ejection: failures in a row take an origin out for a time that doubles
// with each further failure; a success clears it.
const (
	ejectAfter = 3
	ejectFirst = 5 * time.Second
	ejectMost  = 60 * time.Second
)

type ejection struct {
	failures int
	period   time.Duration
	until    time.Time
}

func (e *ejection) active(now time.Time) bool { return now.Before(e.until) }

// failed counts a failure; allowed tells whether an ejection would leave enough
// other origins (at most half may be out).
func (e *ejection) failed(now time.Time, allowed bool) {
	e.failures++
	if e.failures < ejectAfter || !allowed || e.active(now) {
		return
	}
	e.period = min(max(2*e.period, ejectFirst), ejectMost)
	e.until = now.Add(e.period)
}
