package srt

import (
	"context"
	"time"
)

// A process that dies says nothing over UDP, and a caller would wait until it counts
// the connection as lost: 5 s with libsrt. The balancer knows sooner. That it has
// forgotten an origin is not enough, which may be well and only out of its sight; that
// nothing comes from there any more is.
const (
	orphanPeriod  = 250 * time.Millisecond
	orphanSilence = 300 * time.Millisecond // an origin sends an ACK every 10 ms to who sends data
)

// watchOrigins ends the sessions of dead origins until ctx is.
func (s *Server) watchOrigins(ctx context.Context) {
	tick := time.NewTicker(orphanPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if s.counters.sessions.Load() == 0 {
			continue
		}
		origins, err := s.router.Origins(ctx)
		if err != nil {
			continue // who does not know the origins does not know that one is dead
		}
		services := make(map[string]string, len(origins))
		for _, o := range origins {
			services[o.ID] = o.Service
		}
		for _, t := range s.tables {
			t.sh.Post(func() { t.endOrphans(services) })
		}
	}
}

// endOrphans ends the sessions whose origin is not among the processes of services (by
// the origin's ID), or is another one there, and is silent.
func (t *table) endOrphans(services map[string]string) {
	for _, s := range t.byCaller {
		if !s.open || t.sh.Now().Sub(s.lastOrigin) < orphanSilence {
			continue
		}
		if service, ok := services[s.up.originID]; !ok || service != s.up.service {
			s.shutdown(errOriginDead)
		}
	}
}
