package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"srs-proxy/origin"
	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

func (p *program) originCommand() *cli.Command {
	return &cli.Command{
		Name:        "origin",
		Usage:       "run the built-in origin on an SRS config, as up does where no SRS is installed",
		Description: "Takes SRS's own flags: -c FILE, -t -c FILE and -v.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "c", Usage: "SRS config `FILE`"},
			&cli.BoolFlag{Name: "t", Usage: "check the config and exit"},
			&cli.BoolFlag{Name: "v", Usage: "print the version and exit"},
		},
		Action: noArguments(func(c *cli.Context) error {
			switch {
			case c.Bool("v"):
				return printf(p.term.out, "srs-proxy %s built-in origin\n", version())
			case c.String("c") == "":
				return usageErrorf("origin needs a config; give -c FILE")
			}
			conf, err := readOriginConfig(c.String("c"))
			if err != nil {
				return err
			}
			deviceIP, _ := p.env("SRS_DEVICE_IP")
			conf.Heartbeat.IP = deviceIP
			if c.Bool("t") {
				return printf(p.term.out, "the config file %s is ok\n", c.String("c"))
			}
			return p.runOrigin(conf)
		}),
	}
}

// originConf is what `srs-proxy origin` takes of a config beyond the origin's own part.
type originConf struct {
	origin.Config
	workDir   string
	logFile   string // "" logs to the console
	logLevel  slog.Level
	asProcess bool
}

// readOriginConfig reads an SRS config as far as the built-in origin goes.
// Whatever else it says is for SRS and skipped, as one config serves both.
func readOriginConfig(path string) (originConf, error) {
	root, err := srsconf.ParseFile(path)
	if err != nil {
		return originConf{}, err
	}
	conf, err := originConfigOf(root)
	if err != nil {
		return originConf{}, fmt.Errorf("%s: %w", path, err)
	}
	return conf, nil
}

func originConfigOf(root *srsconf.Directive) (originConf, error) {
	conf := originConf{
		Config:    origin.DefaultConfig(),
		workDir:   root.Value("work_dir"),
		logLevel:  originLogLevel(root.Value("srs_log_level")),
		asProcess: root.On(false, "asprocess"),
	}
	if root.Value("srs_log_tank") != "console" {
		conf.logFile = root.Value("srs_log_file")
	}

	listeners, err := srsconf.Listeners(root)
	if err != nil {
		return originConf{}, err
	}
	for _, l := range listeners {
		switch l.Directive {
		case "listen", "rtmp":
			conf.RTMPListen = append(conf.RTMPListen, l.Addr.String())
		case "http_server":
			conf.HTTPListen = append(conf.HTTPListen, l.Addr.String())
		case "http_api":
			conf.APIListen = append(conf.APIListen, l.Addr.String())
		case "rtc_server":
			conf.RTC.Listen = l.Addr.String()
		case "rtc_server.tcp":
			conf.RTC.TCPListen = l.Addr.String()
		case "srt_server":
			conf.SRT.Listen = l.Addr.String()
		}
	}
	if len(conf.RTMPListen) == 0 {
		return originConf{}, errors.New("no listener for RTMP; add rtmp { listen 1935; }")
	}

	conf.MaxConnections = root.Int(conf.MaxConnections, "max_connections")
	conf.ServerID = root.Value("server_id")
	conf.PIDFile = root.Value("pid")
	conf.Vhosts = srsconf.Vhosts(root)
	conf.Version = version()
	conf.Heartbeat.Enabled = root.On(false, "heartbeat", "enabled")
	conf.Heartbeat.Interval = seconds(root.Get("heartbeat", "interval"), conf.Heartbeat.Interval)
	conf.Heartbeat.URL = root.Value("heartbeat", "url")
	conf.Heartbeat.DeviceID = root.Value("heartbeat", "device_id")
	conf.Heartbeat.Ports = root.On(false, "heartbeat", "ports")

	vhost := root.Vhost(srsconf.DefaultVhost)
	conf.HLSEnabled = vhost.On(false, "hls", "enabled")
	conf.HLSFragment = seconds(vhost.Get("hls", "hls_fragment"), conf.HLSFragment)
	conf.HLSWindow = seconds(vhost.Get("hls", "hls_window"), conf.HLSWindow)
	conf.HLSDispose = seconds(vhost.Get("hls", "hls_dispose"), conf.HLSDispose)
	conf.GOPCache = vhost.On(conf.GOPCache, "play", "gop_cache")
	conf.MergedWrite = milliseconds(vhost, 0, "play", "mw_latency")
	conf.PublishFirst = milliseconds(vhost, conf.PublishFirst, "publish", "firstpkt_timeout")
	conf.PublishNormal = milliseconds(vhost, conf.PublishNormal, "publish", "normal_timeout")
	originRTC(root, vhost, &conf.RTC)
	originSRT(root, vhost, &conf.SRT)
	return conf, nil
}

// originRTC reads rtc_server and the vhost's rtc. A server that no vhost uses
// doesn't listen: SRS would, and refuse everybody.
func originRTC(root, vhost *srsconf.Directive, c *origin.RTC) {
	c.Protocol = cmp.Or(root.Value("rtc_server", "protocol"), c.Protocol)
	c.Candidate = cmp.Or(root.Value("rtc_server", "candidate"), c.Candidate)
	c.FromRTMP = vhost.On(false, "rtc", "rtmp_to_rtc")
	c.ToRTMP = vhost.On(false, "rtc", "rtc_to_rtmp")
	c.KeyframeEvery = seconds(vhost.Get("rtc", "pli_for_rtmp"), c.KeyframeEvery)
	c.Timeout = seconds(vhost.Get("rtc", "stun_timeout"), c.Timeout)
	if !vhost.On(false, "rtc", "enabled") {
		c.Listen, c.TCPListen = "", ""
	}
}

// originSRT reads srt_server and the vhost's srt. latency is both of the others,
// as in libsrt (SRTO_LATENCY).
func originSRT(root, vhost *srsconf.Directive, c *origin.SRT) {
	server := root.Get("srt_server")
	c.Passphrase = server.Value("passphrase")
	c.DefaultApp = cmp.Or(server.Value("default_app"), c.DefaultApp)
	c.DefaultStreamID = cmp.Or(server.Value("default_streamid"), c.DefaultStreamID)
	c.RecvLatency = milliseconds(server, milliseconds(server, c.RecvLatency, "recvlatency"), "latency")
	c.PeerLatency = milliseconds(server, milliseconds(server, c.PeerLatency, "peerlatency"), "latency")
	c.PeerIdle = milliseconds(server, c.PeerIdle, "peer_idle_timeout")
	c.ToRTMP = vhost.On(true, "srt", "srt_to_rtmp")
	if !vhost.On(false, "srt", "enabled") {
		c.Listen = ""
	}
}

// seconds reads a number of seconds, which may have decimals (hls_fragment 2.5).
func seconds(d *srsconf.Directive, def time.Duration) time.Duration {
	v, err := time.ParseDuration(d.Arg(0) + "s")
	if err != nil || v <= 0 {
		return def
	}
	return v
}

func milliseconds(d *srsconf.Directive, def time.Duration, path ...string) time.Duration {
	return time.Duration(d.Int(int(def/time.Millisecond), path...)) * time.Millisecond
}

// originLogLevel maps SRS's levels (verbose, info, trace, warn, error; SRS calls
// the ordinary one trace).
func originLogLevel(level string) slog.Level {
	switch level {
	case "verbose", "info":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// runOrigin runs the built-in origin until a signal. It is one core's worth of
// work, like SRS, and stops at once on each of SRS's stop signals: its clients
// come through the proxy, which has let go of them by then.
func (p *program) runOrigin(conf originConf) error {
	runtime.SetProcs(1)
	log, err := p.originLog(conf)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()

	if conf.workDir != "" {
		if err := os.Chdir(conf.workDir); err != nil {
			return fmt.Errorf("work_dir %s: %w", conf.workDir, withoutPath(err))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	defer stop()
	reopen := make(chan os.Signal, 1)
	signal.Notify(reopen, unix.SIGUSR1, unix.SIGHUP)
	defer signal.Stop(reopen)

	o := origin.New(conf.Config, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: conf.logLevel})))
	if err := o.Listen(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer stop()
		return o.Run(ctx)
	})
	g.Go(func() error {
		log.reopenOn(ctx, reopen)
		return nil
	})
	if conf.asProcess {
		g.Go(func() error {
			waitForNewParent(ctx)
			stop()
			return nil
		})
	}
	return g.Wait()
}

func (p *program) originLog(conf originConf) (*logFile, error) {
	if conf.logFile == "" {
		return &logFile{w: p.term.err}, nil
	}
	path := conf.logFile
	if !filepath.IsAbs(path) {
		path = filepath.Join(conf.workDir, path)
	}
	return openLogFile(path)
}

// waitForNewParent returns when the process that started us is gone, or with
// ctx. Like SRS's asprocess it looks once a second.
func waitForNewParent(ctx context.Context) {
	parent := os.Getppid()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for os.Getppid() == parent {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
