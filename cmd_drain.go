package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"srs-proxy/supervisor"
)

func allFlag(usage string) cli.Flag {
	return &cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: usage}
}

func (p *program) drainCommand() *cli.Command {
	return &cli.Command{
		Name:      "drain",
		Usage:     "keep new streams from origins",
		ArgsUsage: "ORIGIN...|--all",
		Description: "The streams that an origin has stay, and their players may still come. It survives a restart of srs-proxy, and undrain ends it.\n" +
			"Examples: srs-proxy drain 3\n" +
			"          srs-proxy drain 3 4 --wait --timeout 1h     and return when nobody uses them any more\n" + operationExits(),
		Flags: p.operationFlags(allFlag("drain all origins"),
			&cli.BoolFlag{Name: "wait", Usage: "wait until the origins have neither publishers nor players"},
			&cli.DurationFlag{Name: "timeout", Usage: "`DURATION` to wait at most", DefaultText: "for ever"}),
		BashComplete: p.completeOrigins,
		Action: withWords(func(c *cli.Context, words []string) error {
			ids, err := originIDs(c, words)
			if err != nil {
				return err
			}
			if c.IsSet("timeout") && (!c.Bool("wait") || c.Duration("timeout") <= 0) {
				return usageErrorf("flag --timeout: needs --wait, and a time to wait, such as 1h")
			}
			err = p.operate(c, controlDrain, originsRequest{IDs: ids}, func(opResult) string {
				return fmt.Sprintf("%s no new streams; undrain ends that", takes(ids))
			})
			if err != nil || !c.Bool("wait") {
				return err
			}
			return p.awaitEmpty(c, ids, c.Duration("timeout"))
		}),
	}
}

func (p *program) undrainCommand() *cli.Command {
	return &cli.Command{
		Name:         "undrain",
		Usage:        "let origins take new streams again",
		ArgsUsage:    "ORIGIN...|--all",
		Description:  "Example: srs-proxy undrain 3\n" + operationExits(),
		Flags:        p.operationFlags(allFlag("undrain all origins")),
		BashComplete: p.completeOrigins,
		Action: withWords(func(c *cli.Context, words []string) error {
			ids, err := originIDs(c, words)
			if err != nil {
				return err
			}
			return p.operate(c, controlUndrain, originsRequest{IDs: ids}, func(opResult) string {
				return takes(ids) + " new streams"
			})
		}),
	}
}

// takes begins a sentence about origins.
func takes(ids []string) string {
	switch len(ids) {
	case 0:
		return "all origins take"
	case 1:
		return ids[0] + " takes"
	default:
		return strings.Join(ids[:len(ids)-1], ", ") + " and " + ids[len(ids)-1] + " take"
	}
}

// emptyLook is how often drain --wait looks: figures are up to two seconds old.
const emptyLook = time.Second

// awaitEmpty waits until nobody uses the origins, all of them for no ids.
func (p *program) awaitEmpty(c *cli.Context, ids []string, timeout time.Duration) error {
	cfg, err := resolve(sourcesOf(c, p.env), "state-dir", "control")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, unix.SIGINT, unix.SIGTERM)
	defer stop()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	said := ""
	for {
		var r report
		if err := controlCall(ctx, cfg.Control, http.MethodGet, controlStatus, &r); err != nil && ctx.Err() == nil {
			return notRunning(err)
		}
		busy, known := inUse(r.Origins, ids)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return fmt.Errorf("after %s: %s; the origins go on draining", timeout, said)
		case ctx.Err() != nil:
			return errors.New("drain: not waiting any more; the origins go on draining")
		case known && busy == "":
			return printf(p.term.err, "nobody uses %s any more\n", orAll(ids))
		case known && busy != said:
			said = busy
			if err := printf(p.term.err, "%s\n", busy); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(emptyLook):
		}
	}
}

func orAll(ids []string) string {
	if len(ids) == 0 {
		return "the origins"
	}
	return strings.Join(ids, ", ")
}

// inUse says in words which of the origins are used; known is false when one of
// them did not tell.
func inUse(all []supervisor.OriginStatus, ids []string) (busy string, known bool) {
	var parts []string
	known = len(all) > 0
	for _, o := range all {
		place := fmt.Sprintf("origin-%d", o.Index)
		if len(ids) > 0 && !slices.Contains(ids, o.ID) && !slices.Contains(ids, place) {
			continue
		}
		if o.StatsError != "" {
			known = false
		}
		if o.Publishers+o.Players > 0 {
			parts = append(parts, fmt.Sprintf("%s has %s, %s", o.ID, counted(o.Publishers, "stream"), counted(o.Players, "player")))
		}
	}
	return strings.Join(parts, "; "), known
}
