package redisbalancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"srs-proxy/balancer"
)

// known is where a published stream is.
type known struct {
	pin, inc, id string
	seen         int64 // the event that says so
}

// entry is a stream that has sessions here, or that Redis is being asked about.
type entry struct {
	// gate lets one ask at a time: what we hold is told as a whole, so answers must not
	// overtake each other.
	gate    chan struct{}
	waiting int   // for the gate, or through it
	cur     *held // that new sessions get; nil if there is none
	// old are those that sessions hold since before the stream moved.
	old []*held
}

// held is a pin that this proxy's sessions hold.
type held struct {
	id     uint64 // for Lease.Pin
	pin    string // Redis' number of it; "" if it was made here
	stream balancer.Stream
	origin balancer.Origin
	pubs   int
	plays  int
	// published: it had a publisher once, here or elsewhere.
	published bool
	// over: the stream is elsewhere now; sessions keep it until they end, which they are
	// asked to once it is published there (warned).
	over, warned bool

	told  [2]int // publishers and players as Redis has them
	until time.Time
	// idle is when the last session ended while Redis was away.
	idle time.Time
}

// enter waits for the gate of a stream.
func (r *Redis) enter(ctx context.Context, key string) (*entry, error) {
	r.mu.Lock()
	e := r.entryLocked(key)
	e.waiting++
	r.mu.Unlock()
	select {
	case e.gate <- struct{}{}:
		return e, nil
	case <-ctx.Done():
		r.mu.Lock()
		e.waiting--
		r.tidyLocked(key, e)
		r.mu.Unlock()
		return nil, context.Cause(ctx)
	}
}

func (r *Redis) entryLocked(key string) *entry {
	e := r.entries[key]
	if e == nil {
		e = &entry{gate: make(chan struct{}, 1)}
		r.entries[key] = e
	}
	return e
}

func (r *Redis) leave(key string, e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	<-e.gate
	e.waiting--
	r.tidyLocked(key, e)
}

// tidyLocked forgets an entry that nobody needs.
func (r *Redis) tidyLocked(key string, e *entry) {
	if e.waiting == 0 && e.cur == nil && len(e.old) == 0 && r.entries[key] == e {
		delete(r.entries, key)
	}
}

// Pick implements balancer.Balancer.
func (r *Redis) Pick(ctx context.Context, req balancer.Request) (balancer.Lease, error) {
	key := req.Stream.String()
	if l, ok, err := r.pickKnown(req, key); ok || err != nil {
		return l, err
	}
	e, err := r.enter(ctx, key)
	if err != nil {
		return balancer.Lease{}, err
	}
	defer r.leave(key, e)
	if l, ok, err := r.pickKnown(req, key); ok || err != nil { // who was before us has asked
		return l, err
	}
	l, err := r.ask(ctx, req, key, e)
	if errors.Is(err, balancer.ErrUnavailable) {
		return r.pickAlone(req, key, err)
	}
	return l, err
}

// pickKnown answers without Redis, if that can be.
func (r *Redis) pickKnown(req balancer.Request, key string) (l balancer.Lease, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.away || now.Sub(r.contact) > stale {
		return l, false, nil
	}
	e, k := r.entries[key], r.known[key]
	switch {
	case e != nil && e.cur != nil && (req.Role == balancer.Play || e.cur.pubs > 0):
		if h := e.cur; h.pubs+h.plays > 0 && r.usableLocked(h.origin.ID, now, req.Exclude) {
			return r.leaseLocked(h, req.Role), true, nil
		}
	case (e == nil || e.cur == nil) && req.Role == balancer.Play && k.pin != "":
		o := r.origins[k.id]
		if o != nil && o.inc == k.inc && r.usableLocked(k.id, now, req.Exclude) {
			h := r.holdLocked(key, req.Stream, o.Origin)
			h.pin, h.published = k.pin, true
			r.hurry() // others should know
			return r.leaseLocked(h, req.Role), true, nil
		}
	}
	return l, false, nil
}

// holdLocked makes a pin the one that new sessions get.
func (r *Redis) holdLocked(key string, s balancer.Stream, o balancer.Origin) *held {
	r.lastID++
	h := &held{id: r.lastID, stream: s, origin: o}
	r.leases[h.id] = h
	e := r.entryLocked(key)
	r.leaveBehindLocked(e)
	e.cur = h
	return h
}

// leaveBehindLocked takes the stream from the pin that new sessions got.
func (r *Redis) leaveBehindLocked(e *entry) {
	h := e.cur
	if h == nil {
		return
	}
	e.cur, h.over = nil, true
	if h.pubs+h.plays > 0 {
		e.old = append(e.old, h)
	} else {
		delete(r.leases, h.id)
	}
}

// warnLocked asks the sessions of a pin that is over to end. Those that are just being
// connected have no ears yet: poll asks again.
func (r *Redis) warnLocked(h *held) {
	h.warned = true
	if r.moved != nil {
		go r.moved(h.stream, h.id)
	}
}

func (r *Redis) warnAgainLocked() {
	for _, e := range r.entries {
		for _, h := range e.old {
			if h.warned {
				r.warnLocked(h)
			}
		}
	}
}

// OnMoved has f called when sessions hold a pin whose stream is published at another
// origin: players see nothing where they are, and a publisher there is a second one. It is
// called on a goroutine of its own, with the Pin of their leases. Set it before the first Pick.
func (r *Redis) OnMoved(f func(s balancer.Stream, pin uint64)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moved = f
}

func (r *Redis) leaseLocked(h *held, role balancer.Role) balancer.Lease {
	if role == balancer.Publish {
		h.pubs++
		h.published = true
	} else {
		h.plays++
	}
	o := h.origin
	if now := r.origins[o.ID]; now != nil && now.Service == o.Service {
		o = now.Origin
	}
	return balancer.Lease{Stream: h.stream, Role: role, Origin: o, Pin: h.id}
}

// ask lets Redis decide.
func (r *Redis) ask(ctx context.Context, req balancer.Request, key string, e *entry) (balancer.Lease, error) {
	synced := false
	for {
		p, err := r.askAfterRecovery(ctx, func() (reply, error) {
			args, err := r.pickArgs(req, key, e)
			if err != nil {
				return nil, err
			}
			return r.call(ctx, r.lua.pick, args...)
		})
		if err != nil {
			return balancer.Lease{}, err
		}
		switch p.word() {
		case "ok":
			return r.picked(req, key, e, p)
		case "owner":
			return balancer.Lease{}, fmt.Errorf("%w: origin %s", balancer.ErrOwnerUnreachable, p.text(1))
		case "full":
			return balancer.Lease{}, balancer.ErrTooManyStreams
		case "settling":
			if err := sleep(ctx, time.Duration(min(p.number(1)+1, 100))*time.Millisecond); err != nil {
				return balancer.Lease{}, err
			}
		case "unknown":
			if synced {
				return balancer.Lease{}, fmt.Errorf("%w: server %s can't be used", balancer.ErrNoOrigin, p.text(1))
			}
			synced = true
			if err := r.importServers(ctx); err != nil {
				return balancer.Lease{}, err
			}
		case "none":
			if synced {
				return balancer.Lease{}, fmt.Errorf("%w: %s", balancer.ErrNoOrigin, r.why(req.Exclude))
			}
			synced = true
			if err := errors.Join(r.catchUp(ctx), r.importServers(ctx)); err != nil {
				return balancer.Lease{}, err
			}
		default:
			return balancer.Lease{}, fmt.Errorf("pick: Redis said %q", p.word())
		}
	}
}

func (r *Redis) pickArgs(req balancer.Request, key string, e *entry) ([]any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var mine string
	var pubs, plays int
	if h := e.cur; h != nil {
		mine, pubs, plays = h.pin, h.pubs, h.plays
	}
	if req.Role == balancer.Publish {
		pubs++
	} else {
		plays++
	}
	exclude, err1 := json.Marshal(append([]string{}, req.Exclude...))
	avoid, err2 := json.Marshal(r.avoidedLocked(now))
	from, err3 := json.Marshal(r.candidatesLocked(now, req.Exclude))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return []any{key, req.Role.String(), r.self, mine, pubs, plays, r.cfg.Hold.Milliseconds(), exclude, avoid, from, r.cfg.MaxPins}, nil
}

// picked takes the answer in: pin, origin's ID and record, published, event.
func (r *Redis) picked(req balancer.Request, key string, e *entry, p reply) (balancer.Lease, error) {
	o, err := parseOrigin(p.text(3))
	if err != nil {
		return balancer.Lease{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := e.cur
	if h == nil || (h.pin != p.text(1) && h.origin.ID != o.ID) || h.origin.Service != o.Service {
		h = r.holdLocked(key, req.Stream, o.Origin)
	}
	if known := r.origins[o.ID]; known != nil && r.known[key].pin != p.text(1) {
		// Else all that is placed until the next count would go to the same few origins.
		known.streams++
		r.placed = true
	}
	h.pin = p.text(1)
	h.published = h.published || p.text(4) == "1"
	r.learnLocked(key, h, o, p)
	l := r.leaseLocked(h, req.Role)
	h.told, h.until = [2]int{h.pubs, h.plays}, time.Now().Add(r.cfg.Hold)
	return l, nil
}

// learnLocked keeps our copy as true as an answer.
func (r *Redis) learnLocked(key string, h *held, o *origin, p reply) {
	seen := p.number(5)
	if old := r.origins[o.ID]; old == nil {
		o.seen = seen
		r.setOriginLocked(o)
	}
	if h.published && r.known[key].seen <= seen {
		r.known[key] = known{pin: h.pin, inc: o.inc, id: o.ID, seen: seen}
	}
}

// Release implements balancer.Balancer.
func (r *Redis) Release(ctx context.Context, l balancer.Lease) error {
	key := l.Stream.String()
	r.mu.Lock()
	h := r.leases[l.Pin]
	if h == nil {
		r.mu.Unlock()
		return nil // forgotten with its origin
	}
	if l.Role == balancer.Publish {
		h.pubs--
	} else {
		h.plays--
	}
	if h.over {
		r.endOldLocked(key, h)
		r.mu.Unlock()
		return nil
	}
	ends := h.pubs+h.plays == 0 || l.Role == balancer.Publish && h.pubs == 0
	if h.pubs+h.plays == 0 {
		h.idle = time.Now()
	}
	away := r.away
	r.mu.Unlock()
	if !ends || away {
		return nil // told with the next renewal, or when Redis is back
	}
	e, err := r.enter(ctx, key)
	if err != nil {
		return err
	}
	defer r.leave(key, e)
	outcome := ""
	switch {
	case l.Role != balancer.Publish:
	case l.Served:
		outcome = "served"
	case l.Refused:
		outcome = "refused"
	}
	return r.tell(ctx, key, h, outcome)
}

// endOldLocked forgets a pin that was left behind when its last session has ended.
func (r *Redis) endOldLocked(key string, h *held) {
	if h.pubs+h.plays > 0 {
		return
	}
	delete(r.leases, h.id)
	if e := r.entries[key]; e != nil {
		e.old = slices.DeleteFunc(e.old, func(o *held) bool { return o == h })
		r.tidyLocked(key, e)
	}
}

// tell tells Redis what we hold of a pin. The caller is through the gate. What can't be told
// now will be when Redis is back.
func (r *Redis) tell(ctx context.Context, key string, h *held, outcome string) error {
	var told [2]int
	p, err := r.askAfterRecovery(ctx, func() (reply, error) {
		args, n, err := r.holdArgs(key, h, outcome)
		if err != nil {
			return nil, err
		}
		told = n
		return r.call(ctx, r.lua.hold, args...)
	})
	if errors.Is(err, balancer.ErrUnavailable) {
		return nil
	}
	if err != nil {
		return err
	}
	r.noteTold(key, h, told, p)
	return nil
}

func (r *Redis) holdArgs(key string, h *held, outcome string) (args []any, told [2]int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := []byte("[]")
	if outcome == "refused" {
		if from, err = json.Marshal(r.candidatesLocked(time.Now(), []string{h.origin.ID})); err != nil {
			return nil, told, err
		}
	}
	published := 0
	if h.published {
		published = 1
	}
	told = [2]int{h.pubs, h.plays}
	return []any{key, r.self, h.pin, h.pubs, h.plays, r.cfg.Hold.Milliseconds(), h.origin.ID, h.origin.Service, published, outcome,
		balancer.MaxRefusals, balancer.ReturnTime.Milliseconds(), from, r.cfg.MaxPins}, told, nil
}

// noteTold takes in what Redis says of what it was told.
func (r *Redis) noteTold(key string, h *held, told [2]int, p reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	if e == nil || e.cur != h {
		return
	}
	switch p.word() {
	case "ok":
		h.pin, h.told, h.until = p.text(1), told, time.Now().Add(r.cfg.Hold)
		if o, err := parseOrigin(p.text(3)); err == nil {
			h.published = h.published || p.text(4) == "1"
			r.learnLocked(key, h, o, p)
		}
		if h.pubs+h.plays > 0 {
			return
		}
	case "full":
		h.until = time.Now().Add(r.cfg.Hold) // it is not kept; try again then
		return
	case "moved":
		published := p.text(4) == "1"
		if o, err := parseOrigin(p.text(3)); err == nil && published && r.known[key].seen <= p.number(5) {
			r.known[key] = known{pin: p.text(1), inc: o.inc, id: o.ID, seen: p.number(5)}
		}
		if published {
			r.warnLocked(h)
		}
	default: // gone
		if told != [2]int{h.pubs, h.plays} {
			return // a session came meanwhile; it will be told
		}
	}
	r.leaveBehindLocked(e)
	r.tidyLocked(key, e)
}

// due tells whether Redis is to be told of a pin.
func (h *held) due(now time.Time, hold time.Duration) bool {
	return (h.pubs > 0) != (h.told[0] > 0) || (h.plays > 0) != (h.told[1] > 0) || h.until.Sub(now) < hold*2/3
}

// tellOn tells what was not told at once: joins of known streams, and renewals.
func (r *Redis) tellOn(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.kick:
		}
		if !r.isAway() {
			r.tellDue(ctx, false)
		}
	}
}

// hurry makes tellOn look now.
func (r *Redis) hurry() {
	select {
	case r.kick <- struct{}{}:
	default: // it will
	}
}

// batch is how many pins are told in one go.
const batch = 256

type telling struct {
	key  string
	e    *entry
	h    *held
	told [2]int
	cmd  *redis.Cmd
}

// tellDue tells all that is due, or all at all. Streams that somebody asks about right
// now are left to the next time, or waited for.
func (r *Redis) tellDue(ctx context.Context, all bool) {
	now := time.Now()
	r.mu.Lock()
	var due []telling
	for key, e := range r.entries {
		if e.cur == nil || !all && !e.cur.due(now, r.cfg.Hold) {
			continue
		}
		if !all && len(e.gate) > 0 {
			continue
		}
		e.waiting++
		due = append(due, telling{key: key, e: e, h: e.cur})
	}
	r.mu.Unlock()
	for part := range slices.Chunk(due, batch) {
		r.tellBatch(ctx, part)
	}
}

func (r *Redis) tellBatch(ctx context.Context, part []telling) {
	var through []telling
	for _, t := range part {
		select {
		case t.e.gate <- struct{}{}:
			through = append(through, t)
		default: // asked about now, which tells as well
			r.mu.Lock()
			t.e.waiting--
			r.tidyLocked(t.key, t.e)
			r.mu.Unlock()
		}
	}
	defer func() {
		for _, t := range through {
			r.leave(t.key, t.e)
		}
	}()
	if err := r.tellPart(ctx, r.currentEpoch(), through); err != nil && !errors.Is(err, errLost) { // then all is written back soon
		r.lose(err)
	}
}

// tellPart tells some pins in one go.
func (r *Redis) tellPart(ctx context.Context, epoch string, part []telling) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
	defer cancel()
	pipe := r.rdb.Pipeline()
	for i, t := range part {
		args, told, err := r.holdArgs(t.key, t.h, "")
		if err != nil {
			return err
		}
		part[i].told = told
		part[i].cmd = r.lua.hold.EvalSha(ctx, pipe, r.scriptKeys(), r.scriptArgs(epoch, args)...)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for _, t := range part {
		l, err := t.cmd.Slice()
		if redis.HasErrorPrefix(err, "NOSCRIPT") { // emptied by SCRIPT FLUSH
			return r.loadHold(ctx)
		}
		if err != nil {
			return err
		}
		if reply(l).word() == "lost" {
			return errLost
		}
		r.noteTold(t.key, t.h, t.told, l)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// why tells why no origin is available.
func (r *Redis) why(exclude []string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	var draining, ejected, excluded int
	for id, o := range r.origins {
		switch {
		case slices.Contains(exclude, id):
			excluded++
		case o.State != balancer.Up:
			draining++
		case o.ejection.Active(now):
			ejected++
		}
	}
	return fmt.Sprintf("%d registered, %d draining, %d ejected after dial failures, %d just failed", len(r.origins), draining, ejected, excluded)
}
