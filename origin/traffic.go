package origin

import (
	"sync/atomic"
	"time"
)

// meter counts the bytes of one connection, where they pass.
type meter struct{ in, out atomic.Int64 }

// Rates are over 30 s, as recv_30s and send_30s of SRS's API: the oldest of ten
// samples, one every 3 s, against now.
const (
	samplePeriod = 3 * time.Second
	sampleCount  = 10
)

type sample struct {
	at         time.Time
	recv, send int64
}

// traffic sums bytes of a client, stream, vhost or the server and knows their
// recent rate. Guarded by the hub's mutex.
type traffic struct {
	recv, send int64
	ring       [sampleCount]sample
	n          int // samples ever taken
}

func (t *traffic) add(recv, send int64) { t.recv += recv; t.send += send }

func (t *traffic) sample(now time.Time) {
	if t.n > 0 && now.Sub(t.ring[(t.n-1)%sampleCount].at) < samplePeriod {
		return
	}
	t.ring[t.n%sampleCount] = sample{now, t.recv, t.send}
	t.n++
}

// kbps is in kilobits a second.
func (t *traffic) kbps(now time.Time) (recv, send int64) {
	if t.n == 0 {
		return 0, 0
	}
	oldest := t.ring[0]
	if t.n > sampleCount {
		oldest = t.ring[t.n%sampleCount]
	}
	ms := now.Sub(oldest.at).Milliseconds()
	if ms <= 0 {
		return 0, 0
	}
	return (t.recv - oldest.recv) * 8 / ms, (t.send - oldest.send) * 8 / ms
}
