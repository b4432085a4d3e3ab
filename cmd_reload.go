package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) reloadCommand() *cli.Command {
	return &cli.Command{
		Name:  "reload",
		Usage: "read the configuration again and apply what changed",
		Description: "Reads the files of the running instance again: its configuration file, the template and the vhosts; its flags and environment stay as they were. All is checked first, and a bad configuration changes nothing. " +
			"Origins whose config changed are replaced as restart does; the others do not notice. So they are when the origins' program was replaced on disk. SIGHUP to up does the same.\n" +
			"Examples: srs-proxy reload --dry-run\n" +
			"          srs-proxy reload\n" + operationExits(),
		Flags: p.operationFlags(&cli.BoolFlag{Name: "dry-run", Usage: "say what would change, and change nothing"}),
		Action: withWords(func(c *cli.Context, words []string) error {
			if len(words) > 0 {
				return usageErrorf("reload takes no arguments, and %q is one; see %s reload --help", words[0], c.App.Name)
			}
			dry := c.Bool("dry-run")
			return p.operate(c, controlReload, reloadRequest{DryRun: dry}, func(r opResult) string {
				if r.Reload == nil {
					return "reloaded"
				}
				text := strings.Join(r.Reload.lines(dry), "\n")
				if !dry {
					text += stillDraining(r.Origins)
				}
				return text
			})
		}),
	}
}

// lines are what a reload did, or would do, for people.
func (r reloadReport) lines(dry bool) []string {
	var lines []string
	for _, c := range r.Changes {
		line := fmt.Sprintf("%s: %s", c.What, c.change())
		if c.Restart {
			line += " (takes effect when srs-proxy is restarted)"
		}
		lines = append(lines, line)
	}
	did := func(past, future string, ids []string) {
		verb := past
		if dry {
			verb = future
		}
		if len(ids) > 0 {
			lines = append(lines, fmt.Sprintf("%s %s", verb, strings.Join(ids, ", ")))
		}
	}
	did("added", "would add", r.Origins.Added)
	did("restarted", "would restart", r.Origins.Restarted)
	did("removed", "would remove", r.Origins.Removed)
	switch {
	case len(lines) == 0:
		lines = append(lines, "nothing has changed")
	case len(r.Origins.Unchanged) > 0:
		lines = append(lines, fmt.Sprintf("%s untouched", counted(len(r.Origins.Unchanged), "origin")))
	}
	return lines
}
