package api

import (
	"encoding/json"
	"sync"
	"time"

	"srs-proxy/proxy/originapi"
)

// totalsKeep is after how long without an answer a process has ended for good.
const totalsKeep = 10 * time.Minute

// totals are bytes that all origins received and sent. They never go back: an origin
// that does not answer keeps what it had, and so does a process that ended. Else a
// graph of their growth would show an abyss, or a peak, at each restart.
type totals struct {
	mu     sync.Mutex // guards the following
	byProc map[string]traffic
	ended  traffic
}

type traffic struct {
	recv, send int64
	seen       time.Time
}

// count takes in what answers to /api/v1/summaries say, and gives the sums.
func (t *totals) count(answers []answer, now time.Time) (recv, send int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byProc == nil {
		t.byProc = make(map[string]traffic)
	}
	for _, a := range answers {
		system := member(member(a.Body, "data"), "system")
		t.byProc[process(a)] = traffic{recv: integer(system, "srs_recv_bytes"), send: integer(system, "srs_send_bytes"), seen: now}
	}
	sum := t.ended
	for id, p := range t.byProc {
		sum.recv += p.recv
		sum.send += p.send
		if now.Sub(p.seen) > totalsKeep {
			t.ended.recv += p.recv
			t.ended.send += p.send
			delete(t.byProc, id)
		}
	}
	return sum.recv, sum.send
}

// process is the random id that an origin's process gave itself.
func process(a answer) string {
	var service string
	v, _ := a.Body.Get("service")
	if json.Unmarshal(v, &service) != nil || service == "" || len(service) > 64 {
		return a.origin
	}
	return a.origin + " " + service
}

// integer is a count of bytes, of which a hundred thousand can be added up.
func integer(o originapi.Object, name string) int64 {
	v, _ := o.Get(name)
	n, _ := parseNumber(v)
	return min(max(n.i, 0), 1<<46)
}
