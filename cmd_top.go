package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"
)

func (p *program) topCommand() *cli.Command {
	return &cli.Command{
		Name:  "top",
		Usage: "watch the running instance: CPU by core, traffic, the busiest origins",
		Description: "Keys: q quits, ? shows the others. Off a terminal it prints a page of plain text each time.\n" +
			"IN and OUT are bits per second between two looks at the origins (SRS counts every 3 s); at the first look they are SRS's averages over 30 s.",
		Flags: append(settingFlags(p.env, "state-dir", "control"), append(liveFlags("cpu"),
			&cli.StringFlag{Name: "interval", Aliases: []string{"d"}, Value: defaultInterval.String(), DefaultText: defaultInterval.String(), Usage: "look again after `TIME`: seconds, or with a unit (500ms)"},
			&cli.BoolFlag{Name: "wide", Usage: "show ports, version and last exit of each origin too"},
		)...),
		Action: noArguments(func(c *cli.Context) error {
			interval, err := parseInterval(c.String("interval"))
			if err != nil {
				return usageErrorf("flag --interval: %q %w", c.String("interval"), err)
			}
			opts, err := liveOptionsOf(c, interval, c.Bool("wide"))
			if err != nil {
				return err
			}
			return p.top(c.Context, sourcesOf(c, p.env), opts)
		}),
	}
}

// liveFlags are those of top and of status, which sorts by the column named.
func liveFlags(sort string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "sort", Value: sort, DefaultText: sort, Usage: "sort by `COLUMN`: its title in small letters; cpu is the load, cpus the set"},
		&cli.BoolFlag{Name: "reverse", Aliases: []string{"r"}, Usage: "sort the other way round"},
		&cli.IntFlag{Name: "times", Aliases: []string{"n"}, DefaultText: "for ever", Usage: "end after `N` looks"},
	}
}

// liveOptions are what top and status -w were told.
type liveOptions struct {
	interval time.Duration
	times    int
	sort     sorting
	wide     bool
}

func liveOptionsOf(c *cli.Context, interval time.Duration, wide bool) (liveOptions, error) {
	o := liveOptions{interval: interval, times: c.Int("times"), wide: wide}
	if o.times < 0 || o.times == 0 && c.IsSet("times") {
		return o, usageErrorf("flag --times: %d is not a number of looks; give a whole number from 1", o.times)
	}
	var err error
	o.sort, err = parseSorting(c.String("sort"), c.Bool("reverse"), wide)
	return o, err
}

// parseInterval takes "2", "0.5" and "500ms".
func parseInterval(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if seconds, err2 := strconv.ParseFloat(v, 64); err2 == nil && seconds > 0 && seconds < 1e6 {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	if err != nil || d < 100*time.Millisecond || d > time.Hour {
		return 0, errors.New("is no interval; give seconds (2) or a time with a unit (500ms), from 100ms to 1h")
	}
	return d, nil
}

func (p *program) top(ctx context.Context, src sources, o liveOptions) error {
	l, err := p.live(src, o)
	if err != nil {
		return err
	}
	m := p.model(o)
	if s := p.term.screen(); s != nil {
		return l.onScreen(ctx, s, m, p.term.colors)
	}
	pages := 0
	_, err = l.asText(ctx, p.term.err, func(r report) error {
		if pages++; pages > 1 {
			if err := printf(p.term.out, "\n"); err != nil {
				return err
			}
		}
		m.received(r)
		return writeLines(p.term.out, m.plain())
	})
	return err
}

// live looks at the instance that the settings name.
func (p *program) live(src sources, o liveOptions) (live, error) {
	cfg, err := resolve(src, "state-dir", "control")
	if err != nil {
		return live{}, err
	}
	return live{interval: o.interval, times: o.times, ask: func(ctx context.Context) (report, error) {
		var r report
		err := controlCall(ctx, cfg.Control, http.MethodGet, controlStatus, &r)
		return r, err
	}}, nil
}

func (p *program) model(o liveOptions) *topModel {
	return &topModel{sort: o.sort, wide: o.wide, interval: o.interval, glyphs: newGlyphs(p.term.utf8)}
}
