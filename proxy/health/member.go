package health

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"srs-proxy/balancer"
)

// member is an origin with what is known of it.
type member struct {
	m   *Monitor
	log *slog.Logger

	mu sync.Mutex // guards the following, and the order of what the balancer is told
	Origin
	up    bool // is in the balancer
	gone  bool // was forgotten; a check that is under way must not bring it back
	since time.Time
	beat  time.Time // last registration
	// expired says that its heartbeats have stopped while it had sessions.
	expired bool
	// suspect says that a successor has registered from elsewhere.
	suspect bool
	misses  int
	passes  int
	reason  string // of the last miss
	rounds  int
	due     time.Time
	looking bool // a check is under way
	load    balancer.Load
	told    balancer.Load // what the balancer knows
	toldAt  time.Time
	last    summary // of the last answer of the API
	rate    rate
}

// rate is bits per second, each way, between the last two counts.
type rate struct{ in, out float64 }

// record is the origin as the balancer has it.
func (o *member) recordLocked() balancer.Origin {
	r := balancer.Origin{ID: o.ID, Endpoints: o.Endpoints, Load: o.load, Service: o.Service}
	if o.expired {
		r.State = balancer.Draining
	}
	return r
}

func (o *member) updateLocked(ctx context.Context) error {
	err := o.m.bal.Update(ctx, o.recordLocked())
	if err == nil {
		o.told, o.toldAt = o.load, o.m.now()
	}
	return err
}

// register takes a registration of an origin that is known.
func (o *member) register(ctx context.Context, n Origin) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone {
		return errGone
	}
	now := o.m.now()
	another := n.Service != "" && n.Service != o.Service
	moved := o.Endpoints != n.Endpoints
	if o.Static {
		n.ID, n.Endpoints, n.Static, moved = o.ID, o.Endpoints, true, false
	}
	wasExpired := o.expired
	o.Origin, o.beat, o.expired, o.suspect = n, now, false, false
	if another {
		// A process that has just begun is as good as its word: what was held against
		// the one before it does not count.
		o.log.Info("the origin was restarted", "service", n.Service, "pid", n.PID)
		o.since, o.misses, o.passes, o.reason = now, 0, 0, ""
		o.load, o.last, o.rate = balancer.Load{}, summary{}, rate{}
		o.up = true
	}
	if !o.up {
		return nil // it says that it is there; the checks say when it can be reached
	}
	if wasExpired {
		o.log.Info("the origin's heartbeats are back")
	}
	if moved && !another {
		o.log.Info("the origin has other addresses", "endpoints", n.Endpoints)
	}
	return o.updateLocked(ctx)
}

// found takes over what a check found. mass says that so many others miss as well
// that it is probably not the origins.
func (o *member) found(ctx context.Context, f finding, mass bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looking = false
	o.due = o.m.now().Add(o.m.cfg.Interval)
	if o.gone || ctx.Err() != nil {
		return
	}
	if f.err != nil {
		o.missedLocked(ctx, f, mass)
		return
	}
	o.misses, o.reason = 0, ""
	o.passes++
	fresh := o.readLocked(f.summary)
	switch {
	case fresh:
		o.log.Warn("another process answers for the origin", "service", o.Service)
		o.up = true
	case !o.up && o.passes >= o.m.cfg.Passes:
		o.log.Info("the origin is back")
		o.up, o.since = true, o.m.now()
	case o.up && o.newsLocked():
	default:
		return
	}
	if err := o.updateLocked(ctx); err != nil {
		o.up = o.up && o.toldAt != time.Time{}
		o.log.Warn("the balancer was not told of the origin", "cause", err)
	}
}

// readLocked takes the API's figures, and reports whether another process than the one
// that is known says them.
func (o *member) readLocked(s *summary) (another bool) {
	if s == nil {
		return false
	}
	another = s.Service != "" && o.Service != "" && s.Service != o.Service
	if s.Service != "" {
		o.Service = s.Service
	}
	if s.PID != 0 {
		o.PID = s.PID
	}
	if another {
		o.since, o.last, o.rate = o.m.now(), summary{}, rate{}
	}
	// SRS counts every 3 s: between two counts there is nothing new.
	if took := float64(s.Sampled-o.last.Sampled) / 1000; o.last.Sampled > 0 && took > 0 && s.Recv >= o.last.Recv && s.Send >= o.last.Send {
		o.rate = rate{in: 8 * float64(s.Recv-o.last.Recv) / took, out: 8 * float64(s.Send-o.last.Send) / took}
	}
	o.last = *s
	o.load = balancer.Load{CPU: s.CPU, Bitrate: o.rate.in + o.rate.out}
	return another
}

// tellEvery is how often the balancer hears of a load that changed, and refreshEvery
// how often of an origin without heartbeats: what nobody refreshes may expire there.
const (
	tellEvery    = 3 * time.Second
	refreshEvery = 9 * time.Second
)

func (o *member) newsLocked() bool {
	age := o.m.now().Sub(o.toldAt)
	return o.load != o.told && age >= tellEvery || o.Static && age >= refreshEvery
}

// missedLocked counts a miss, and takes the origin out when it is one too many.
func (o *member) missedLocked(ctx context.Context, f finding, mass bool) {
	o.passes = 0
	o.misses++
	o.reason = f.err.Error()
	if !o.up {
		return
	}
	if mass && !f.gone {
		if o.misses == o.m.cfg.Misses {
			o.log.Warn("the origin does not answer, and neither do most others: it may be this host or its network, so it stays", "cause", f.err)
		}
		return
	}
	if !f.gone && !o.suspect && o.misses < o.m.cfg.Misses {
		return
	}
	o.log.Warn("the origin is down", "cause", f.err, "misses", o.misses)
	o.up, o.since = false, o.m.now()
	o.removeLocked(ctx)
}

func (o *member) removeLocked(ctx context.Context) {
	if err := o.m.bal.Remove(ctx, o.ID); err != nil {
		o.log.Warn("the balancer was not told that the origin is gone", "cause", err)
	}
}

// expire looks whether the heartbeats have stopped, and reports whether the origin
// should be forgotten. One that still serves sessions drains first: a stream whose
// publisher lives must not be placed a second time.
func (o *member) expire(ctx context.Context) (forget bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone || o.Static || o.m.now().Sub(o.beat) < o.m.cfg.TTL {
		return false
	}
	if o.up && !o.m.cfg.Shared && o.m.busy(ctx, o.ID) {
		if !o.expired {
			o.expired = true
			o.log.Warn("the origin's heartbeats have stopped; it gets no new streams and keeps those that it has", "ttl", o.m.cfg.TTL)
			if err := o.updateLocked(ctx); err != nil {
				o.log.Warn("the balancer was not told of the origin", "cause", err)
			}
		}
		return false
	}
	o.gone = true
	o.log.Info("the origin is forgotten: its heartbeats have stopped", "ttl", o.m.cfg.TTL)
	// Where others register origins too, one that beats elsewhere now is theirs, and
	// one that beats nowhere expires in the balancer.
	if o.up && !o.m.cfg.Shared {
		o.removeLocked(ctx)
	}
	return true
}

// Status is an origin as the monitor knows it.
type Status struct {
	Origin
	// Up says that it gets streams.
	Up bool
	// Missing says that the last check failed, and Reason how.
	Missing bool
	Reason  string
	// Expired says that heartbeats stopped while it had sessions, which it keeps.
	Expired bool
	// Since is when it came up or went down, Beat when it last registered.
	Since, Beat time.Time
	Version     string
	Load        balancer.Load
	// InBps and OutBps are bits per second.
	InBps, OutBps float64
}

func (o *member) status() Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Status{
		Origin: o.Origin, Up: o.up, Missing: o.misses > 0, Reason: o.reason, Expired: o.expired, Since: o.since, Beat: o.beat,
		Version: o.last.Version, Load: o.load, InBps: o.rate.in, OutBps: o.rate.out,
	}
}
