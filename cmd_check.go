package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"srs-proxy/runtime"
	"srs-proxy/srsconf"
)

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name:        "check",
		Usage:       "tell whether up would work here, and what to fix",
		Description: fmt.Sprintf("Takes the flags of up. Exit codes: %d it would (warnings included), %d it would not, %d usage.", exitOK, exitFailure, exitUsage),
		Flags:       settingFlags(p.env),
		Action: noArguments(func(c *cli.Context) error {
			cfg, err := resolve(sourcesOf(c, p.env))
			if err != nil {
				return err
			}
			return p.check(c.Context, cfg)
		}),
	}
}

// verdict is how a check went.
type verdict string

const (
	verdictOK   verdict = "OK"
	verdictWarn verdict = "WARN"
	verdictFail verdict = "FAIL"
)

// finding is one line of check: what was looked at, what is so, and the fix
// where something is wrong.
type finding struct {
	verdict verdict
	subject string
	text    string
}

func ok(subject, format string, args ...any) finding {
	return finding{verdictOK, subject, fmt.Sprintf(format, args...)}
}

func warn(subject, format string, args ...any) finding {
	return finding{verdictWarn, subject, fmt.Sprintf(format, args...)}
}

func fail(subject string, err error) finding { return finding{verdictFail, subject, err.Error()} }

func (p *program) check(ctx context.Context, cfg *resolved) error {
	findings := preflight(ctx, cfg)
	failed := 0
	for _, f := range findings {
		if f.verdict == verdictFail {
			failed++
		}
		mark := paint(fmt.Sprintf("%-4s", f.verdict), verdictColor(f.verdict), p.term.colors)
		if err := printf(p.term.out, "%s  %-8s  %s\n", mark, f.subject, printable(f.text)); err != nil {
			return err
		}
	}
	if failed > 0 {
		return &exitError{code: exitFailure}
	}
	return nil
}

func verdictColor(v verdict) color {
	switch v {
	case verdictOK:
		return green
	case verdictWarn:
		return yellow
	default:
		return red
	}
}

// preflight looks at everything that up depends on. It goes on after a failure
// wherever the next question still makes sense: the point is to see all at once.
func preflight(ctx context.Context, cfg *resolved) []finding {
	s := &setup{cfg: cfg, ports: srsconf.PortPlan{Base: cfg.PortBase}}
	softwareErr := s.chooseSoftware(ctx)
	templateErr := s.readTemplate(ctx)
	cpusErr := s.planCPUs(ctx)
	limitErr := s.raiseLimits(ctx)

	findings := []finding{s.checkSoftware(softwareErr), s.checkCPUs(cpusErr), s.checkFiles(limitErr)}
	pid, runErr := runningInstance(cfg.Control)
	findings = append(findings, checkInstance(cfg, pid, runErr), checkStateDir(cfg.StateDir))
	if templateErr != nil {
		findings = append(findings, fail("config", templateErr))
	} else if errors.Join(softwareErr, cpusErr) == nil {
		findings = append(findings, s.checkConfigs(ctx))
	}
	if cpusErr != nil {
		return findings
	}
	findings = append(findings, s.checkPortPlan(ctx))
	if runErr == nil {
		return append(findings, ok("ports", "in use by the running instance, pid %d", pid))
	}
	return append(findings, s.checkPorts(ctx)...)
}

func (s *setup) checkSoftware(err error) finding {
	switch {
	case err != nil:
		return fail("srs", err)
	case s.software.builtin && s.cfg.SRS == "":
		return warn("srs", "origins run %s", s.software.found)
	case s.software.builtin:
		return ok("srs", "origins run %s", s.software.found)
	}
	// Before 5 the API lacks what the supervisor proves its children by.
	if v := s.version; v.Major < 5 {
		return warn("srs", "%s has version %s; use 5 or newer", s.software.command[0], v)
	}
	return ok("srs", "%s, version %s", s.software.found, s.version)
}

func (s *setup) checkCPUs(err error) finding {
	if err != nil {
		return fail("cpus", err)
	}
	var all runtime.CPUSet
	for _, set := range s.cpus.Origins {
		all = all.Union(set)
	}
	text := fmt.Sprintf("%d origins on CPUs %s, proxy on %s", len(s.cpus.Origins), all, s.cpus.Proxy)
	if n := len(s.cpus.Origins); n > len(all) {
		return warn("cpus", "%s: %d origins share %d CPUs, so streams slow each other down under load; --origins auto fits the machine", text, n, len(all))
	}
	return ok("cpus", "%s", text)
}

func (s *setup) checkFiles(err error) finding {
	if err != nil {
		return fail("nofile", err)
	}
	connections := s.cfg.maxConnections(s.nofile)
	text := fmt.Sprintf("limit of open files %d, max_connections of an origin %d", s.nofile, connections)
	if s.cfg.NoFile > s.nofile {
		return warn("nofile", "%s: --nofile asks for %d and this machine allows no more; raise the hard limit (ulimit -Hn, LimitNOFILE=)", text, s.cfg.NoFile)
	}
	if s.cfg.MaxConnections == 0 && connections < autoMaxConnections {
		return warn("nofile", "%s: for %d raise the hard limit (ulimit -Hn, LimitNOFILE=) above %d", text, autoMaxConnections, autoMaxConnections+2*srsReservedFiles)
	}
	return ok("nofile", "%s", text)
}

func checkInstance(cfg *resolved, pid int, err error) finding {
	switch {
	case err == nil:
		return warn("instance", "already running as pid %d; up refuses until srs-proxy down, or with another --state-dir", pid)
	case errors.Is(err, errNotRunning):
		return ok("instance", "none runs on %s", cfg.Control)
	default:
		return fail("instance", err)
	}
}

// checkStateDir makes no directory: it looks at the one that would be made in.
func checkStateDir(dir string) finding {
	at := dir
	for {
		st, err := os.Stat(at)
		if err == nil && !st.IsDir() {
			return fail("state", fmt.Errorf("%s is no directory; choose another --state-dir", at))
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fail("state", fmt.Errorf("%s: %w; choose another --state-dir", at, withoutPath(err)))
		}
		at = filepath.Dir(at)
	}
	probe, err := os.MkdirTemp(at, ".srs-proxy-check-")
	if err != nil {
		return fail("state", fmt.Errorf("%s cannot be written to (%w); choose another --state-dir, or run as a user who may", at, withoutPath(err)))
	}
	_ = os.Remove(probe) // empty, and only its creation mattered
	return ok("state", "%s", dir)
}

// checkConfigs lets the origin's program check what up would give it: the
// first origin's config, which has what only one may have, and the last one's.
func (s *setup) checkConfigs(ctx context.Context) finding {
	dir, err := os.MkdirTemp("", "srs-proxy-check-")
	if err != nil {
		return fail("config", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, slot := range []int{0, len(s.cpus.Origins) - 1} {
		if err := s.checkConfig(ctx, dir, slot); err != nil {
			return fail("config", err)
		}
	}
	return ok("config", "accepted by %s -t", strings.Join(s.software.command, " "))
}

func (s *setup) checkConfig(ctx context.Context, dir string, slot int) error {
	// The program makes folders even for a check, so these are ours to remove.
	elsewhere := *s
	cfg := *s.cfg
	cfg.StateDir = dir
	elsewhere.cfg = &cfg
	text, err := elsewhere.originConfig(slot)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, fmt.Sprintf("origin-%d.conf", slot))
	root, err := srsconf.Parse(file, text)
	if err != nil {
		return err
	}
	for _, d := range append(srsconf.Dirs(root), filepath.Join(dir, fmt.Sprintf("origin-%d", slot))) {
		// The template or the vhosts may name folders elsewhere: not ours to make.
		if strings.HasPrefix(d, dir) {
			if err := os.MkdirAll(d, 0o700); err != nil {
				return err
			}
		}
	}
	if err := srsconf.WriteFile(file, text); err != nil {
		return err
	}
	return srsconf.Check(ctx, s.software.command, file)
}

func (s *setup) checkPortPlan(ctx context.Context) finding {
	if err := s.planPorts(ctx); err != nil {
		return fail("portplan", err)
	}
	lo, hi, err := runtime.EphemeralRange()
	if err != nil {
		return fail("portplan", err)
	}
	return ok("portplan", "origins use %d-%d, outside the ephemeral range %d-%d", s.cfg.PortBase, s.ports.Last(len(s.cpus.Origins)), lo, hi)
}

// checkPorts tries every port, as up will.
func (s *setup) checkPorts(ctx context.Context) []finding {
	var findings []finding
	for _, l := range s.publicListeners() {
		switch err := tryPort(ctx, l.addr); {
		case err == nil && l.port != 0 && ephemeral(l.port):
			findings = append(findings, warn("ports", "%s is free, but lies in the kernel's ephemeral range: an outgoing connection can take it; choose one below, or reserve it (net.ipv4.ip_local_reserved_ports)", l))
		case err == nil:
			findings = append(findings, ok("ports", "%s is free", l))
		case isBusy(err):
			findings = append(findings, fail("ports", fmt.Errorf("%s is held by %s; stop that one, or choose another --%s", l, portHolder("tcp", l.port), l.flag)))
		default:
			findings = append(findings, fail("ports", fmt.Errorf("%s: %w; choose another --%s", l, err, l.flag)))
		}
	}
	return append(findings, s.checkOriginPorts(ctx))
}

func (s *setup) checkOriginPorts(ctx context.Context) finding {
	const shown = 4
	var busy []string
	for slot := range s.cpus.Origins {
		ports := s.ports.Ports(slot)
		for _, port := range []int{ports.RTMP, ports.HTTP, ports.API} {
			if isBusy(tryPort(ctx, fmt.Sprintf("127.0.0.1:%d", port))) {
				busy = append(busy, fmt.Sprintf("port %d (origin-%d) is held by %s", port, slot, portHolder("tcp", port)))
			}
		}
	}
	if n := len(busy); n > shown {
		busy = append(busy[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	if len(busy) > 0 {
		return fail("ports", fmt.Errorf("%s; stop that one, or choose another --port-base", strings.Join(busy, "; ")))
	}
	return ok("ports", "those of %d origins are free", len(s.cpus.Origins))
}
