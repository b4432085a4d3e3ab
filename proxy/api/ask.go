package api

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/proxy/httplife"
	"srs-proxy/proxy/originapi"
)

// How long a question waits for its answers.
const (
	// askNext is after how long another origin is asked what any of them can answer.
	askNext = 100 * time.Millisecond
	// askTurns is how many questions may be put to all origins at a time. More wait.
	askTurns = 32
	// stragglersIn of so many origins one may be a straggler, but one always.
	stragglersIn = 16
)

// answer is what came of asking one origin.
type answer struct {
	origin string
	originapi.Answer
	err error
}

// ok says that the origin did what was asked.
func (a answer) ok() bool {
	return a.err == nil && a.Code == 0 && len(a.Body) > 0
}

// asker asks many origins.
type asker struct {
	client  *originapi.Client
	stop    context.Context // ends all questions
	running httplife.Gate   // the questions
	turns   chan struct{}   // held by questions to all origins
	times   times

	most      time.Duration // see Config.AskTimeout
	straggler time.Duration // see Config.AskStraggler
}

func newAsker(stop context.Context, client *originapi.Client, cfg Config) *asker {
	return &asker{client: client, stop: stop, turns: make(chan struct{}, askTurns), most: cfg.AskTimeout, straggler: cfg.AskStraggler}
}

func (k *asker) ask(ctx context.Context, o balancer.Origin, q originapi.Question) answer {
	if o.Endpoints.API == "" {
		return answer{origin: o.ID, err: errNoAPI}
	}
	a, err := k.client.Ask(ctx, o.Endpoints.API, q)
	return answer{origin: o.ID, Answer: a, err: err}
}

// bounded is a context for a question that goes on when ctx, that of a client, ends.
func (k *asker) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), k.most)
	unhook := context.AfterFunc(k.stop, cancel)
	return ctx, func() { unhook(); cancel() }
}

// errNoAPI is of an origin that said no address for its API.
var errNoAPI = errors.New("the origin has no API")

// all asks every origin at once, and gives their answers in the order of origins. It
// returns when all have answered, when enough (see enough) is true of an answer, or
// when those that have not are waited for long enough: these have ErrNoAnswer then.
// What they say later only teaches how long they take.
func (k *asker) all(ctx context.Context, origins []balancer.Origin, q originapi.Question, enough func(answer) bool) []answer {
	answers := make([]answer, len(origins))
	for i, o := range origins {
		answers[i] = answer{origin: o.ID, err: originapi.ErrNoAnswer}
	}
	if len(origins) == 0 || !k.running.Enter() {
		return answers
	}
	ctx, cancel := k.bounded(ctx)
	select {
	case k.turns <- struct{}{}:
	case <-ctx.Done():
		cancel()
		k.running.Leave()
		return answers
	}
	type indexed struct {
		i int
		a answer
	}
	came := make(chan indexed, len(origins))
	waiting := k.patience(origins)
	var asking sync.WaitGroup
	for i, o := range origins {
		asking.Go(func() {
			a := k.ask(ctx, o, q)
			if a.err == nil {
				k.times.late(o.ID, waiting.late())
			}
			came <- indexed{i, a}
		})
	}
	go func() {
		asking.Wait()
		cancel()
		<-k.turns
		k.running.Leave()
	}()

	for range origins {
		select {
		case in := <-came:
			answers[in.i] = in.a
			waiting.answered(in.i)
			if enough != nil && enough(in.a) {
				cancel() // nobody needs the others
				return answers
			}
		case <-waiting.over():
			return answers
		}
	}
	return answers
}

// any asks one origin after the other, without waiting long for one, until one
// answers. Without one, false comes with what was wrong with each.
func (k *asker) any(ctx context.Context, origins []balancer.Origin, q originapi.Question) (answer, []answer, bool) {
	answers := make([]answer, len(origins))
	for i, o := range origins {
		answers[i] = answer{origin: o.ID, err: originapi.ErrNoAnswer}
	}
	if len(origins) == 0 || !k.running.Enter() {
		return answer{}, answers, false
	}
	defer k.running.Leave()
	ctx, cancel := k.bounded(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	came := make(chan answer, len(origins))
	next := time.NewTimer(0)
	defer next.Stop()
	for asked, open := 0, len(origins); open > 0; {
		select {
		case <-next.C:
			if asked == len(origins) {
				continue
			}
			o := origins[asked]
			asked++
			asking.Go(func() { came <- k.ask(ctx, o, q) })
			next.Reset(askNext)
		case a := <-came:
			open--
			if a.err == nil {
				return a, nil, true
			}
			i := slices.IndexFunc(answers, func(b answer) bool { return b.origin == a.origin })
			answers[i] = a
			next.Reset(0) // a quick no: the next one at once
		case <-ctx.Done():
			return answer{}, answers, false
		}
	}
	return answer{}, answers, false
}

// patience decides how long a question waits. A machine that is busy makes all origins
// slow; what tells a stopped one is that it is later than the others.
type patience struct {
	began   time.Time
	pending map[int]time.Duration // how late each may be expected to be
	few     int                   // so many may be stragglers
	least   time.Duration         // that a straggler gets, and
	most    time.Duration         // the most, of the question's beginning
	timer   *time.Timer           // nil until only a few are left
	left    atomic.Int64          // when that was, in ns of the beginning; 0 before
}

func (k *asker) patience(origins []balancer.Origin) *patience {
	p := &patience{
		began: time.Now(), pending: make(map[int]time.Duration, len(origins)),
		few: min(max(1, len(origins)/stragglersIn), len(origins)-1), least: k.straggler, most: k.most,
	}
	for i, o := range origins {
		p.pending[i] = 3 * k.times.of(o.ID)
	}
	return p
}

// answered says that one has.
func (p *patience) answered(i int) {
	delete(p.pending, i)
	if p.timer != nil || len(p.pending) > p.few {
		return
	}
	took := time.Since(p.began)
	p.left.Store(int64(took))
	until := max(p.least, took+took/2)
	for _, late := range p.pending {
		until = max(until, took+late)
	}
	p.timer = time.NewTimer(max(0, min(p.most, until)-took))
}

// over fires when nobody is worth waiting for any more. Until only a few are left
// that is for the question's own deadline to say.
func (p *patience) over() <-chan time.Time {
	if p.timer == nil {
		return nil
	}
	return p.timer.C
}

// late is how long after the others an answer is that comes now.
func (p *patience) late() time.Duration {
	left := p.left.Load()
	if left == 0 {
		return 0
	}
	return time.Since(p.began) - time.Duration(left)
}

// times remembers how much later than the others each origin answers.
type times struct {
	mu    sync.Mutex // guards known
	known map[string]time.Duration
}

func (t *times) of(id string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[id]
}

// late notes an answer: up at once, down slowly.
func (t *times) late(id string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = make(map[string]time.Duration)
	}
	if was := t.known[id]; d < was {
		d = was - (was-d)/8
	}
	t.known[id] = d
}

// keep forgets all but those of origins.
func (t *times) keep(origins []balancer.Origin) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) <= 2*len(origins) {
		return
	}
	still := make(map[string]time.Duration, len(origins))
	for _, o := range origins {
		if d, ok := t.known[o.ID]; ok {
			still[o.ID] = d
		}
	}
	t.known = still
}
