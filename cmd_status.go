package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
)

// The forms of status.
const (
	outputTable = "table"
	outputWide  = "wide"
	outputJSON  = "json"
)

func (p *program) statusCommand() *cli.Command {
	var watch watchFlag
	return &cli.Command{
		Name:  "status",
		Usage: "show the origins of the running instance",
		Description: "IN and OUT are bits per second since the look before this one, if that was 1 to 30 s ago (SRS counts every 3 s), else SRS's averages over 30 s, which are 0 for a stream's first 30 s.\n" +
			fmt.Sprintf("Exit codes: %d all origins are as wanted, %d error, %d usage, %d not running, %d degraded.",
				exitOK, exitFailure, exitUsage, exitNotRunning, exitDegraded),
		ArgsUsage: "[TIME]",
		Flags: append(settingFlags(p.env, "state-dir", "control"), append(liveFlags("id"),
			&cli.StringFlag{
				Name: "output", Aliases: []string{"o"}, Value: outputTable, DefaultText: outputTable,
				Usage: "`FORM`: table, wide or json",
			},
			&cli.GenericFlag{
				Name: "watch", Aliases: []string{"w"}, Value: &watch, DefaultText: "off",
				Usage: fmt.Sprintf("show it again each `TIME`, %s without one; give it as -w=TIME, or last as -w TIME", defaultInterval),
			},
		)...),
		Action: func(c *cli.Context) error {
			if watch.interval > 0 && c.NArg() == 1 {
				if err := watch.Set(c.Args().First()); err != nil {
					return usageErrorf("flag --watch: %q %w", c.Args().First(), err)
				}
			} else if watch.interval > 0 && c.NArg() > 1 {
				// The flag package takes no flags behind the first word that is none.
				return usageErrorf("status: put flags before the time of --watch, or write it as -w=%s", c.Args().First())
			} else if err := noArguments(func(*cli.Context) error { return nil })(c); err != nil {
				return err
			}
			return p.status(c, watch.interval)
		},
	}
}

// watchFlag is a flag whose value may be left out.
type watchFlag struct{ interval time.Duration }

// IsBoolFlag makes the flag package take -w alone for -w=true.
func (*watchFlag) IsBoolFlag() bool { return true }

// Set takes an interval, or what stands for a flag without one.
func (f *watchFlag) Set(v string) (err error) {
	switch v {
	case "true":
		f.interval = defaultInterval
	case "false":
		f.interval = 0
	default:
		f.interval, err = parseInterval(v)
	}
	return err
}

func (f *watchFlag) String() string {
	if f.interval == 0 {
		return ""
	}
	return f.interval.String()
}

func (p *program) status(c *cli.Context, watch time.Duration) error {
	output := c.String("output")
	if !slices.Contains([]string{outputTable, outputWide, outputJSON}, output) {
		return usageErrorf("flag --output: %q is unknown; give table, wide or json", output)
	}
	o, err := liveOptionsOf(c, cmp.Or(watch, defaultInterval), output == outputWide)
	if err != nil {
		return err
	}
	if watch == 0 {
		if c.IsSet("times") {
			return usageErrorf("flag --times goes with --watch")
		}
		o.times = 1
	}
	l, err := p.live(sourcesOf(c, p.env), o)
	if err != nil {
		return err
	}
	if s := p.term.screen(); s != nil && watch > 0 && output != outputJSON {
		return p.watchStatus(c.Context, l, s, o)
	}
	pages := 0
	r, err := l.asText(c.Context, p.term.err, func(r report) error {
		if pages++; pages > 1 && output != outputJSON {
			if err := printf(p.term.out, "\n"); err != nil {
				return err
			}
		}
		return p.writeReport(r, output, o.sort)
	})
	return healthOf(r, err)
}

// watchStatus shows the table on the whole screen.
func (p *program) watchStatus(ctx context.Context, l live, s *fullScreen, o liveOptions) error {
	m := p.model(o)
	m.table = true
	if err := l.onScreen(ctx, s, m, p.term.colors); err != nil {
		return err
	}
	return healthOf(m.report, notRunning(m.trouble))
}

// healthOf is the exit code for the last report.
func healthOf(r report, err error) error {
	if err == nil && !r.Healthy() {
		return &exitError{code: exitDegraded}
	}
	return err
}

func (p *program) writeReport(r report, output string, sort sorting) error {
	columns := topColumns(output == outputWide)
	sort.apply(r.Origins, columns, r.Time)
	if output == outputJSON {
		enc := json.NewEncoder(p.term.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return nil
	}
	return writeStatus(p.term.out, r.Snapshot, output == outputWide, p.term.colors)
}

// notRunning gives its exit code to the error that nobody answers.
func notRunning(err error) error {
	if errors.Is(err, errNotRunning) {
		return &exitError{code: exitNotRunning, err: err}
	}
	return err
}
