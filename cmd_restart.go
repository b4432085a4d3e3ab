package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"srs-proxy/supervisor"
)

func (p *program) restartCommand() *cli.Command {
	return &cli.Command{
		Name:      "restart",
		Usage:     "replace the processes of origins, and lose no stream",
		ArgsUsage: "ORIGIN...|--all",
		Description: "A new process starts on spare ports. When it is ready it gets the new streams, and the old one keeps those that it has, for --drain-deadline of up (10m) at most.\n" +
			fmt.Sprintf("Of many, %d are replaced at a time. ", supervisor.DefaultStarts) +
			"Until the old one is gone status shows both: origin-3 and origin-3.1. An origin that does not serve is started again at once.\n" +
			"Examples: srs-proxy restart 3\n" +
			"          srs-proxy restart --all\n" + operationExits(),
		Flags:        p.operationFlags(allFlag("restart all origins")),
		BashComplete: p.completeOrigins,
		Action: withWords(func(c *cli.Context, words []string) error {
			ids, err := originIDs(c, words)
			if err != nil {
				return err
			}
			return p.operate(c, controlRestart, originsRequest{IDs: ids}, func(r opResult) string {
				n := len(ids)
				if n == 0 {
					n = placesOf(r.Origins)
				}
				return fmt.Sprintf("restarted %s%s", counted(n, "origin"), stillDraining(r.Origins))
			})
		}),
	}
}

// stillDraining says how many old processes keep their streams.
func stillDraining(origins []supervisor.OriginStatus) string {
	n := 0
	for _, o := range origins {
		if o.Role == supervisor.Retiring {
			n++
		}
	}
	switch n {
	case 0:
		return ""
	case 1:
		return "; an old process drains, see srs-proxy status"
	default:
		return fmt.Sprintf("; %d old processes drain, see srs-proxy status", n)
	}
}
