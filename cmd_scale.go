package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"srs-proxy/supervisor"
)

func (p *program) scaleCommand() *cli.Command {
	return &cli.Command{
		Name:      "scale",
		Usage:     "change the number of origins of the running instance",
		ArgsUsage: "N",
		Description: "New origins are ready when it returns. Those with the highest numbers go: they get no new streams, keep the ones they have for --drain-deadline of up (10m) at most, and stop.\n" +
			"The number holds until `origins` of the configuration changes, or until the next up.\n" +
			"Example: srs-proxy scale 16\n" + operationExits(),
		Flags: p.operationFlags(),
		Action: withWords(func(c *cli.Context, words []string) error {
			if len(words) != 1 {
				return usageErrorf("scale takes the number of origins, such as scale 16")
			}
			n, err := strconv.Atoi(words[0])
			if err != nil || n < 1 || n > maxOrigins {
				return usageErrorf("scale: %q is not a number of origins; give 1 to %d", words[0], maxOrigins)
			}
			return p.operate(c, controlScale, scaleRequest{Origins: n}, func(r opResult) string {
				return fmt.Sprintf("there are %s now", counted(placesOf(r.Origins), "origin"))
			})
		}),
	}
}

// operationExits is the last line of an operation's help.
func operationExits() string {
	return fmt.Sprintf("Ctrl-C ends the command, not what it began. Exit codes: %d done, %d error (nothing has changed, if it does not say otherwise), %d usage, %d not running, %d done, but an origin is not well.",
		exitOK, exitFailure, exitUsage, exitNotRunning, exitDegraded)
}

func (p *program) operationFlags(more ...cli.Flag) []cli.Flag {
	return append(append(settingFlags(p.env, "state-dir", "control"), more...), outputFlag(outputText, outputJSON))
}

// outputText is how people read the result of a command that has no table.
const outputText = "text"

// operate asks the running instance for a change, shows what happens, and sums it
// up in a sentence when it is done.
func (p *program) operate(c *cli.Context, resource string, request any, sum func(opResult) string) error {
	form, err := outputForm(c, outputText, outputJSON)
	if err != nil {
		return err
	}
	cfg, err := resolve(sourcesOf(c, p.env), "state-dir", "control")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, unix.SIGINT, unix.SIGTERM)
	defer stop()
	result, err := controlOperate(ctx, cfg.Control, resource, request, func(line string) error {
		if form == outputJSON {
			return nil
		}
		return printf(p.term.out, "%s\n", printable(line))
	})
	if errors.Is(err, errDetached) {
		return fmt.Errorf("%s: %w", c.Command.Name, err)
	}
	if err != nil {
		return notRunning(err)
	}
	if form == outputJSON {
		if err := p.writeJSON(result); err != nil {
			return err
		}
	}
	return p.finish(result, form, sum)
}

// finish prints the end of an operation and makes it an exit code.
func (p *program) finish(result opResult, form string, sum func(opResult) string) error {
	if result.Error != "" {
		return errors.New(result.Error)
	}
	if form == outputText {
		if err := printf(p.term.out, "%s\n", sum(result)); err != nil {
			return err
		}
		for _, line := range result.Unhealthy {
			if err := printf(p.term.err, "%s\n", printable(line)); err != nil {
				return err
			}
		}
	}
	if len(result.Unhealthy) > 0 {
		return &exitError{code: exitDegraded}
	}
	return nil
}

func (p *program) writeJSON(v any) error {
	enc := json.NewEncoder(p.term.out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// placesOf counts origins, without the processes that are on their way in or out.
func placesOf(origins []supervisor.OriginStatus) int {
	n := 0
	for _, o := range origins {
		if o.Role == supervisor.Current {
			n++
		}
	}
	return n
}

// completeOrigins offers the IDs of the running instance's origins.
func (p *program) completeOrigins(c *cli.Context) {
	p.complete(c, func(ctx context.Context, control string) []string {
		r, err := askOrigins(ctx, control)
		if err != nil {
			return nil
		}
		var ids []string
		for _, o := range r.Origins {
			ids = append(ids, originID(strconv.Itoa(o.Index)))
		}
		return slices.Compact(ids) // in order, and a place may have several processes
	})
}

// complete offers flags where one is begun, else words. Nothing to offer is no error.
func (p *program) complete(c *cli.Context, words func(ctx context.Context, control string) []string) {
	// The last word is the flag that asks for completion.
	if n := len(os.Args); n > 2 && strings.HasPrefix(os.Args[n-2], "-") {
		cli.DefaultCompleteWithFlags(c.Command)(c)
		return
	}
	cfg, err := resolve(sourcesOf(c, p.env), "state-dir", "control")
	if err != nil {
		return
	}
	for _, w := range words(c.Context, cfg.Control) {
		_ = printf(p.term.out, "%s\n", w)
	}
}
