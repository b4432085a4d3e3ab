package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"srs-proxy/balancer"
)

// options describe a world.
type options struct {
	origins, proxies, streams, players int
	mbps                               float64
	seconds                            int
	churn, kill                        float64
	refresh                            int
	seed                               uint64
}

func defaultOptions() options {
	return options{origins: 128, proxies: 1, streams: 2000, players: 10, mbps: 2, seconds: 120, churn: 0.005, kill: 0.25, refresh: 1, seed: 1}
}

func (o options) validate() error {
	switch {
	case o.origins < 2 || o.origins > 100_000, o.proxies < 1 || o.proxies > 1000, o.streams < 1 || o.streams > 1_000_000:
		return errors.New("give 2 to 100,000 origins, 1 to 1,000 proxies, 1 to 1,000,000 streams")
	case o.players < 0 || o.streams*o.players > 10_000_000:
		return errors.New("at most 10,000,000 players at origins")
	case o.seconds < minSeconds || o.seconds > 86400:
		return fmt.Errorf("give %d to 86400 seconds", minSeconds)
	case !(o.churn >= 0 && o.churn <= 1), !(o.kill >= 0 && o.kill < 1), !(o.mbps > 0 && o.mbps < 1000):
		return errors.New("churn is 0 to 1, kill 0 to less than 1, mbps more than 0")
	case o.refresh < 0:
		return errors.New("refresh is 0 or more")
	}
	return nil
}

const (
	fillTime   = 20 // seconds in which the streams begin
	deadTime   = 10 // seconds until a dead origin is back
	minSeconds = 2*fillTime + 2*deadTime
	// reportTime is between two reports of an origin's load, as proxy/health tells it.
	reportTime = 3
	// coresPerGB is the CPU time of SRS for a gigabyte delivered over RTMP with its default
	// merged writes, in seconds (docs/SCALE.md).
	coresPerGB = 2.91
	// looks is how many streams are asked for again in each second.
	looks = 100
)

// placer is what the world needs of a balancer.
type placer interface {
	Update(ctx context.Context, o balancer.Origin) error
	Remove(ctx context.Context, id string) error
	Pick(ctx context.Context, r balancer.Request) (balancer.Lease, error)
	Release(ctx context.Context, l balancer.Lease) error
}

// session is one client's, at the proxy that it came to.
type session struct {
	proxy int
	lease balancer.Lease
}

type stream struct {
	key      balancer.Stream
	origin   int
	sessions []session // the publisher's first
	players  int
}

type originState struct {
	balancer.Origin
	dead    bool
	back    int // the second in which it is there again
	process int
	streams int
	mbps    float64
}

// world is what happens to a cluster.
type world struct {
	o       options
	rng     *rand.Rand
	proxies []placer
	// tick is called at the beginning of each second, died when origins have died.
	tick    func(second int)
	died    func()
	second  int
	origins []*originState
	byID    map[string]int
	streams []*stream
	names   int
	report  report
}

func newWorld(o options, rng *rand.Rand, proxies []placer) *world {
	w := &world{o: o, rng: rng, proxies: proxies, byID: make(map[string]int), tick: func(int) {}, died: func() {}}
	for i := range o.origins {
		id := fmt.Sprintf("10.%d.%d.%d:1935", i>>16, i>>8&255, i&255)
		w.origins = append(w.origins, &originState{Origin: balancer.Origin{ID: id, Endpoints: balancer.Endpoints{RTMP: id}}})
		w.byID[id] = i
	}
	return w
}

// run plays all seconds.
func (w *world) run(ctx context.Context) error {
	for w.second = range w.o.seconds {
		w.tick(w.second)
		steps := []func(context.Context) error{w.reportLoads, w.returns, w.deaths, w.endings, w.beginnings, w.look}
		for _, step := range steps {
			if err := errors.Join(step(ctx), ctx.Err()); err != nil {
				return fmt.Errorf("second %d: %w", w.second, err)
			}
		}
		w.sample()
	}
	return nil
}

// anyProxy is where a client or a heartbeat comes to.
func (w *world) anyProxy() int { return w.rng.IntN(len(w.proxies)) }

// reportLoads has origins register, and then tell what they measured.
func (w *world) reportLoads(ctx context.Context) error {
	for i, o := range w.origins {
		if o.dead || w.second > 0 && i%reportTime != w.second%reportTime {
			continue
		}
		if err := w.tell(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) tell(ctx context.Context, o *originState) error {
	o.Service = fmt.Sprint(o.process)
	o.Load = balancer.Load{CPU: min(1, o.cores()), Bitrate: o.mbps * 1e6}
	return w.proxies[w.anyProxy()].Update(ctx, o.Origin)
}

func (o *originState) cores() float64 { return o.mbps / 8000 * coresPerGB }

func (w *world) returns(ctx context.Context) error {
	for _, o := range w.origins {
		if o.dead && o.back <= w.second {
			o.dead = false
			o.process++
			if err := w.tell(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// deaths kills a share of the origins at half-time, and one every tenth second from
// the fill on.
func (w *world) deaths(ctx context.Context) error {
	n := 0
	switch {
	case w.second == w.o.seconds/2:
		n = int(w.o.kill * float64(len(w.origins)))
	case w.second > fillTime && w.second%10 == 0 && w.o.kill > 0:
		n = 1
	}
	for _, i := range w.rng.Perm(len(w.origins))[:n] {
		o := w.origins[i]
		if o.dead {
			continue
		}
		o.dead, o.back = true, w.second+deadTime
		w.report.deaths++
		if err := w.proxies[w.anyProxy()].Remove(ctx, o.ID); err != nil {
			return err
		}
	}
	if n > 0 {
		w.died()
	}
	return nil
}

// endings ends the streams whose time has come, and cuts those of dead origins.
func (w *world) endings(ctx context.Context) error {
	kept := w.streams[:0]
	var again []*stream
	for _, s := range w.streams {
		dead := w.origins[s.origin].dead
		if !dead && (w.second <= fillTime || w.rng.Float64() >= w.o.churn) {
			kept = append(kept, s)
			continue
		}
		if err := w.cut(ctx, s); err != nil {
			return err
		}
		if dead {
			again = append(again, s)
		}
	}
	w.streams = kept
	for _, s := range again { // encoders and players come back at once
		w.report.cut++
		if err := w.begin(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) cut(ctx context.Context, s *stream) error {
	for _, ses := range s.sessions {
		if err := w.proxies[ses.proxy].Release(ctx, ses.lease); err != nil {
			return err
		}
	}
	s.sessions = s.sessions[:0]
	o := w.origins[s.origin]
	o.streams--
	o.mbps -= w.rate(s)
	return nil
}

// rate is what a stream makes its origin receive and send.
func (w *world) rate(s *stream) float64 { return w.o.mbps * float64(1+s.players) }

func (w *world) beginnings(ctx context.Context) error {
	want := w.o.streams
	if w.second < fillTime {
		want = w.o.streams * (w.second + 1) / fillTime
	}
	for len(w.streams) < want {
		w.names++
		// Some streams have many players, most have few.
		s := &stream{
			key:     balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: fmt.Sprintf("s%d", w.names)},
			players: int(math.Round(float64(w.o.players) * min(10, w.rng.ExpFloat64()))),
		}
		if err := w.begin(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) begin(ctx context.Context, s *stream) error {
	for i := range 1 + s.players {
		role := balancer.Play
		if i == 0 {
			role = balancer.Publish
		}
		p := w.anyProxy()
		l, err := w.proxies[p].Pick(ctx, balancer.Request{Stream: s.key, Role: role})
		if err != nil {
			return fmt.Errorf("%s of %s: %w", role, s.key, err)
		}
		at, known := w.byID[l.Origin.ID]
		switch {
		case !known || w.origins[at].dead:
			w.report.toDead++
		case i > 0 && at != s.origin:
			w.report.split++
		}
		if i == 0 {
			s.origin = at
		}
		s.sessions = append(s.sessions, session{p, l})
	}
	o := w.origins[s.origin]
	o.streams++
	o.mbps += w.rate(s)
	w.streams = append(w.streams, s)
	return nil
}

// look asks for streams that live, as one more player would: each must be where it was.
func (w *world) look(ctx context.Context) error {
	for range min(looks, len(w.streams)) {
		s := w.streams[w.rng.IntN(len(w.streams))]
		p := w.anyProxy()
		l, err := w.proxies[p].Pick(ctx, balancer.Request{Stream: s.key, Role: balancer.Play})
		if err != nil {
			return fmt.Errorf("look for %s: %w", s.key, err)
		}
		if w.byID[l.Origin.ID] != s.origin {
			w.report.moved++
		}
		if err := w.proxies[p].Release(ctx, l); err != nil {
			return err
		}
	}
	return nil
}
