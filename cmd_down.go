package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"
)

func (p *program) downCommand() *cli.Command {
	return &cli.Command{
		Name:        "down",
		Usage:       "stop the running instance and wait until it is gone",
		Description: fmt.Sprintf("Exit codes: %d gone, %d error or still there after --timeout, %d usage, %d not running.", exitOK, exitFailure, exitUsage, exitNotRunning),
		Flags: append(settingFlags(p.env, "state-dir", "control"),
			&cli.DurationFlag{Name: "timeout", Value: downTimeout, Usage: "`DURATION` to wait for the end"},
			&cli.BoolFlag{Name: "now", Usage: "do not let sessions and origins finish"},
		),
		Action: noArguments(func(c *cli.Context) error {
			return p.down(c.Context, sourcesOf(c, p.env), c.Duration("timeout"), c.Bool("now"))
		}),
	}
}

// downTimeout is twice what the slowest clean stop takes: 12 s until an origin
// is killed, and the proxy's drain before that.
const downTimeout = 30 * time.Second

func (p *program) down(ctx context.Context, src sources, timeout time.Duration, now bool) error {
	if timeout <= 0 {
		return usageErrorf("flag --timeout: %q is not a time to wait; give one such as %s", timeout, downTimeout)
	}
	cfg, err := resolve(src, "state-dir", "control")
	if err != nil {
		return err
	}
	instance, err := holdInstance(cfg.Control)
	if err != nil {
		return notRunning(err)
	}
	defer instance.Close()

	resource := controlStop
	if now {
		resource += "?" + controlNow + "=true"
	}
	// An instance that ends while it is asked did what was wanted.
	if err := controlCall(ctx, cfg.Control, http.MethodPost, resource, nil); err != nil && !errors.Is(err, errNotRunning) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := instance.Wait(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("pid %d is still stopping after %s; wait longer with --timeout, or hurry it with --now", instance.pid, timeout)
		}
		return err
	}
	return printf(p.term.out, "srs-proxy (pid %d) has stopped\n", instance.pid)
}
