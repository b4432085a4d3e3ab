package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/urfave/cli/v2"
)

// The forms of status.
const (
	outputTable = "table"
	outputWide  = "wide"
	outputJSON  = "json"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the origins of the running instance",
		Description: fmt.Sprintf("Exit codes: %d all origins are as wanted, %d error, %d usage, %d not running, %d degraded.",
			exitOK, exitFailure, exitUsage, exitNotRunning, exitDegraded),
		Flags: append(settingFlags(p.env, "state-dir", "control"),
			&cli.StringFlag{
				Name: "output", Aliases: []string{"o"}, Value: outputTable, DefaultText: outputTable,
				Usage: "`FORM`: table, wide or json",
			}),
		Action: noArguments(func(c *cli.Context) error {
			return p.status(c.Context, sourcesOf(c, p.env), c.String("output"))
		}),
	}
}

func (p *program) status(ctx context.Context, src sources, output string) error {
	if !slices.Contains([]string{outputTable, outputWide, outputJSON}, output) {
		return usageErrorf("flag --output: %q is unknown; give table, wide or json", output)
	}
	cfg, err := resolve(src, "state-dir", "control")
	if err != nil {
		return err
	}
	var r report
	if err := controlCall(ctx, cfg.Control, http.MethodGet, controlStatus, &r); err != nil {
		return notRunning(err)
	}
	if err := p.writeReport(r, output); err != nil {
		return err
	}
	if !r.Healthy() {
		return &exitError{code: exitDegraded}
	}
	return nil
}

func (p *program) writeReport(r report, output string) error {
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
