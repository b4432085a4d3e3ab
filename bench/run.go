package bench

import (
	"context"
	"strings"
	"time"

	"srs-proxy/bench/load"
)

// run is a Run under way.
type run struct {
	Config
	plan
	load *load.Load
	tell func(Progress)

	publishers []*load.Publisher
	begun      []interface{ Running() bool } // all sessions
}

// Times of a run.
const (
	tellEvery   = 500 * time.Millisecond
	beginWithin = 15 * time.Second // after the last session was asked for
	drainWithin = 3 * time.Second
	pollEvery   = time.Second
	settle      = time.Second
)

func (r *run) run(ctx context.Context) (*Summary, error) {
	if err := r.rampUp(ctx); err != nil {
		return nil, ended(ctx, err)
	}
	missing := len(r.begun) - r.running()
	begins, ends := r.load.Window(50*time.Millisecond, r.Duration)
	before := r.load.Report()
	for time.Now().Before(ends) && ctx.Err() == nil {
		r.tell(Progress{Phase: "measuring", Done: int(time.Since(begins).Seconds()), Total: int(r.Duration.Seconds()), Report: r.load.Report()})
		_ = load.Sleep(ctx, min(tellEvery, time.Until(ends))) // the loop looks at the context
	}
	if ctx.Err() != nil {
		ends = r.load.EndWindow()
		_ = load.Sleep(context.WithoutCancel(ctx), time.Until(ends)) // it cannot fail
	}
	after := r.load.Report()
	if r.Streams > 0 {
		r.load.Drain(context.WithoutCancel(ctx), drainWithin)
	}
	s := &Summary{Report: r.load.Report(), Published: r.Streams > 0, Missing: missing, Elapsed: max(ends.Sub(begins), time.Millisecond)}
	s.In, s.Out = s.Report.Published.Bytes, after.All-before.All
	if s.Published && s.Delivered.Bytes > 0 {
		s.Out = s.Delivered.Bytes
	}
	return s, nil
}

// ended makes an interrupt an end without a summary.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// rampUp begins the sessions, publishers first, and waits until they run.
func (r *run) rampUp(ctx context.Context) error {
	for i, u := range r.publish {
		s := load.StreamOf(load.ProtocolOf(u), r.Bitrate)
		s.Phase = float64(i) / float64(len(r.publish))
		p, err := r.load.Publish(u, s)
		if err != nil {
			return err
		}
		r.publishers, r.begun = append(r.publishers, p), append(r.begun, p)
		if err := r.next(ctx); err != nil {
			return err
		}
	}
	if err := r.wait(ctx); err != nil {
		return err
	}
	for range r.players {
		for n, urls := range r.play {
			for _, u := range urls {
				if err := r.playOne(u, n); err != nil {
					return err
				}
				if err := r.next(ctx); err != nil {
					return err
				}
			}
		}
	}
	if err := r.wait(ctx); err != nil {
		return err
	}
	return load.Sleep(ctx, settle)
}

func (r *run) playOne(u string, n int) error {
	if p, _, _ := strings.Cut(u, "?"); strings.HasSuffix(p, hls) {
		po, err := r.load.Poll(u, pollEvery)
		if err == nil {
			r.begun = append(r.begun, po)
		}
		return err
	}
	var of *load.Publisher
	if n < len(r.publishers) {
		of = r.publishers[n]
	}
	pl, err := r.load.Play(u, of)
	if err == nil {
		r.begun = append(r.begun, pl)
	}
	return err
}

// next waits for the next session's turn.
func (r *run) next(ctx context.Context) error {
	if len(r.begun)%max(1, r.Rate/2) == 0 {
		r.tellRamp()
	}
	return load.Sleep(ctx, time.Second/time.Duration(r.Rate))
}

func (r *run) tellRamp() {
	r.tell(Progress{Phase: "ramp-up", Done: r.running(), Total: r.sessions(), Report: r.load.Report()})
}

// wait waits until all sessions run, or have failed, or had their time.
func (r *run) wait(ctx context.Context) error {
	told := time.Time{}
	for late := time.Now().Add(beginWithin); time.Now().Before(late); {
		if r.running()+r.load.Report().Failed() >= len(r.begun) {
			return nil
		}
		if time.Since(told) > tellEvery {
			r.tellRamp()
			told = time.Now()
		}
		if err := load.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) running() (n int) {
	for _, s := range r.begun {
		if s.Running() {
			n++
		}
	}
	return n
}
