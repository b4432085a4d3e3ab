package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"slices"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (p *program) checkCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "tell whether up would work here, and what to fix",
		Description: fmt.Sprintf("Takes the flags of up, changes nothing. Exit codes: %d it would (warnings included), %d it would not, %d usage.",
			exitOK, exitFailure, exitUsage),
		Flags: append(settingFlags(p.env),
			&cli.StringFlag{
				Name: "output", Aliases: []string{"o"}, Value: outputTable, DefaultText: outputTable,
				Usage: "`FORM`: table or json",
			},
			&cli.BoolFlag{Name: "irq-hint", Usage: "print instead how to move the network cards' interrupts to the proxy's CPUs"},
		),
		Action: noArguments(func(c *cli.Context) error {
			output := c.String("output")
			if !slices.Contains([]string{outputTable, outputJSON}, output) {
				return usageErrorf("flag --output: %q is unknown; give table or json", output)
			}
			cfg, err := resolve(sourcesOf(c, p.env))
			if err != nil {
				return err
			}
			// Without this, Ctrl-C would leave the files of the trial configs behind.
			ctx, stop := signal.NotifyContext(c.Context, unix.SIGINT, unix.SIGTERM)
			defer stop()
			if c.Bool("irq-hint") {
				return p.irqHint(ctx, cfg)
			}
			return p.check(ctx, cfg, output)
		}),
	}
}

func (p *program) check(ctx context.Context, cfg *resolved, output string) error {
	f := gatherFacts(ctx, cfg)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	found := preflight(f)
	if err := p.writeFindings(found, output); err != nil {
		return err
	}
	if worst(found) == verdictFail {
		return &exitError{code: exitFailure}
	}
	return nil
}

func (p *program) writeFindings(found []finding, output string) error {
	if output == outputJSON {
		enc := json.NewEncoder(p.term.out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(struct {
			Verdict  verdict   `json:"verdict"`
			Findings []finding `json:"findings"`
		}{worst(found), found}); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return nil
	}
	for _, f := range found {
		mark := paint(fmt.Sprintf("%-4s", f.Verdict), verdictColor(f.Verdict), p.term.colors)
		line := fmt.Sprintf("%s  %-10s  %s", mark, f.Subject, printable(f.Text))
		if f.Fix != "" {
			line += paint("  fix: ", dim, p.term.colors) + printable(f.Fix)
		}
		if err := printf(p.term.out, "%s\n", line); err != nil {
			return err
		}
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
