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
	// statsAge is how old figures may be: SRS itself counts bytes every 3 s, and a
	// screen that is drawn every second, or that many look at, costs the origins no
	// more than one look in this time.
	statsAge = 1500 * time.Millisecond
	// idleAge is the same for origins that had no streams. Most of a large fleet may
	// be idle, and an ask costs 0.2 ms, most of it for the connection.
	idleAge = 3500 * time.Millisecond
	// statsWorkers ask at once.
	statsWorkers = 16
	// statsSize bounds one reply: 1 KB a stream.
	statsSize = 64 << 20
	// summarySize bounds the other reply, of 2 KB.
	summarySize = 64 << 10
)

// stats is what an origin's API says of its streams.
type stats struct {
	pid                          int // of the process that said it
	streams, publishers, clients int
	in, out                      float64 // bits per second
	rates                        rates   // where in and out come from, once there were two counts
	at                           time.Time
	err                          error
}

// due says that the figures are too old, or of another process.
func (s stats) due(pid int, now time.Time) bool {
	age := statsAge
	if s.streams == 0 && s.clients == 0 && s.err == nil {
		age = idleAge
	}
	return s.pid != pid || now.Sub(s.at) >= age
}

// statsCache keeps the last figures of each slot.
type statsCache struct {
	mu     sync.Mutex // held over a fetch too: who comes second gets its result
	bySlot map[*slot]stats

	self selfMeter // has its own lock: it does not wait for a fetch
}

// Snapshot is the state of all origins now. What their APIs know is at most 1.5
// seconds old, or 3.5 where there were no streams; where one did not answer within
// a second, StatsError says so and the figures are the last ones.
func (s *Supervisor) Snapshot(ctx context.Context) Snapshot {
	known := s.fetchStats(ctx)
	now := time.Now()
	snap := Snapshot{Time: now, Software: s.config().software(), PID: os.Getpid(), Self: s.stats.self.read(now)}
	if s.cgroups != nil {
		snap.Cgroups = s.cgroups.Support().String()
	}
	// An older generation is looked at first: it drains only once its successor is
	// ready, so there are never too few ready ones to be seen.
	for _, slot := range s.all() {
		o := slot.status()
		if st := known[slot]; o.PID != 0 && st.pid == o.PID {
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

func (s *Supervisor) fetchStats(ctx context.Context) map[*slot]stats {
	c := &s.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	now := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex // guards fresh, which nobody changes any more once it is returned
	fresh := make(map[*slot]stats, len(c.bySlot))
	turns := make(chan struct{}, statsWorkers)
	for _, slot := range s.all() {
		o := slot.status()
		if o.PID == 0 || o.ServiceID == "" { // no process, or not ready yet
			continue
		}
		known := c.bySlot[slot]
		if !known.due(o.PID, now) {
			mu.Lock()
			fresh[slot] = known
			mu.Unlock()
			continue
		}
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			st := known.refreshed(ctx, o.PID, s.cfg.dialAddr(o.Ports.API))
			st.at = now
			mu.Lock()
			defer mu.Unlock()
			fresh[slot] = st
		})
	}
	wg.Wait()
	c.bySlot = fresh
	return fresh
}

// refreshed asks anew. A failure keeps the old figures of the same process.
func (old stats) refreshed(ctx context.Context, pid int, api netip.AddrPort) stats {
	if old.pid != pid {
		old = stats{pid: pid}
	}
	fresh, err := askStats(ctx, api)
	if err != nil {
		old.err = err
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
			old.err = fmt.Errorf("no answer within %s", statsTimeout)
		}
		return old
	}
	fresh.pid, fresh.rates = pid, old.rates
	if fresh.streams == 0 {
		return fresh // without streams no bytes: an idle origin is asked once
	}
	count, err := askBytes(ctx, api)
	if err != nil {
		count = byteCount{} // whoever does not count has the figures of 30 s
	}
	fresh.rates = old.rates.after(count)
	if fresh.rates.known {
		fresh.in, fresh.out = fresh.rates.in, fresh.rates.out
	}
	return fresh
}

// askStats sums over an origin's streams. Without a count SRS lists ten. Its
// rates are averages over 30 s, and 0 in the first 30 s of a stream.
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

// askBytes reads an origin's count of all its clients' bytes, those of clients
// that have gone too.
func askBytes(ctx context.Context, api netip.AddrPort) (byteCount, error) {
	var reply struct {
		Data struct {
			System struct {
				Time int64 `json:"srs_sample_time"` // ms
				Recv int64 `json:"srs_recv_bytes"`
				Send int64 `json:"srs_send_bytes"`
			} `json:"system"`
		} `json:"data"`
	}
	if err := getJSON(ctx, api, "/api/v1/summaries", summarySize, &reply); err != nil {
		return byteCount{}, err
	}
	sys := reply.Data.System
	return byteCount{time.Duration(sys.Time) * time.Millisecond, sys.Recv, sys.Send}, nil
}
