package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"srs-proxy/bench/load"
)

// compare runs the cases and writes the results, those that there are when it is
// interrupted too.
func compare(ctx context.Context, o options, stdout, stderr io.Writer) error {
	res := newResults(o)
	var failed error
	for _, c := range cases() {
		if !contains(o.cases, c.name) {
			continue
		}
		if failed = runCase(ctx, o, c, res, stderr); failed != nil {
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

func contains(list []string, name string) bool {
	for _, s := range list {
		if s == name {
			return true
		}
	}
	return false
}

// runCase measures each peer in turn, round after round.
func runCase(ctx context.Context, o options, c benchCase, res *results, stderr io.Writer) error {
	_, _ = fmt.Fprintf(stderr, "%s: %s\n", c.name, c.title) // progress; nobody depends on it
	s, err := newStack(ctx, o, c)
	if err != nil {
		return err
	}
	defer s.close()
	for _, line := range s.skipped {
		_, _ = fmt.Fprintln(stderr, " ", line)
	}
	res.found(s)
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
	if c.kind == playing {
		if err := b.publishAll(ctx); err != nil {
			return err
		}
	}
	for round := range o.rounds {
		for _, p := range s.peers {
			leg, err := b.leg(ctx, p, round)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", p.name, round+1, err)
			}
			res.add(leg)
			_, _ = fmt.Fprintf(stderr, "  round %d %-10s %s\n", round+1, p.name, leg.line(c))
		}
	}
	return nil
}

func (b *bed) leg(ctx context.Context, p *peer, round int) (*leg, error) {
	l := &leg{Case: b.name, Peer: p.name, Round: round + 1}
	var err error
	switch b.kind {
	case playing:
		err = b.playLeg(ctx, p, l)
	case publishing:
		err = b.publishLeg(ctx, p, l)
	}
	return l, err
}

// rampStep is the time between two sessions that begin.
const rampStep = 10 * time.Millisecond

// playLeg has players come through the peer, one after another, and measures when all
// are there.
func (b *bed) playLeg(ctx context.Context, p *peer, l *leg) error {
	var players []*load.Player
	defer func() { b.load.Release(nil, players) }()
	for range b.players {
		for i, pub := range b.published {
			pl, err := b.load.Play(b.playURL(p, b.urls[i]), pub)
			if err != nil {
				return err
			}
			players = append(players, pl)
			if err := sleep(ctx, rampStep); err != nil {
				return err
			}
		}
	}
	if err := waitFor(ctx, 15*time.Second, func() bool { return allRunning(players) }); err != nil {
		return err
	}
	if _, err := b.measure(ctx, p, l); err != nil {
		return err
	}
	l.cost(float64(l.DeliveredBytes) / 1e9)
	return nil
}

// watched is how many of the streams of a publish case are played at the origin, to
// see that they arrive, and how late.
const watched = 10

// publishLeg publishes through the peer. Ten players at the origin see what arrives.
func (b *bed) publishLeg(ctx context.Context, p *peer, l *leg) error {
	var publishers []*load.Publisher
	var players []*load.Player
	defer func() { b.load.Release(publishers, players) }()
	for i := range b.streams {
		url, pub, err := b.publish(p.RTMP, i)
		if err != nil {
			return err
		}
		publishers = append(publishers, pub)
		if i < watched {
			if err := waitFor(ctx, 5*time.Second, pub.Running); err != nil {
				return err
			}
			pl, err := b.load.Play("rtmp://"+b.stack.origin.RTMP+url, pub)
			if err != nil {
				return err
			}
			players = append(players, pl)
		}
		if err := sleep(ctx, rampStep); err != nil {
			return err
		}
	}
	if err := waitFor(ctx, 15*time.Second, func() bool { return allRunning(publishers) && allRunning(players) }); err != nil {
		return err
	}
	if _, err := b.measure(ctx, p, l); err != nil {
		return err
	}
	l.cost(float64(l.PublishedBytes) / 1e9)
	return nil
}

// publish begins a stream of a new name and says its path.
func (b *bed) publish(addr string, i int) (string, *load.Publisher, error) {
	b.names++
	path := fmt.Sprintf("/live/%s-%d", b.name, b.names)
	s := load.StreamOf(b.bitrate)
	s.Phase = float64(i) / float64(b.streams)
	pub, err := b.load.Publish("rtmp://"+addr+path, s)
	return path, pub, err
}

// publishTries is how often a stream gets a new name. SRS now and then accepts a
// publisher whose frames no player ever gets; that is not what is measured.
const publishTries = 5

// publishAll publishes the streams of a case straight to the origin, and sees with a
// player each that they can be played.
func (b *bed) publishAll(ctx context.Context) error {
	for i := range b.streams {
		if err := b.publishOne(ctx, i); err != nil {
			return fmt.Errorf("stream %d at the origin: %w", i, err)
		}
	}
	return nil
}

func (b *bed) publishOne(ctx context.Context, i int) error {
	var last error
	for range publishTries {
		url, pub, err := b.publish(b.stack.origin.RTMP, i)
		if err != nil {
			return err
		}
		var probe []*load.Player
		if last = waitFor(ctx, 5*time.Second, pub.Running); last == nil {
			pl, err := b.load.Play("rtmp://"+b.stack.origin.RTMP+url, pub)
			if err != nil {
				return err
			}
			probe = append(probe, pl)
			last = waitFor(ctx, 3*time.Second, pl.Running)
		}
		if last == nil {
			b.published, b.urls = append(b.published, pub), append(b.urls, url)
			b.load.Release(nil, probe)
			return nil
		}
		b.load.Release([]*load.Publisher{pub}, probe)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return last
}

func (b *bed) playURL(p *peer, path string) string {
	if b.protocol == load.FLV {
		addr := p.HTTP
		if p.stream != "" {
			addr = p.stream
		}
		return "http://" + addr + path + ".flv"
	}
	return "rtmp://" + p.RTMP + path
}

// allRunning says that all sessions have begun.
func allRunning[T interface{ Running() bool }](sessions []T) bool {
	for _, s := range sessions {
		if !s.Running() {
			return false
		}
	}
	return true
}

// waitFor waits for a condition, but not for ever: sessions that never begin are
// in the report, as lost frames and errors.
func waitFor(ctx context.Context, atMost time.Duration, is func() bool) error {
	for deadline := time.Now().Add(atMost); !is(); {
		if time.Now().After(deadline) {
			return errNotRunning
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

var errNotRunning = errNever{}

type errNever struct{}

func (errNever) Error() string { return "not all sessions began in time" }

// line is a leg in short.
func (l *leg) line(c benchCase) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%6.1f MB, lost %d, %s %.2f (with origin %.2f), latency p50 %.2f p99 %.2f ms, first frame p50 %.1f ms",
		float64(max(l.DeliveredBytes, l.PublishedBytes))/1e6, l.LostFrames, c.unit, l.ProxyCost, l.BothCost, l.LatencyP50, l.LatencyP99, l.FirstP50)
	for text, n := range l.Errors {
		_, _ = fmt.Fprintf(&b, "; %d x %s", n, text)
	}
	return b.String()
}
