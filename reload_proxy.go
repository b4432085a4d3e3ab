package main

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"srs-proxy/runtime"
)

// A reload of `proxy` reads again what it was told at the start: the configuration file,
// .env, and the files that these name.
//
//	files ─▶ Config ─▶ setup, vhosts, folder ─▶ all good? ─▶ proxy, system API, monitor, logger
//
// Until all is checked nothing changes. Flags and the environment stay as they were.

// inForce is what a reload replaces as a whole.
type inForce struct {
	*setup
	served served
}

// current is what is in force.
func (in *proxyInstance) current() *inForce { return in.inForce.Load() }

// reloadOnSignal follows SIGHUP until ended is closed.
func (in *proxyInstance) reloadOnSignal(ctx context.Context, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-in.hangup:
			_, _ = in.reload(ctx, false) // it is in the log
		}
	}
}

// reload follows the configuration of now, and says in the log what it did.
func (in *proxyInstance) reload(ctx context.Context, dry bool) (reloadReport, error) {
	in.reloading.Lock()
	defer in.reloading.Unlock()
	report, err := in.tryReload(ctx, dry)
	switch {
	case err != nil:
		in.log.Error("reload failed", "error", err)
	case !dry:
		for _, line := range report.lines(false) {
			in.log.Info("reload: " + line)
		}
	}
	return report, err
}

func (in *proxyInstance) tryReload(ctx context.Context, dry bool) (reloadReport, error) {
	report := reloadReport{DryRun: dry}
	old := in.current()
	cfg, err := resolveProxy(in.src)
	if err != nil {
		return report, err
	}
	if report.Changes, err = changedSettings(old.cfg, cfg); err != nil {
		return report, err
	}
	setup, err := old.followProxy(ctx, cfg, dry)
	if err != nil {
		return report, err
	}
	next := &inForce{setup: setup}
	if next.served, err = setup.servedElsewhere(); err != nil {
		return report, err
	}
	report.Changes = append(report.Changes, changedProxyFiles(old, next)...)
	if changed(report.Changes, "nofile") && next.nofile == old.nofile {
		markRestart(report.Changes, "nofile") // a limit is raised, never lowered
	}
	if (in.cfg.StaticFiles == "") != (cfg.StaticFiles == "") {
		markRestart(report.Changes, "static-files") // whose requests they are is decided once
	}
	if dry {
		return report, nil
	}
	if in.cfg.StaticFiles != "" && cfg.StaticFiles != "" {
		if err := in.pages.open(cfg.StaticFiles); err != nil {
			return report, err
		}
	}
	in.become(ctx, next)
	if changed(report.Changes, "proxy-cpus") {
		err = runtime.PinSelf(next.cpus.Proxy)
	}
	cfg.keep(old.cfg, report.Changes)
	if err != nil {
		return report, fmt.Errorf("all else is in force, but: %w", err)
	}
	return report, nil
}

// become puts all into force that can be while sessions go on.
func (in *proxyInstance) become(ctx context.Context, next *inForce) {
	in.inForce.Store(next)
	in.level.Set(next.cfg.LogLevel)
	in.proxy.Adjust(next.proxyConfig(next.served))
	if in.system != nil {
		in.system.SetRules(next.cfg.Register)
	}
	in.monitor.SetMost(next.cfg.MaxOrigins)
	in.monitor.List(ctx, listings(next.cfg.Static))
}

// changedProxyFiles names what differs although the settings are the same: what is in
// the files that they name, and the default backend, which is no setting.
func changedProxyFiles(old, next *inForce) []settingChange {
	var changes []settingChange
	add := func(what string, same bool) {
		if !same {
			changes = append(changes, settingChange{What: what})
		}
	}
	if old.cfg.Vhosts == next.cfg.Vhosts {
		add("vhosts "+next.cfg.Vhosts, reflect.DeepEqual(old.served, next.served))
	}
	if old.cfg.value("register-token").text == next.cfg.value("register-token").text {
		add("the file of register-token", slices.Equal(old.cfg.Register.Tokens, next.cfg.Register.Tokens))
	}
	if old.cfg.value("origin").text == next.cfg.value("origin").text {
		add("the default backend", slices.Equal(old.cfg.Static, next.cfg.Static))
	}
	return changes
}

// serveReload is the command `reload`.
func (in *proxyInstance) serveReload(w http.ResponseWriter, r *http.Request) {
	var req reloadRequest
	if !controlRequest(w, r, &req) {
		return
	}
	// It is done also if whoever asked has gone.
	began := time.Now()
	report, err := in.reload(context.WithoutCancel(r.Context()), req.DryRun)
	result := opResult{Operation: "reload", Reload: &report, Origins: in.origins(r.Context()), Took: time.Since(began).Seconds()}
	if err != nil {
		result.Error = err.Error()
	}
	controlAnswer(in.log, w, opEvent{Done: &result})
}
