package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"srs-proxy/bench/load"
	"srs-proxy/bench/meter"
)

// rampStep is the time between two sessions that begin.
const rampStep = 10 * time.Millisecond

// beginTimeout is how long sessions may take to begin, once all were asked for.
const beginTimeout = 15 * time.Second

// playLeg has players come through the peer, one after another, and measures when all
// are there.
func (b *bed) playLeg(ctx context.Context, p *peer, l *leg) error {
	players, err := b.playAll(ctx, p, b.published, b.urls)
	defer func() { b.load.Release(nil, players) }()
	if err != nil {
		return err
	}
	if _, err := b.measure(ctx, p, l); err != nil {
		return err
	}
	l.cost(float64(l.DeliveredBytes) / 1e9)
	return nil
}

// playAll has the case's players of each stream come through the peer, one after
// another, and waits until all are there. It returns those that there are on an error too.
func (b *bed) playAll(ctx context.Context, p *peer, streams []*load.Publisher, paths []string) (players []*load.Player, err error) {
	for range b.players {
		for i, pub := range streams {
			pl, err := b.load.Play(b.url(p, paths[i]), pub)
			if err != nil {
				return players, err
			}
			players = append(players, pl)
			if err := load.Sleep(ctx, rampStep); err != nil {
				return players, err
			}
		}
	}
	return players, allBegin(ctx, players)
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
		var pub *load.Publisher
		var err error
		if i < watched {
			var pl *load.Player
			if _, pub, pl, err = b.publishProved(ctx, p, i); err == nil {
				players = append(players, pl)
			}
		} else {
			_, pub, err = b.publish(p, i)
		}
		if err != nil {
			return fmt.Errorf("stream %d: %w", i, err)
		}
		publishers = append(publishers, pub)
		if err := load.Sleep(ctx, rampStep); err != nil {
			return err
		}
	}
	if err := allBegin(ctx, publishers); err != nil {
		return err
	}
	if _, err := b.measure(ctx, p, l); err != nil {
		return err
	}
	l.cost(float64(l.PublishedBytes) / 1e9)
	return nil
}

// pollEvery is how often a player of HLS looks: half a segment.
const pollEvery = time.Second

// pollLeg fetches playlists and segments.
func (b *bed) pollLeg(ctx context.Context, p *peer, l *leg) error {
	var pollers []*load.Poller
	defer func() { b.load.ReleasePollers(pollers) }()
	for range b.players {
		for _, path := range b.urls {
			po, err := b.load.Poll(b.url(p, path), pollEvery)
			if err != nil {
				return err
			}
			pollers = append(pollers, po)
			if err := load.Sleep(ctx, rampStep); err != nil {
				return err
			}
		}
	}
	if err := allBegin(ctx, pollers); err != nil {
		return err
	}
	reads, err := watchFetches(b.stack.dir)
	if err != nil {
		return err
	}
	_, err = b.measure(ctx, p, l)
	// Of the built-in origin there are no files to watch, but nothing is written into
	// any either: what it wrote went to the peer.
	l.Fetches = l.OriginOut * float64(b.players)
	if reads != nil {
		l.Fetches = reads.end()
	}
	if err != nil {
		return err
	}
	l.cost(float64(l.DeliveredBytes) / 1e9)
	return nil
}

// converseLeg has publishers and players through the peer.
func (b *bed) converseLeg(ctx context.Context, p *peer, l *leg) error {
	var publishers []*load.Publisher
	var players []*load.Player
	defer func() { b.load.Release(publishers, players) }()
	var paths []string
	for i := range b.streams {
		path, pub, err := b.publish(p, i)
		if err != nil {
			return err
		}
		publishers, paths = append(publishers, pub), append(paths, path)
	}
	if err := allBegin(ctx, publishers); err != nil {
		return err
	}
	var err error
	if players, err = b.playAll(ctx, p, publishers, paths); err != nil {
		return err
	}
	r, err := b.measure(ctx, p, l)
	if err != nil {
		return err
	}
	l.cost(float64(r.Published.Frames+r.Delivered.Frames) / 1e6)
	return nil
}

// quiet is a stream that hardly says anything: one frame a second.
func quiet(protocol load.Protocol) load.Stream {
	s := load.StreamOf(protocol, 0)
	s.FPS, s.Burst = 1, 1
	return s
}

// idleFor is how long sessions that have nothing to do are left alone before their
// memory is read.
const idleFor = 3 * time.Second

// holdLeg opens sessions and sees what memory they take. What is compared is the
// proxy's own memory before its first session of all: later rounds find a heap that has
// grown already.
func (b *bed) holdLeg(ctx context.Context, p *peer, l *leg) error {
	held, release, err := b.hold(ctx, p)
	defer release()
	if err != nil {
		return err
	}
	if err := load.Sleep(ctx, idleFor); err != nil {
		return err
	}
	if _, err := b.measure(ctx, p, l); err != nil {
		return err
	}
	f, err := meter.Of(p.pids)
	if err != nil {
		return err
	}
	if held == 0 {
		return nil
	}
	l.Held = held
	l.ProxyCost = (float64(f.Anon) - float64(p.atStart)) / 1000 / float64(held)
	live, err := p.live(ctx)
	l.Live = (float64(live) - float64(p.liveAtStart)) / 1000 / float64(held)
	if err != nil {
		return err
	}
	return b.saveProfile(ctx, p, "/debug/pprof/heap", ".heap.pprof")
}

// hold publishes the quiet streams and opens the players, and says how many there are.
func (b *bed) hold(ctx context.Context, p *peer) (held int, release func(), err error) {
	var publishers []*load.Publisher
	var players []*load.Player
	release = func() { b.load.Release(publishers, players) }
	var paths []string
	for i := range b.streams {
		at := p
		if b.protocol == load.RTMP || b.protocol == load.FLV {
			at = &peer{name: peerDirect, endpoints: b.stack.origin}
		}
		b.names++
		path := fmt.Sprintf("/live/%s-%d", b.name, b.names)
		stream := quiet(b.protocol)
		// All at once, their frames would hold up each other and whoever begins then.
		stream.Phase = float64(i) / float64(b.streams)
		pub, err := b.load.Publish(b.publishURL(at, path), stream)
		if err != nil {
			return 0, release, err
		}
		publishers, paths = append(publishers, pub), append(paths, path)
	}
	b.held = paths
	if err := allBegin(ctx, publishers); err != nil {
		return 0, release, err
	}
	// To come is not what is measured here, and costs the origin most.
	together := map[kind]map[load.Protocol]int{holding: {load.RTMP: 2, load.FLV: 2}, churning: {load.RTMP: 5}}[b.kind][b.protocol]
	for i := range b.players {
		pl, err := b.load.Hold(b.url(p, paths[i%len(paths)]))
		if err != nil {
			return 0, release, err
		}
		players = append(players, pl)
		if (i+1)%max(1, together) == 0 {
			if err := load.Sleep(ctx, rampStep); err != nil {
				return 0, release, err
			}
		}
	}
	return b.players, release, allBegin(ctx, players)
}

// churnLeg holds sessions and has others come, each in the place of the oldest.
func (b *bed) churnLeg(ctx context.Context, p *peer, l *leg) error {
	held, release, err := b.hold(ctx, p)
	defer release()
	if err != nil {
		return err
	}
	l.Held = held
	var fresh []*load.Player
	defer func() { b.load.Release(nil, fresh) }()
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- func() error {
			const step = 10 * time.Millisecond
			begun := time.Now()
			for n := 0; ; {
				for due := int(time.Since(begun).Seconds() * float64(b.rate)); n < due; n++ {
					pl, err := b.load.Hold(b.url(p, b.held[n%len(b.held)]))
					if err != nil {
						return err
					}
					fresh = append(fresh, pl)
					if n >= b.rate { // each stays for a second
						fresh[n-b.rate].Stop()
					}
				}
				select {
				case <-stop:
					return nil
				case <-time.After(step):
				}
			}
		}()
	}()
	r, err := b.measure(ctx, p, l)
	close(stop)
	if serr := <-ended; serr != nil || err != nil {
		return errors.Join(serr, err)
	}
	began := 0
	for _, pl := range fresh {
		if pl.Running() {
			began++
		}
	}
	prelude := b.load.Preludes(fresh)
	l.PreludeP99, l.NewSessions = ms(prelude.Quantile(.99)), began
	l.Errors = r.Errors
	if late := len(fresh) - began; late > b.rate/10 {
		l.fail(fmt.Sprintf("new sessions that were not accepted when the window ended: %d", late))
	}
	l.ProxyCost = l.ProxyCPU * 1000 / (l.Seconds * float64(b.rate))
	l.BothCost = (l.ProxyCPU + l.OriginCPU) * 1000 / (l.Seconds * float64(b.rate))
	l.MachineCost = l.MachineCPU * 1000 / (l.Seconds * float64(b.rate))
	return nil
}

// publish begins a stream of a new name through a peer and says its path.
func (b *bed) publish(p *peer, i int) (string, *load.Publisher, error) {
	b.names++
	path := fmt.Sprintf("/live/%s-%d", b.name, b.names)
	s := load.StreamOf(b.protocol, b.bitrate)
	s.Phase = float64(i) / float64(b.streams)
	pub, err := b.load.Publish(b.publishURL(p, path), s)
	return path, pub, err
}

// publishTries is how often a stream gets a new name. SRS now and then accepts a
// publisher whose frames no player ever gets; that is not what is measured.
const publishTries = 5

// publishAll publishes the streams of a case straight to the origin, and sees with a
// player each that they can be played.
func (b *bed) publishAll(ctx context.Context) error {
	at := &peer{name: peerDirect, endpoints: b.stack.origin}
	for i := range b.streams {
		path, pub, probe, err := b.publishProved(ctx, at, i)
		if err != nil {
			return fmt.Errorf("stream %d at the origin: %w", i, err)
		}
		b.load.Release(nil, []*load.Player{probe})
		b.published, b.urls = append(b.published, pub), append(b.urls, path)
	}
	return nil
}

// revive publishes the case's streams again if they have gone, as when the origin was
// restarted because it did not answer its supervisor.
func (b *bed) revive(ctx context.Context) error {
	alive := true
	for _, pub := range b.published {
		alive = alive && pub.Running()
	}
	if _, err := meter.CPU(b.stack.originPID); err == nil && alive {
		return nil
	}
	b.load.Release(b.published, nil)
	b.published, b.urls = nil, nil
	if err := b.stack.findOrigin(ctx); err != nil {
		return err
	}
	if !b.publishesAtOrigin() {
		return nil
	}
	return b.publishAll(ctx)
}

// publishProved publishes a stream through a peer that a player at the origin gets.
func (b *bed) publishProved(ctx context.Context, p *peer, i int) (string, *load.Publisher, *load.Player, error) {
	var last error
	for range publishTries {
		path, pub, err := b.publish(p, i)
		if err != nil {
			return "", nil, nil, err
		}
		var probe []*load.Player
		if last = waitFor(ctx, 5*time.Second, pub.Running); last == nil {
			pl, err := b.load.Play("rtmp://"+b.stack.origin.RTMP+path, pub)
			if err != nil {
				return "", nil, nil, err
			}
			if last = waitFor(ctx, 3*time.Second, pl.Running); last == nil {
				return path, pub, pl, nil
			}
			probe = append(probe, pl)
		}
		b.load.Release([]*load.Publisher{pub}, probe)
		if ctx.Err() != nil {
			break
		}
	}
	return "", nil, nil, last
}

// publishURL is where a stream is published through a peer: those of FLV and HLS by RTMP.
func (b *bed) publishURL(p *peer, path string) string {
	if b.protocol == load.FLV || b.protocol == load.HLS {
		return "rtmp://" + p.RTMP + path
	}
	return b.url(p, path)
}

// url is where a stream is played through a peer.
func (b *bed) url(p *peer, path string) string {
	switch b.protocol {
	case load.FLV:
		addr := p.HTTP
		if p.stream != "" {
			addr = p.stream
		}
		return "http://" + addr + path + ".flv"
	case load.HLS:
		return "http://" + p.HTTP + path + ".m3u8"
	case load.WebRTC:
		return "webrtc://" + p.API + path + "?media=" + p.RTC
	case load.SRT:
		return "srt://" + p.SRT + path
	default:
		return "rtmp://" + p.RTMP + path
	}
}

// allBegin waits for sessions, but not for ever. Those that never begin are seen in the
// leg: their frames are lost, and their errors are told.
func allBegin[T interface{ Running() bool }](ctx context.Context, sessions []T) error {
	err := waitFor(ctx, beginTimeout, func() bool {
		for _, s := range sessions {
			if !s.Running() {
				return false
			}
		}
		return true
	})
	if errors.Is(err, errNotRunning) {
		return nil
	}
	return err
}

// errNotRunning says that a wait was in vain.
var errNotRunning = errors.New("not begun in time")

// waitFor waits for a condition.
func waitFor(ctx context.Context, atMost time.Duration, is func() bool) error {
	for deadline := time.Now().Add(atMost); !is(); {
		if time.Now().After(deadline) {
			return errNotRunning
		}
		if err := load.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
