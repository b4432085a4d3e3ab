package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"srs-proxy/balancer"
	"srs-proxy/proxy"
	"srs-proxy/proxy/certs"
	"srs-proxy/proxy/health"
	"srs-proxy/proxy/listener"
	"srs-proxy/proxy/register"
	"srs-proxy/runtime"
)

func (p *program) proxyCommand() *cli.Command {
	return &cli.Command{
		Name:  proxyCommand,
		Usage: "run the proxy alone, in front of origins that register themselves or are listed",
		Description: "Origins register by SRS's heartbeat: heartbeat { enabled on; interval 9; url http://HOST:12025/api/v1/srs/register; ports on; }\n" +
			"Runs until Ctrl-C, SIGTERM or `srs-proxy down`: then it lets sessions end (--drain-timeout); a second signal hurries.\n" +
			"SIGHUP or `srs-proxy reload` reads the files again, .env too, and follows what changed; a bad one changes nothing.\n" +
			"The bare command does the same when one of its PROXY_ variables is set, or is in the file .env.\n" +
			"Each flag has a variable and a key in the file of --config; flags win over variables, variables over the file.",
		Flags: flagsOf(proxySettings(defaultStateDir(p.env))),
		Action: noArguments(func(c *cli.Context) error {
			return p.proxy(c.Context, sourcesOf(c, p.env))
		}),
	}
}

// bareCommand is what no command at all means.
func (p *program) bareCommand(c *cli.Context) error {
	if c.NArg() > 0 {
		return unknownCommand(c)
	}
	env, err := withDotEnv(p.env)
	if err != nil {
		return err
	}
	if !startsProxy(env) {
		return unknownCommand(c)
	}
	none := func(string) (string, bool) { return "", false }
	return p.proxy(c.Context, sources{flag: none, env: p.env})
}

// resolveProxy reads all that an operator decides of `proxy`, with the file .env and the
// variables of the existing proxy that are no settings.
func resolveProxy(src sources) (*resolved, error) {
	src.command = proxyCommand
	env, err := withDotEnv(src.env)
	if err != nil {
		return nil, err
	}
	src.env = env
	cfg, err := resolve(src)
	if err != nil {
		return nil, err
	}
	backend, ok, err := readDefaultBackend(env)
	if err != nil {
		return nil, err
	}
	if ok {
		cfg.Static = append(cfg.Static, backend)
	}
	tokens, err := readRegisterAuth(env)
	if err != nil {
		return nil, err
	}
	cfg.Register.Tokens = append(cfg.Register.Tokens, tokens...)
	return cfg, nil
}

// proxyInstance is a running proxy without a supervisor.
type proxyInstance struct {
	cfg *resolved // of the start; what a reload cannot change is right for ever
	src sources   // to read it again
	bal balancer.Balancer
	// runBalancer keeps the balancer going; nil if it does so by itself.
	runBalancer func(context.Context) error
	proxy       *proxy.Proxy
	monitor     *health.Monitor
	system      *register.Server // nil without a system API
	control     *control         // nil where there is no place for it
	pprof       *pprofServer     // nil without
	started     time.Time
	log         *slog.Logger
	ending
	// level is from where on lines are logged.
	level slog.LevelVar
	pages pages
	// draining is why no client should be sent here any more.
	draining atomic.Bool

	reloading sync.Mutex // one at a time
	inForce   atomic.Pointer[inForce]
}

// proxy is the narrative: decide, bind, run, and the same backwards.
func (p *program) proxy(ctx context.Context, src sources) error {
	cfg, err := resolveProxy(src)
	if err != nil {
		return err
	}
	lines := newLogQueue(p.term.err, cfg.LogFormat)
	defer lines.Close()
	in := &proxyInstance{cfg: cfg, src: src, started: time.Now()}
	in.level.Set(cfg.LogLevel)
	log := newLogger(lines, &in.level, cfg.LogFormat)
	in.log = log
	ctx, in.ending = newEnding(ctx, log)
	defer in.stop()
	ended, over := in.obeySignals()
	defer over()

	setup, err := newProxySetup(ctx, cfg)
	if err != nil {
		return err
	}
	served, err := setup.servedElsewhere()
	if err != nil {
		return err
	}
	in.inForce.Store(&inForce{setup, served})
	bal, runBalancer, err := newBalancer(ctx, cfg, log)
	if err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	in.bal, in.runBalancer = bal, runBalancer
	in.monitor = health.New(health.Config{
		TTL: cfg.RegisterTTL, Most: cfg.MaxOrigins, Shared: runBalancer != nil, Lost: func(id string) { in.proxy.Abandon(id) },
	}, bal, log)
	pcfg := setup.proxyConfig(served)
	pcfg.Identity, pcfg.Slots, pcfg.Failed = identity(cfg.StateDir), in.slots, in.monitor.Recheck
	keys, sharedKey, err := cfg.Redis.tickets()
	if err != nil {
		return err
	}
	if runBalancer != nil && !sharedKey {
		log.Warn("without --cluster-key a WebRTC session's media have to come to the proxy that its offer came to")
	}
	pcfg.Tickets = keys
	if cfg.TLS.CertFile != "" {
		if pcfg.Certs, err = certs.Open(cfg.TLS, log); err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
	}
	if cfg.StaticFiles != "" {
		if err := in.pages.open(cfg.StaticFiles); err != nil {
			return err
		}
		defer in.pages.close()
		pcfg.Pages = &in.pages
	}
	in.proxy = proxy.New(pcfg, bal, log)
	if err := in.listen(ctx); err != nil {
		return err
	}
	in.monitor.List(ctx, listings(cfg.Static))
	if len(cfg.ProxyCPUs) > 0 {
		if err := runtime.PinSelf(setup.cpus.Proxy); err != nil {
			in.close()
			return err
		}
	}
	in.welcome()
	go in.reloadOnSignal(ctx, ended)
	return in.run(ctx)
}

// listen binds all addresses, or none.
func (in *proxyInstance) listen(ctx context.Context) error {
	if err := in.proxy.Listen(); err != nil {
		return in.current().explainListen(ctx, err)
	}
	if in.cfg.SystemAPI != "" {
		in.system = register.New(register.Config{
			Listen: in.cfg.SystemAPI, Listener: listener.Config{PerIP: in.cfg.MaxConnectionsPerIP, Log: in.log},
			Rules: in.cfg.Register, Own: in.current().isOwn, Version: version(), PID: os.Getpid(),
		}, register.Deps{Register: in.register, Ready: in.ready, Log: in.log})
		if err := in.system.Listen(); err != nil {
			in.system = nil
			in.close()
			return in.current().explainListen(ctx, err)
		}
	}
	if in.cfg.GoPprof != "" {
		var err error
		if in.pprof, err = listenPprof(ctx, in.cfg.GoPprof, in.log); err != nil {
			in.close()
			return err
		}
	}
	if err := in.openControl(); err != nil {
		in.close()
		return err
	}
	return nil
}

func (in *proxyInstance) close() {
	in.proxy.Close()
	if in.system != nil {
		_ = in.system.Close()
	}
	if in.pprof != nil {
		_ = in.pprof.ln.Close()
	}
	if in.control != nil {
		in.control.Close()
	}
}

// openControl makes the control socket. Where it was not said which, another instance
// may have the usual one, or there may be no place for it: the existing proxy needs
// neither a folder nor to be alone on its machine, and nor do we.
func (in *proxyInstance) openControl() error {
	try := func(path string) error {
		c := &control{path: path, report: in.report, stop: in.stopOrHurry, routes: in.routes, log: in.log}
		if err := c.Listen(); err != nil {
			return err
		}
		in.control = c
		return nil
	}
	err := try(in.cfg.Control)
	if err == nil || in.cfg.value("control").from != fromDefault || in.cfg.value("state-dir").from != fromDefault {
		return err
	}
	if errors.Is(err, errAlreadyRunning) {
		_, port, _ := strings.Cut(in.proxy.RTMPAddr().String()[strings.LastIndex(in.proxy.RTMPAddr().String(), ":"):], ":")
		path := filepath.Join(in.cfg.StateDir, "proxy-"+port+".sock")
		if err = try(path); err == nil {
			in.log.Info("another instance has the usual control socket; reach this one by --control " + path)
			return nil
		}
	}
	in.log.Warn("no control socket: status and down cannot reach this instance; give --control or --state-dir", "cause", err)
	return nil
}

func (in *proxyInstance) welcome() {
	rtmps, https, apis := in.proxy.TLSAddrs()
	args := []any{"rtmp", in.proxy.RTMPAddr(), "http", in.proxy.HTTPAddr(), "api", in.proxy.APIAddr(), "webrtc", in.proxy.WebRTCAddr(), "srt", in.proxy.SRTAddr()}
	if rtmps != nil {
		args = append(args, "rtmps", rtmps, "https", https, "https-api", apis)
	}
	in.log.Info("the proxy listens", args...)
	if in.system == nil {
		in.log.Info("origins cannot register: the system API is off", "listed", len(in.cfg.Static))
		return
	}
	in.log.Info("origins register at the system API", "listen", in.system.Addr(), "token", len(in.cfg.Register.Tokens) > 0, "allow", fmt.Sprint(in.cfg.Register.Allow), "ttl", in.cfg.RegisterTTL)
	a, err := splitAddress(in.cfg.SystemAPI)
	if err == nil && (a.host == "127.0.0.1" || a.host == "localhost") && len(in.cfg.Register.Tokens)+len(in.cfg.Register.Allow) > 0 {
		in.log.Info("only origins of this machine reach it; for others give --system-api 0.0.0.0:12025, or an address of theirs")
	}
}

// run ends when the context does, or when a part fails. Then, in this order: /readyz
// says no, listeners close, sessions end or are ended. What answers for the instance
// (system API, control socket) and what looks after origins goes last.
func (in *proxyInstance) run(ctx context.Context) error {
	pctx, stopProxy := context.WithCancel(context.WithoutCancel(ctx))
	octx, stopOthers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopProxy()
	defer stopOthers()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer stopOthers()
		if err := in.proxy.Run(pctx); err != nil || pctx.Err() != nil {
			return err
		}
		return errors.New("the proxy ended by itself")
	})
	g.Go(func() error {
		defer stopProxy()
		in.drain(gctx)
		return nil
	})
	g.Go(func() error { return in.monitor.Run(octx) })
	g.Go(func() error { return trimHeap(octx, in.src.env) })
	if in.runBalancer != nil {
		g.Go(func() error { return in.runBalancer(octx) })
	}
	if in.system != nil {
		g.Go(func() error { return in.system.Run(octx) })
	}
	if in.control != nil {
		g.Go(func() error { return in.control.Run(octx) })
	}
	if in.pprof != nil {
		g.Go(func() error { return in.pprof.Run(octx) })
	}
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // nobody to tell is no error
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
		in.log.Info("stopped")
		return nil
	case <-in.overdue(ctx):
		return errors.New("ended by force: parts have not ended in time (--quit-timeout)")
	}
}

// overdue is closed when the stop has taken too long.
func (in *proxyInstance) overdue(ctx context.Context) <-chan struct{} {
	late := make(chan struct{})
	context.AfterFunc(ctx, func() {
		cfg := in.current().cfg
		limit := cfg.QuitTimeout
		if limit == 0 {
			limit = max(30*time.Second, cfg.ShutdownDelay+cfg.DrainTimeout+5*time.Second)
		}
		time.AfterFunc(limit, func() { close(late) })
	})
	return late
}

// drainLook is how often it is looked whether sessions are left.
const drainLook = 50 * time.Millisecond

// drain waits for the stop, and then until sessions have ended or their time is over.
// Whoever hurries it, or a part that fails, ends the waiting.
func (in *proxyInstance) drain(ctx context.Context) {
	<-ctx.Done()
	in.draining.Store(true)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	cfg := in.current().cfg
	if !in.pause(cfg.ShutdownDelay) {
		return
	}
	if err := in.proxy.Drain(); err != nil {
		in.log.Warn("closing a listener", "cause", err)
	}
	sessions := in.proxy.Sessions()
	if sessions == 0 || cfg.DrainTimeout == 0 {
		return
	}
	in.log.Info("letting sessions end", "sessions", sessions, "for", cfg.DrainTimeout)
	until := time.Now().Add(cfg.DrainTimeout)
	for in.proxy.Sessions() > 0 && time.Now().Before(until) {
		if !in.pause(drainLook) {
			return
		}
	}
	in.log.Info("drained", "left", in.proxy.Sessions())
}

// pause waits, unless somebody hurries.
func (in *proxyInstance) pause(d time.Duration) bool {
	if d == 0 {
		return true
	}
	select {
	case <-in.hurried:
		return false
	case <-time.After(d):
		return true
	}
}

// register hands an origin over to the monitor.
func (in *proxyInstance) register(ctx context.Context, r register.Registration) error {
	err := in.monitor.Register(ctx, health.Origin{
		Name: r.Device, Server: r.Server, Service: r.Service, PID: r.PID, Endpoints: r.Endpoints,
	})
	if errors.Is(err, health.ErrTooMany) {
		return register.ErrTooMany
	}
	return err
}

var (
	errStops    = errors.New("the proxy is about to stop")
	errNoOrigin = errors.New("no origin is there")
)

// ready says why no client should be sent here. An origin that misses its checks is not
// counted, even where it was kept because all others miss theirs too.
func (in *proxyInstance) ready(ctx context.Context) error {
	if in.draining.Load() {
		return errStops
	}
	origins, err := in.bal.Origins(ctx)
	if err != nil {
		return errors.New("the balancer does not answer")
	}
	missing := make(map[string]bool)
	for _, m := range in.monitor.Members() {
		missing[m.ID] = m.Missing
	}
	for _, o := range origins {
		if o.State == balancer.Up && !missing[o.ID] {
			return nil
		}
	}
	return errNoOrigin
}
