package health

import (
	"cmp"
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
	up    bool // should be in the balancer
	tried bool // was up once, or down
	gone  bool // was forgotten; a check that is under way must not bring it back
	// process is the Service by which the balancer tells processes apart. It changes
	// only with the process: who learns a name later has not been restarted.
	process string
	since   time.Time // it came up, went down or was restarted
	beat    time.Time // last registration; zero if there was none
	// expired says that its heartbeats have stopped, or that it is listed no more, while
	// it had sessions.
	expired bool
	// suspect says that a successor has registered from elsewhere.
	suspect bool
	misses  int
	passes  int
	reason  string // of the last miss
	rounds  int
	due     time.Time
	looking bool // a check is under way
	doubted bool // somebody could not connect to it
	load    balancer.Load
	told    balancer.Origin // what the balancer has, zero if nothing
	toldAt  time.Time
	last    summary // of the last answer of the API
	rate    rate
}

// rate is bits per second, each way, between the last two counts.
type rate struct{ in, out float64 }

// tellEvery is how often the balancer hears of a load that changed, and refreshEvery
// how often of an origin without heartbeats: what nobody refreshes may expire there.
const (
	tellEvery    = 3 * time.Second
	refreshEvery = 9 * time.Second
)

// syncLocked sees to it that the balancer has what is true. What it could not be told
// it is told at the next occasion. again tells it in any case: a heartbeat refreshes.
func (o *member) syncLocked(ctx context.Context, again bool) error {
	if !o.up {
		if o.told.ID == "" {
			return nil
		}
		err := o.m.bal.Remove(ctx, o.ID)
		if err == nil {
			o.told = balancer.Origin{}
		}
		return err
	}
	r := balancer.Origin{ID: o.ID, Endpoints: o.Endpoints, Load: o.load, Service: o.process}
	if o.expired {
		r.State = balancer.Draining
	}
	same := o.told
	same.Load = r.Load
	age := time.Since(o.toldAt)
	if !again && same == r && (o.told.Load == r.Load || age < tellEvery) && (!o.silentLocked() || age < refreshEvery) {
		return nil
	}
	err := o.m.bal.Update(ctx, r)
	if err == nil {
		o.told, o.toldAt = r, time.Now()
	}
	return err
}

// silentLocked says that no heartbeat need come.
func (o *member) silentLocked() bool { return o.Static || o.beat.IsZero() }

// trySyncLocked is syncLocked where nobody waits for its end.
func (o *member) trySyncLocked(ctx context.Context) {
	if err := o.syncLocked(ctx, false); err != nil {
		o.log.Warn("the balancer could not be told of the origin; it will be", "up", o.up, "cause", err)
	}
}

// restartedLocked forgets all about the process that was there before.
func (o *member) restartedLocked() {
	o.process = o.Service
	o.misses, o.passes, o.reason = 0, 0, ""
	o.load, o.last, o.rate = balancer.Load{}, summary{}, rate{}
	o.setLocked(true)
	o.since = time.Now()
}

func (o *member) setLocked(up bool) {
	if o.up != up {
		o.up, o.since = up, time.Now()
	}
	o.tried = true
}

// register takes a registration of an origin that is known.
func (o *member) register(ctx context.Context, n Origin) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone {
		return errGone
	}
	another := n.Service != "" && o.Service != "" && n.Service != o.Service
	n.ID = o.ID // by which it is known, also one that was listed by name before it registered
	if o.Static {
		n.Endpoints, n.Static = o.Endpoints, true
	}
	if o.Endpoints != n.Endpoints && !another {
		o.log.Info("the origin has other addresses", "endpoints", n.Endpoints)
	}
	if o.expired {
		o.log.Info("the origin's heartbeats are back")
	}
	o.Origin, o.beat, o.expired, o.suspect = n, time.Now(), false, false
	if another {
		// A process that has just begun is as good as its word: what was held against
		// the one before it does not count.
		o.restartedLocked()
		o.log.Info("the origin was restarted", "service", n.Service, "pid", n.PID)
	}
	// Of one that is down it says that it lives; that it can be reached, the checks do.
	return o.syncLocked(ctx, o.up)
}

// found takes over what a check found that began then. mass says that so many others
// miss as well that it is probably not the origins.
func (o *member) found(ctx context.Context, f finding, began time.Time, mass bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looking = false
	o.due = began.Add(o.m.cfg.Interval)
	if o.gone || ctx.Err() != nil || began.Before(o.since) {
		return // it is about another process, or about one that was up when it no longer is
	}
	if f.err != nil {
		o.missedLocked(f, mass)
	} else {
		o.passedLocked(f.summary)
	}
	o.trySyncLocked(ctx)
}

// passedLocked counts an answer, and lets the origin in when there were enough.
func (o *member) passedLocked(s *summary) {
	o.misses, o.reason = 0, ""
	o.passes++
	if s != nil {
		o.readLocked(*s)
	}
	switch {
	case o.up:
	case !o.tried:
		o.process = o.Service
		o.setLocked(true)
		o.log.Info("the origin answers")
	case o.passes >= o.m.cfg.Passes:
		o.process = o.Service
		o.setLocked(true)
		o.log.Info("the origin is back")
	}
}

// readLocked takes the API's figures. Another Service in them is another process.
func (o *member) readLocked(s summary) {
	another := s.Service != "" && o.Service != "" && s.Service != o.Service
	o.Service, o.PID = cmp.Or(s.Service, o.Service), cmp.Or(s.PID, o.PID)
	if another {
		o.restartedLocked()
		o.log.Warn("another process answers for the origin", "service", o.Service, "pid", o.PID)
	}
	// SRS counts every 3 s: between two counts there is nothing new.
	if took := float64(s.Sampled-o.last.Sampled) / 1000; o.last.Sampled > 0 && took > 0 && s.Recv >= o.last.Recv && s.Send >= o.last.Send {
		o.rate = rate{in: 8 * float64(s.Recv-o.last.Recv) / took, out: 8 * float64(s.Send-o.last.Send) / took}
	}
	o.last = s
	o.load = balancer.Load{CPU: s.CPU, Bitrate: o.rate.in + o.rate.out}
}

// missedLocked counts a miss, and takes the origin out when it is one too many.
func (o *member) missedLocked(f finding, mass bool) {
	o.passes = 0
	o.misses++
	o.reason = f.err.Error()
	switch {
	case !o.tried:
		o.log.Warn("the origin does not answer", "cause", f.err)
		o.tried = true
	case !o.up:
	case mass && !f.gone:
		if o.misses == o.m.cfg.Misses {
			o.log.Warn("the origin does not answer, and neither do most others: it may be this host or its network, so it stays", "cause", f.err)
		}
	case f.gone, o.suspect, o.misses >= o.m.cfg.Misses:
		o.log.Warn("the origin is down", "cause", f.err, "misses", o.misses)
		o.setLocked(false)
		if o.m.cfg.Lost != nil {
			o.m.cfg.Lost(o.ID)
		}
	}
}

// list takes an origin that is known as one that does not register.
func (o *member) list(ctx context.Context, n Origin) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone {
		return errGone
	}
	if o.Endpoints != n.Endpoints {
		o.log.Info("the origin has other addresses", "endpoints", n.Endpoints)
	}
	o.Name, o.Endpoints, o.Static, o.expired, o.suspect = n.Name, n.Endpoints, true, false, false
	o.trySyncLocked(ctx)
	return nil
}

// unlist makes an origin one that is listed no more. If it registers as well, it stays
// as long as it does so.
func (o *member) unlist() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.Static = false
	o.log.Info("the origin is not listed any more", "registers", !o.beat.IsZero())
}

// expire looks whether the heartbeats have stopped, or whether it is listed no more, and
// reports whether the origin should be forgotten. One that still serves sessions drains
// first: a stream whose publisher lives must not be placed a second time.
func (o *member) expire(ctx context.Context) (forget bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone || o.Static || time.Since(o.beat) < o.m.cfg.TTL {
		return false
	}
	// Where others register origins too, one that beats elsewhere now is theirs, and
	// one that beats nowhere expires in the balancer. One that nobody registered is ours to
	// end: whoever still lists it tells the balancer so again.
	ours := o.beat.IsZero() || !o.m.cfg.Shared
	why := "its heartbeats have stopped"
	if o.beat.IsZero() {
		why = "it is not listed any more"
	}
	if o.up && ours && o.m.busy(ctx, o.ID) {
		if !o.expired {
			o.expired = true
			o.log.Warn("the origin gets no new streams and keeps those that it has: "+why, "ttl", o.m.cfg.TTL)
			o.trySyncLocked(ctx)
		}
		return false
	}
	if ours {
		o.setLocked(false)
		if err := o.syncLocked(ctx, false); err != nil {
			return false // at the next look
		}
	}
	o.gone = true
	o.log.Info("the origin is forgotten: "+why, "ttl", o.m.cfg.TTL)
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
	// Expired says that heartbeats stopped, or that it is listed no more, which Unlisted
	// says, while it had sessions, which it keeps.
	Expired, Unlisted bool
	// Since is when it came up or went down, Beat when it last registered, zero for never.
	Since, Beat time.Time
	Version     string
	Load        balancer.Load
	RSS         uint64 // bytes
	// InBps and OutBps are bits per second.
	InBps, OutBps float64
}

func (o *member) status() Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Status{
		Origin: o.Origin, Up: o.up, Missing: o.misses > 0, Reason: o.reason, Expired: o.expired,
		Unlisted: o.expired && o.beat.IsZero(), Since: o.since, Beat: o.beat,
		Version: o.last.Version, Load: o.load, RSS: o.last.RSS, InBps: o.rate.in, OutBps: o.rate.out,
	}
}
