package faults

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// SRS has a race of its own: when many clients come at once it may dispose of the source
// that a publisher has just made, and then the publisher and its players are on the same
// origin and never meet, until the next publish. The proxy has done its part, and nobody
// in front of SRS can do more, so this is counted and the encoder is restarted.

// isSplit says that a stream without frames is split by SRS itself: one origin has all
// of its clients, the publisher and players.
func (in *instance) isSplit(name string) bool {
	if suite.srs == "builtin" {
		return false
	}
	origins, publishers, players := 0, 0, 0
	for _, o := range in.mustStatus().Origins {
		var reply struct {
			Clients []struct {
				Name    string
				Publish bool
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := getJSON(ctx, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d/api/v1/clients/?count=10000", o.Ports.API), &reply)
		cancel()
		if err != nil {
			return false
		}
		here := false
		for _, c := range reply.Clients {
			switch {
			case strings.TrimSuffix(c.Name, ".flv") != name:
				continue
			case c.Publish:
				publishers++
			default:
				players++
			}
			here = true
		}
		if here {
			origins++
		}
	}
	return origins == 1 && publishers == 1 && players > 0
}

// splitSince are the streams without frames since then that SRS has split.
func (l *load) splitSince(begin time.Time) map[string]bool {
	split := make(map[string]bool)
	for _, p := range l.players {
		p.mu.Lock()
		silent := !p.lastAt.After(begin)
		p.mu.Unlock()
		if silent && !split[p.name] && l.in.isSplit(p.name) {
			split[p.name] = true
		}
	}
	return split
}

// mend restarts the encoders of streams that SRS has split, and waits until they publish.
func (l *load) mend(split map[string]bool) {
	l.f.split += len(split)
	newest := sessions.Load()
	var again []*publisher
	for _, p := range l.pubs {
		if split[p.name] {
			again = append(again, p)
			p.again()
		}
	}
	limit := time.Now().Add(openTimeout)
	for _, p := range again {
		for !p.publishes(newest) && time.Now().Before(limit) {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// publishes says that a session is on that is newer than one.
func (p *publisher) publishes(than uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peer != nil && len(p.starts) > 0 && p.starts[len(p.starts)-1].session > than
}
