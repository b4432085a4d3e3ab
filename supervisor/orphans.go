package supervisor

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"golang.org/x/sync/errgroup"
)

// A publisher that comes back finds its stream's origin draining and is sent to
// another one. Its players are still where it was, where nobody will ever publish
// again, and would wait there to the deadline. So they are disconnected: as clients
// do they come back, and are sent after their stream.

const (
	// orphanPeriod and orphanGrace bound how long players wait for nothing; the grace
	// is for a publisher who was just sent here and is not yet publishing. Its end is
	// looked for at the next tick, be that a little early.
	orphanPeriod = 500 * time.Millisecond
	orphanGrace  = 2 * time.Second
	// orphansAtOnce is how many are disconnected in one look: the herd comes back at once.
	orphansAtOnce = 500
	orphanTimeout = 2 * time.Second
)

// watchOrphans looks after the players on all origins that drain.
func (s *Supervisor) watchOrphans(ctx context.Context) {
	tick := time.NewTicker(orphanPeriod)
	defer tick.Stop()
	idle := make(map[*slot]idleStreams)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var draining []*slot
		for _, slot := range s.all() {
			if o := slot.status(); o.State == Draining && o.Desired == Drain && slot.settled() {
				draining = append(draining, slot)
			}
		}
		if len(draining) == 0 {
			clear(idle)
			continue
		}
		sessions, err := s.sessions(ctx)
		if err != nil {
			continue
		}
		next := make(map[*slot]idleStreams)
		var g errgroup.Group
		g.SetLimit(statsWorkers)
		for _, slot := range draining {
			if sessions[slot.id] == 0 {
				continue
			}
			streams := idle[slot]
			if streams == nil {
				streams = make(idleStreams)
			}
			next[slot] = streams
			g.Go(func() error {
				slot.disconnectOrphans(ctx, streams)
				return nil
			})
		}
		_ = g.Wait()
		idle = next
	}
}

// disconnectOrphans does one look at an origin. Whatever it does not tell is left
// for the next one.
func (s *slot) disconnectOrphans(ctx context.Context, idle idleStreams) {
	ctx, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	api := s.cfg.dialAddr(s.params.Ports.API)
	streams, err := listStreams(ctx, api)
	if err != nil {
		return
	}
	abandoned := idle.look(streams, time.Now())
	if len(abandoned) == 0 {
		return
	}
	clients, err := listClients(ctx, api)
	if err != nil {
		return
	}
	n := 0
	for _, c := range clients {
		if abandoned[c.Stream] && !c.Publish && n < orphansAtOnce && disconnect(ctx, api, c.ID) {
			n++
		}
	}
	if n > 0 {
		s.log.Info("players of streams that ended are sent after them", "players", n)
	}
}

// idleStreams are streams with players and without a publisher, by id, and since when.
type idleStreams map[string]time.Time

type apiStream struct {
	ID      string `json:"id"`
	Clients int    `json:"clients"`
	Publish struct {
		Active bool `json:"active"`
	} `json:"publish"`
}

// look updates the list; it returns those that are on it for long.
func (idle idleStreams) look(streams []apiStream, now time.Time) map[string]bool {
	seen := make(map[string]bool)
	abandoned := make(map[string]bool)
	for _, st := range streams {
		if st.Publish.Active || st.Clients == 0 {
			continue
		}
		seen[st.ID] = true
		since, known := idle[st.ID]
		switch {
		case !known:
			idle[st.ID] = now
		case now.Sub(since) > orphanGrace-orphanPeriod/2:
			abandoned[st.ID] = true
		}
	}
	for id := range idle {
		if !seen[id] {
			delete(idle, id)
		}
	}
	return abandoned
}

func listStreams(ctx context.Context, api netip.AddrPort) ([]apiStream, error) {
	var reply struct {
		Streams []apiStream `json:"streams"`
	}
	err := getJSON(ctx, api, "/api/v1/streams/?count=1000000", statsSize, &reply)
	return reply.Streams, err
}

type apiClient struct {
	ID      string `json:"id"`
	Stream  string `json:"stream"`
	Publish bool   `json:"publish"`
}

func listClients(ctx context.Context, api netip.AddrPort) ([]apiClient, error) {
	var reply struct {
		Clients []apiClient `json:"clients"`
	}
	err := getJSON(ctx, api, "/api/v1/clients/?count=1000000", statsSize, &reply)
	return reply.Clients, err
}

// clientID is what may stand in a request line.
var clientID = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

// disconnect ends one client, as `kick` does.
func disconnect(ctx context.Context, api netip.AddrPort, id string) bool {
	if !clientID.MatchString(id) {
		return false
	}
	conn, err := dial(ctx, api)
	if err != nil {
		return false
	}
	defer conn.Close()
	request := "DELETE /api/v1/clients/" + id + " HTTP/1.1\r\nHost: " + api.String() + "\r\nUser-Agent: srs-proxy\r\nConnection: close\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
