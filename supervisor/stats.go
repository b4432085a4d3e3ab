package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// statsTimeout bounds what a snapshot waits for the origins' APIs.
	statsTimeout = time.Second
	// statsAge is how old figures may be, so that a page that many look at costs
	// the origins no more than one look.
	statsAge = 500 * time.Millisecond
	// statsWorkers ask at once.
	statsWorkers = 16
	// statsSize bounds one reply: 1 KB a stream.
	statsSize = 64 << 20
)

// stats is what an origin's API says of its streams.
type stats struct {
	pid                          int // of the process that said it
	streams, publishers, clients int
	in, out                      float64 // bits per second
	err                          error
}

// statsCache keeps the last figures of each slot.
type statsCache struct {
	mu     sync.Mutex // held over a fetch too: who comes second gets its result
	at     time.Time
	bySlot []stats
}

// Snapshot is the state of all origins now. What their APIs know is at most half
// a second old; where one did not answer within a second, StatsError says so and
// the figures are the last ones.
func (s *Supervisor) Snapshot(ctx context.Context) Snapshot {
	known := s.fetchStats(ctx)
	snap := Snapshot{Time: time.Now(), Software: s.cfg.software(), PID: os.Getpid()}
	for i, slot := range s.slots {
		o := slot.status()
		if st := known[i]; o.PID != 0 && st.pid == o.PID {
			o.Streams, o.Publishers = st.streams, st.publishers
			// SRS counts a publisher as a client of its stream.
			o.Players = max(0, st.clients-st.publishers)
			o.InBps, o.OutBps = st.in, st.out
			if st.err != nil {
				o.StatsError = st.err.Error()
			}
		}
		snap.Origins = append(snap.Origins, o)
	}
	return snap
}

func (s *Supervisor) fetchStats(ctx context.Context) []stats {
	c := &s.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bySlot == nil {
		c.bySlot = make([]stats, len(s.slots))
	}
	if time.Since(c.at) < statsAge {
		return append([]stats(nil), c.bySlot...)
	}
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	var wg sync.WaitGroup
	turns := make(chan struct{}, statsWorkers)
	for i, slot := range s.slots {
		o := slot.status()
		if o.PID == 0 || o.ServiceID == "" { // no process, or not ready yet
			c.bySlot[i] = stats{}
			continue
		}
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			c.bySlot[i] = c.bySlot[i].refreshed(ctx, o.PID, s.cfg.dialAddr(o.Ports.API))
		})
	}
	wg.Wait()
	c.at = time.Now()
	return append([]stats(nil), c.bySlot...)
}

// refreshed asks anew. A failure keeps the old figures of the same process.
func (old stats) refreshed(ctx context.Context, pid int, api netip.AddrPort) stats {
	fresh, err := askStats(ctx, api)
	if err != nil {
		if old.pid != pid {
			old = stats{}
		}
		old.pid, old.err = pid, err
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			old.err = fmt.Errorf("no answer within %s", statsTimeout)
		}
		return old
	}
	fresh.pid = pid
	return fresh
}

// askStats sums over an origin's streams. Without a count SRS lists ten.
func askStats(ctx context.Context, api netip.AddrPort) (stats, error) {
	var reply struct {
		Streams []struct {
			Clients int `json:"clients"`
			Publish struct {
				Active bool `json:"active"`
			} `json:"publish"`
			Kbps struct {
				Recv float64 `json:"recv_30s"`
				Send float64 `json:"send_30s"`
			} `json:"kbps"`
		} `json:"streams"`
	}
	// The slash before the query saves SRS's redirect.
	if err := getJSON(ctx, api, "/api/v1/streams/?count=1000000", statsSize, &reply); err != nil {
		return stats{}, err
	}
	var sum stats
	for _, st := range reply.Streams {
		sum.streams++
		sum.clients += st.Clients
		if st.Publish.Active {
			sum.publishers++
		}
		sum.in += 1000 * st.Kbps.Recv
		sum.out += 1000 * st.Kbps.Send
	}
	return sum, nil
}
