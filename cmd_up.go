package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"srs-proxy/balancer"
	"srs-proxy/proxy"
	"srs-proxy/proxy/certs"
	"srs-proxy/proxy/hooks"
	"srs-proxy/runtime"
	"srs-proxy/supervisor"
)

func (p *program) upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "start the origins and the proxy in front of them",
		Description: "Runs until Ctrl-C, SIGTERM or `srs-proxy down`; a second signal hurries the stop.\n" +
			"Each flag has a variable and a key in the file of --config; flags win over variables, variables over the file.",
		Flags: settingFlags(p.env),
		Action: noArguments(func(c *cli.Context) error {
			src := sourcesOf(c, p.env)
			cfg, err := resolve(src)
			if err != nil {
				return err
			}
			return p.up(c.Context, src, cfg)
		}),
	}
}

// instance is a running srs-proxy.
type instance struct {
	cfg     *resolved // of the start; what a reload cannot change is right for ever
	src     sources   // to read it again
	bal     balancer.Balancer
	proxy   *proxy.Proxy
	hooks   *hooks.Relay
	sup     *supervisor.Supervisor
	control *control
	notify  *notifier
	lines   *logQueue
	bar     *progress
	term    terminal
	log     *slog.Logger
	started time.Time
	ending
	// level is from where on lines are logged at all.
	level slog.LevelVar
	// busy is the operation that goes on.
	busy busyWith

	// supLevel is from where on the supervisor's lines are shown.
	supLevel slog.LevelVar

	mu     sync.Mutex // guards the following
	setup  *setup     // what is in force; replaced by a reload, never changed
	scaled int        // the number of origins that scale asked for, 0 for none
}

// up is the narrative: decide, bind, prepare, run, and the same backwards.
func (p *program) up(ctx context.Context, src sources, cfg *resolved) error {
	lines := newLogQueue(p.term.err, cfg.LogFormat)
	defer lines.Close()
	bar := newProgress(lines, p.term.width)
	in := &instance{cfg: cfg, src: src, lines: lines, bar: bar, term: p.term, started: time.Now()}
	in.level.Set(cfg.LogLevel)
	log := newLogger(bar, &in.level, cfg.LogFormat)
	in.log = log
	ctx, in.ending = newEnding(ctx, log)
	defer in.stop()
	in.notify = newNotifier(cfg.ReadyQuorum, p.env, log)
	ended, over := in.obeySignals()
	defer over()

	// Whoever starts a second one wants to hear that, not which port is busy.
	in.control = &control{path: cfg.Control, report: in.report, stop: in.stopOrHurry, routes: in.routes(ctx), log: log}
	if err := in.control.refuseSecond(); err != nil {
		return err
	}
	var err error
	if in.setup, err = newSetup(ctx, cfg); err != nil {
		return interrupted(ctx, err)
	}
	log.Info("origins run " + in.setup.software.found)
	if err := in.setup.makeHookKey(ctx); err != nil {
		return err
	}
	served, err := in.setup.served()
	if err != nil {
		return err
	}

	in.bal = balancer.NewMemory(balancer.Config{LeaseIdle: cfg.LeaseIdle})
	pcfg := in.setup.proxyConfig(served)
	pcfg.Identity, pcfg.Slots = identity(cfg.StateDir), in.slots
	if cfg.TLS.CertFile != "" {
		if pcfg.Certs, err = certs.Open(cfg.TLS, log); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	in.proxy = proxy.New(pcfg, in.bal, log)
	if err := in.proxy.Listen(); err != nil {
		return in.setup.explainListen(ctx, err)
	}
	in.hooks = hooks.New(hooks.Config{Listen: in.setup.hooks.addr.String(), Client: in.proxy.Client}, log)
	if err := in.listenForHooks(in.setup); err != nil {
		in.proxy.Close()
		return err
	}
	if cfg.LogLevel >= slog.LevelInfo {
		in.supLevel.Set(slog.LevelWarn) // until all are ready
	}
	in.sup = supervisor.New(in.setup.supervisorConfig(), in.bal, slog.New(quieting{log.Handler(), &in.supLevel}))
	in.notify.Watch(in.sup)
	if err := in.sup.Prepare(ctx); err != nil {
		in.hooks.Close()
		in.proxy.Close()
		return interrupted(ctx, in.setup.explainCgroups(err))
	}
	if err := errors.Join(in.control.Listen(), runtime.PinSelf(in.setup.cpus.Proxy)); err != nil {
		in.sup.Close()
		in.hooks.Close()
		in.proxy.Close()
		return err
	}
	go in.hurryOn(ended)
	go in.reloadOnSignal(ctx, ended)
	return in.run(ctx)
}

// run ends when the context does, or when a part fails. Origins outlive the
// proxy's sessions, and what they have to tell the hooks of those; the control socket
// outlives both: `status` shows a stop.
func (in *instance) run(ctx context.Context) error {
	octx, stopOrigins := context.WithCancel(context.WithoutCancel(ctx))
	cctx, stopControl := context.WithCancel(context.WithoutCancel(ctx))
	defer stopOrigins()
	defer stopControl()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer stopOrigins()
		return in.proxy.Run(gctx)
	})
	g.Go(func() error {
		defer stopControl()
		if err := in.sup.Run(octx); err != nil || octx.Err() != nil {
			return err
		}
		return errors.New("the supervisor ended by itself")
	})
	g.Go(func() error { return trimHeap(cctx, in.src.env) })
	g.Go(func() error { return in.hooks.Run(cctx) })
	g.Go(func() error { return in.control.Run(cctx) })
	g.Go(func() error { return in.announce(gctx) })
	g.Go(func() error { return in.notify.Run(cctx, gctx) })

	err := g.Wait()
	in.bar.End()
	if err != nil {
		return err
	}
	in.log.Info("stopped")
	return nil
}

func (in *instance) hurryOn(ended <-chan struct{}) {
	select {
	case <-in.hurried:
		in.sup.Hurry()
	case <-ended:
	}
}

// report is what status shows.
func (in *instance) report(ctx context.Context) report {
	s := in.sup.Snapshot(ctx)
	return newReport(s, in.proxy, in.started, in.cfg.StateDir)
}

func newReport(s supervisor.Snapshot, px *proxy.Proxy, started time.Time, stateDir string) report {
	return report{
		Snapshot: s,
		Totals:   s.Totals(),
		Version:  version(),
		Started:  started,
		RTMP:     px.RTMPAddr().String(),
		HTTP:     px.HTTPAddr().String(),
		API:      px.APIAddr().String(),
		SRT:      px.SRTAddr().String(),
		WebRTC:   px.WebRTCAddr().String(),
		StateDir: stateDir,
	}
}

// welcomeAfter is when the table is printed although not all origins are ready:
// one that never starts must not hide what works.
const welcomeAfter = 45 * time.Second

// announce tells how far the origins are: a bar on a terminal, else a line a
// second. When all are ready it prints the table and what to paste.
func (in *instance) announce(ctx context.Context) error {
	if !in.waitReady(ctx) {
		return nil
	}
	in.bar.End()
	in.lines.Flush()                 // the table is not to come between
	in.supLevel.Set(slog.LevelDebug) // what --log-level says is enough from here on
	if err := in.welcome(ctx); err != nil {
		// A closed pipe for an output is no reason to end a media server.
		in.log.Warn("print the table", "error", err)
	}
	return nil
}

// waitReady reports whether it is time for the table.
func (in *instance) waitReady(ctx context.Context) bool {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	late := time.NewTimer(welcomeAfter)
	defer late.Stop()
	for {
		p, changed := in.sup.Progress()
		in.bar.Draw(p.Ready, p.Total, printable(p.Note))
		if p.Ready == p.Total {
			in.log.Info("all origins are ready", "origins", p.Total, "after", time.Since(in.started).Round(time.Millisecond))
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		case <-tick.C:
			if in.term.width == 0 {
				in.log.Info("waiting for origins", "ready", p.Ready, "of", p.Total, "note", p.Note)
			}
		case <-late.C:
			in.log.Warn("not all origins are ready", "ready", p.Ready, "of", p.Total, "note", p.Note)
			return true
		}
	}
}

func (in *instance) welcome(ctx context.Context) error {
	setup, _ := in.current()
	if err := writeStatus(in.term.out, in.sup.Snapshot(ctx), false, in.term.colors); err != nil {
		return err
	}
	return writeCommands(in.term.out, in.proxy.RTMPAddr(), in.proxy.HTTPAddr(), setup.software.builtin, in.term.colors)
}

// interrupted makes a stop during the preparation a clean end.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
