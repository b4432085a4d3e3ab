package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"srs-proxy/runtime"
	"srs-proxy/supervisor"
)

// A reload makes the running instance one that was started with the configuration
// of now, as far as that can be done without cutting a stream:
//
//	files ─▶ Config ─▶ setup ─▶ checked ─┬▶ supervisor.Reload: origins that changed, rolling
//	                                     └▶ proxy, logger: at once
//
// Until all is checked nothing changes, and when the origins cannot follow nothing
// has changed.

type reloadRequest struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// reloadReport is what a reload did, or would do.
type reloadReport struct {
	DryRun  bool                    `json:"dry_run,omitempty"`
	Changes []settingChange         `json:"changes,omitempty"`
	Origins supervisor.ReloadResult `json:"origins"`
}

// settingChange is something that differs from what is in force.
type settingChange struct {
	// What is a setting's name, or a file and whose it is.
	What string `json:"what"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Restart says that it takes effect when srs-proxy is restarted.
	Restart bool `json:"restart,omitempty"`
}

func (c settingChange) change() string {
	if c.From == c.To {
		return "changed"
	}
	return fmt.Sprintf("%s -> %s", quoteEmpty(c.From), quoteEmpty(c.To))
}

func quoteEmpty(s string) string {
	if s == "" {
		return `""`
	}
	return printable(s)
}

// reach is how far a reload can change a setting.
type reach int

const (
	// reachRestart is also that of a setting which nobody has thought about.
	reachRestart reach = iota
	reachLive          // at once
	reachOrigins       // by replacing origins
	reachNever         // refused: the whole would not be what was asked for
)

func reachOf(name string) reach {
	switch name {
	case "rtmp", "http", "api", "srt", "webrtc", "state-dir", "control", "hook-relay", "tls-cert", "tls-key", "rtmps", "https", "https-api", "cgroup", "system-api":
		return reachNever
	case "origins", "srs", "template", "vhosts", "port-base", "max-connections", "origin-cpus", "cpu-layout", "nofile", "die-with-parent",
		"cpu-quota", "memory-max", "nice", "oom-score", "rtmp-to-rtc":
		return reachOrigins
	case "drain-deadline", "proxy-cpus", "real-ip-prefix", "max-connections-per-ip", "max-udp-sessions-per-ip", "max-handshaking", "hls-cache", "allow", "deny", "candidate",
		"log-level", "log-max-size", "log-keep",
		"origin", "max-origins", "register-token", "register-allow", "static-files", "shutdown-delay", "drain-timeout", "quit-timeout":
		return reachLive
	default:
		return reachRestart
	}
}

// reload reads the configuration again and follows it, or says why not.
func (in *instance) reload(ctx context.Context, dry bool) (report reloadReport, err error) {
	if dry {
		return in.reloadUntold(ctx, dry)
	}
	err = in.notify.Reload(func() error {
		report, err = in.reloadUntold(ctx, dry)
		return err
	})
	return report, err
}

func (in *instance) reloadUntold(ctx context.Context, dry bool) (reloadReport, error) {
	report := reloadReport{DryRun: dry}
	old, scaled := in.current()
	cfg, err := resolve(in.src)
	if err != nil {
		return report, err
	}
	if report.Changes, err = changedSettings(old.cfg, cfg); err != nil {
		return report, err
	}
	if scaled > 0 && !changed(report.Changes, "origins") {
		cfg.Origins = scaled
	}
	next, err := in.follow(ctx, old, cfg, dry)
	if err != nil {
		return report, err
	}
	served, err := next.served()
	if err != nil {
		return report, err
	}
	report.Changes = append(report.Changes, changedFiles(old, next)...)
	if changed(report.Changes, "nofile") && next.nofile == old.nofile {
		markRestart(report.Changes, "nofile") // a limit is raised, never lowered
	}
	if dry {
		report.Origins, err = in.tryReload(ctx, next)
		return report, err
	}
	if report.Origins, err = in.sup.Reload(ctx, next.supervisorConfig()); err != nil {
		return report, err
	}
	in.proxy.Adjust(next.proxyConfig(served))
	in.level.Set(cfg.LogLevel)
	if changed(report.Changes, "proxy-cpus") {
		err = runtime.PinSelf(next.cpus.Proxy)
	}
	cfg.keep(old.cfg, report.Changes)
	in.become(next)
	if err != nil {
		return report, fmt.Errorf("all else is in force, but: %w", err)
	}
	return report, nil
}

// current is what is in force, and the number of origins that scale asked for, if any.
func (in *instance) current() (*setup, int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.setup, in.scaled
}

func (in *instance) become(next *setup) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.setup = next
	if in.scaled > 0 && len(next.cpus.Origins) != in.scaled {
		in.scaled = 0 // the configuration has spoken after it
	}
}

// follow is the setup of a changed configuration on the machine as it was found at
// the start: by now this process has only the proxy's CPUs.
func (in *instance) follow(ctx context.Context, old *setup, cfg *resolved, dry bool) (*setup, error) {
	next := &setup{cfg: cfg, host: old.host, ports: old.ports, hooks: hookRelay{addr: old.hooks.addr}}
	next.ports.Base = cfg.PortBase
	steps := []func(context.Context) error{next.chooseSoftware, next.readTemplate, next.choosePriorities, next.planCPUs, func(context.Context) error {
		return in.keepCPUs(old, next)
	}, next.planPorts}
	if dry {
		next.nofile = max(old.nofile, cfg.NoFile) // where the hard limit allows
		steps = append(steps, func(context.Context) error { return next.checkLimits() }, next.planHooks)
	} else {
		steps = append(steps, next.raiseLimits, next.planHooks, func(ctx context.Context) error {
			return errors.Join(next.makeHookKey(ctx), in.listenForHooks(next))
		})
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// keepCPUs leaves origins where they are, unless it was said where they should be.
// Another number of them alone moves none.
func (in *instance) keepCPUs(old, next *setup) error {
	for _, name := range []string{"origin-cpus", "proxy-cpus", "cpu-layout"} {
		if same, err := sameSetting(old.cfg.value(name), next.cfg.value(name)); err != nil || !same {
			return err
		}
	}
	sets, err := in.sup.CPUsFor(len(next.cpus.Origins))
	if err != nil {
		return err
	}
	next.cpus.Origins, next.cpus.Proxy = sets, old.cpus.Proxy
	return nil
}

// tryReload checks all that a reload would check, and changes nothing.
func (in *instance) tryReload(ctx context.Context, next *setup) (supervisor.ReloadResult, error) {
	plan, err := in.sup.PlanReload(next.supervisorConfig())
	if err != nil || len(plan.Restarted)+len(plan.Added) == 0 {
		return plan, err
	}
	for _, o := range next.tryConfigs(ctx, len(next.cpus.Proxy)) {
		if o.err != nil {
			return plan, fmt.Errorf("%s: %w", o.id, o.err)
		}
	}
	return plan, nil
}

// changedSettings compares two configurations. What cannot be changed is an error
// that names all of it.
func changedSettings(old, next *resolved) ([]settingChange, error) {
	var changes []settingChange
	var refused []string
	for _, v := range next.values {
		was := old.value(v.setting.name)
		same, err := sameSetting(was, v)
		if err != nil {
			return nil, err
		}
		if same {
			continue
		}
		c := settingChange{What: v.setting.name, From: was.shown(), To: v.shown(), Restart: reachOf(v.setting.name) == reachRestart}
		if reachOf(v.setting.name) == reachNever {
			refused = append(refused, fmt.Sprintf("%s: is %s and would become %s", v.place(), quoteEmpty(c.From), quoteEmpty(c.To)))
			continue
		}
		changes = append(changes, c)
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("%s; that cannot change while srs-proxy runs: take it back, or down and up again", strings.Join(refused, "; "))
	}
	return changes, nil
}

// sameSetting says that two texts mean the same: 1935 is :1935.
func sameSetting(a, b value) (bool, error) {
	if a.text == b.text {
		return true, nil
	}
	var x, y Config
	for v, c := range map[*value]*Config{&a: &x, &b: &y} {
		if v.text == "" {
			continue
		}
		if err := v.setting.apply(c, v.text); err != nil && v == &b {
			return false, v.complain(err)
		}
	}
	return reflect.DeepEqual(x, y), nil
}

// keep takes back what is not in force yet, so that the next reload says so again.
func (r *resolved) keep(old *resolved, changes []settingChange) {
	for i, v := range r.values {
		if slices.ContainsFunc(changes, func(c settingChange) bool { return c.Restart && c.What == v.setting.name }) {
			r.values[i] = old.value(v.setting.name)
		}
	}
}

func changed(changes []settingChange, name string) bool {
	return slices.ContainsFunc(changes, func(c settingChange) bool { return c.What == name })
}

func markRestart(changes []settingChange, name string) {
	for i := range changes {
		if changes[i].What == name {
			changes[i].Restart = true
		}
	}
}

// changedFiles names files that hold something else than before under the same name.
func changedFiles(old, next *setup) []settingChange {
	var changes []settingChange
	if old.cfg.Template == next.cfg.Template && old.templateText != next.templateText {
		changes = append(changes, settingChange{What: "template " + next.cfg.Template})
	}
	if old.cfg.Vhosts == next.cfg.Vhosts && old.overlayText != next.overlayText {
		changes = append(changes, settingChange{What: "vhosts " + next.cfg.Vhosts})
	}
	switch {
	case !slices.Equal(old.software.command, next.software.command):
		if old.cfg.SRS == next.cfg.SRS { // found elsewhere than before
			changes = append(changes, settingChange{What: "origins' program", From: old.software.command[0], To: next.software.command[0]})
		}
	case old.software.program != next.software.program:
		c := settingChange{What: "origins' program " + next.software.command[0]}
		if old.version != next.version {
			c.From, c.To = old.version.String(), next.version.String()
		}
		changes = append(changes, c)
	}
	return changes
}

// programIdentity tells a file from another one that has its name later.
func programIdentity(command string) string {
	path, err := exec.LookPath(command)
	if err != nil {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d:%d", st.Dev, st.Ino, info.Size(), info.ModTime().UnixNano())
}

// reloadOnSignal follows SIGHUP until ended is closed. What it does is in the log.
func (in *instance) reloadOnSignal(ctx context.Context, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-in.hangup:
		}
		if !in.busy.await(ended, "reload") {
			return
		}
		in.reloadAndLog(ctx)
		in.busy.end()
	}
}

func (in *instance) reloadAndLog(ctx context.Context) {
	var report reloadReport
	result := in.perform(ctx, operation{name: "reload", do: func(ctx context.Context, _ *opResult) (err error) {
		report, err = in.reload(ctx, false)
		return err
	}})
	if result.Error != "" {
		return // perform has logged it
	}
	for _, line := range report.lines(false) {
		in.log.Info("reload: " + line)
	}
}

// terminalGone says that the terminal on which we were started was closed: then
// SIGHUP means what it always meant.
func terminalGone(had bool) bool {
	return had && !hasTerminal()
}

// hasTerminal says that this process has a controlling terminal (tty(4)).
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}
