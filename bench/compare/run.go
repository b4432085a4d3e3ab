package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"srs-proxy/bench/load"
)

// compare runs the cases and writes the results, those that there are when it is
// interrupted too.
func compare(ctx context.Context, o options, stdout, stderr io.Writer) error {
	raiseFiles()
	res := newResults(o)
	var failed error
	for _, c := range cases() {
		if !slices.Contains(o.cases, c.name) {
			continue
		}
		if failed = runCase(ctx, o, c.scaled(o.scale), res, stderr); ctx.Err() != nil {
			failed = errors.New("interrupted")
			break
		} else if failed != nil {
			failed = fmt.Errorf("case %s: %w", c.name, failed)
			break
		}
	}
	if len(res.Legs) > 0 {
		if err := res.write(o.out, stdout); err != nil {
			return err
		}
	}
	return failed
}

// runCase measures each peer in turn, round after round.
func runCase(ctx context.Context, o options, c benchCase, res *results, stderr io.Writer) error {
	_, _ = fmt.Fprintf(stderr, "%s: %s\n", c.name, c.title) // progress; nobody depends on it
	c, note := c.affordable()
	if note != "" {
		_, _ = fmt.Fprintln(stderr, " ", note)
		res.Skipped = append(res.Skipped, note)
	}
	s, err := newStack(ctx, o, c)
	if err != nil {
		return err
	}
	defer s.close()
	for _, line := range s.skipped {
		_, _ = fmt.Fprintln(stderr, " ", line)
	}
	res.found(s, c)
	if err := s.watchIdle(ctx); err != nil {
		return err
	}
	l, err := load.New()
	if err != nil {
		return err
	}
	lctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- l.Run(lctx) }()
	defer func() {
		stop()
		<-ended // its only error, of epoll, has ended the sessions: the report has them
	}()
	b := &bed{options: o, benchCase: c, stack: s, load: l}
	if c.publishesAtOrigin() {
		if err := b.publishAll(ctx); err != nil {
			return err
		}
	}
	for round := range o.rounds {
		for _, p := range s.peers {
			if err := b.revive(ctx); err != nil {
				return err
			}
			leg, err := b.leg(ctx, p, round)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				leg.fail(p.explain(err).Error())
			}
			res.add(leg)
			_, _ = fmt.Fprintf(stderr, "  round %d %-10s %s\n", round+1, p.name, leg.line(c))
		}
	}
	return nil
}

func (b *bed) leg(ctx context.Context, p *peer, round int) (*leg, error) {
	l := &leg{Case: b.name, Peer: p.name, Round: round + 1, IdleCPU: p.idle}
	var err error
	switch b.kind {
	case playing:
		err = b.playLeg(ctx, p, l)
	case publishing:
		err = b.publishLeg(ctx, p, l)
	case polling:
		err = b.pollLeg(ctx, p, l)
	case conversing:
		err = b.converseLeg(ctx, p, l)
	case holding:
		err = b.holdLeg(ctx, p, l)
	case churning:
		err = b.churnLeg(ctx, p, l)
	}
	return l, err
}

// line is a leg in short.
func (l *leg) line(c benchCase) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%6.1f MB, lost %d, %s %.2f (with origin %.2f), latency p50 %.2f p99 %.2f ms, first frame p50 %.1f ms",
		float64(max(l.DeliveredBytes, l.PublishedBytes))/1e6, l.LostFrames, c.unit, l.ProxyCost, l.BothCost, l.LatencyP50, l.LatencyP99, l.FirstP50)
	for text, n := range l.Errors {
		_, _ = fmt.Fprintf(&b, "; %d x %s", n, text)
	}
	if l.Disturbed {
		b.WriteString("; disturbed: this machine was too busy to measure")
	}
	return b.String()
}
