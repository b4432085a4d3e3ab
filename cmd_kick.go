package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) kickCommand() *cli.Command {
	return &cli.Command{
		Name:      "kick",
		Usage:     "end a stream's publisher, or one client",
		ArgsUsage: "STREAM|CLIENT-ID",
		Description: "STREAM is as streams shows it, live/NAME or VHOST/live/NAME. Most encoders come back at once: refuse them by a hook (on_publish) or a firewall before.\n" +
			"Examples: srs-proxy kick live/livestream\n" +
			"          srs-proxy kick live/livestream --all     its players too\n" +
			"          srs-proxy kick 8q0a3n1v                  one client, by its ID (streams -o wide, or an origin's API)\n" +
			fmt.Sprintf("Exit codes: %d ended, %d no such client or stream, or error, %d usage, %d not running, %d ended, but an origin has not answered.",
				exitOK, exitFailure, exitUsage, exitNotRunning, exitDegraded),
		Flags:        p.operationFlags(allFlag("end the players of the stream too")),
		BashComplete: p.completeStreams,
		Action: withWords(func(c *cli.Context, words []string) error {
			if len(words) != 1 || words[0] == "" {
				return usageErrorf("kick takes one stream, such as live/livestream, or the ID of one client")
			}
			form, err := outputForm(c, outputText, outputJSON)
			if err != nil {
				return err
			}
			return p.kick(c.Context, sourcesOf(c, p.env), kickRequest{Target: words[0], All: c.Bool("all")}, form)
		}),
	}
}

func (p *program) kick(ctx context.Context, src sources, req kickRequest, form string) error {
	cfg, err := resolve(src, "state-dir", "control")
	if err != nil {
		return err
	}
	var r kickReport
	if err := controlAsk(ctx, cfg.Control, http.MethodPost, controlKick, req, &r); err != nil {
		return notRunning(err)
	}
	if form == outputJSON {
		err = p.writeJSON(r)
	} else {
		err = printf(p.term.out, "%s\n", strings.Join(r.lines(), "\n"))
	}
	if err != nil {
		return err
	}
	for _, e := range r.Errors {
		if err := printf(p.term.err, "%s\n", printable(e)); err != nil {
			return err
		}
	}
	if len(r.Errors) > 0 {
		return &exitError{code: exitDegraded}
	}
	return nil
}

// lines name each publisher that was ended, and count players.
func (r kickReport) lines() []string {
	type place struct{ stream, origin string }
	var lines []string
	var order []place
	players := make(map[place][]kickedClient)
	for _, k := range r.Kicked {
		if k.Publish {
			lines = append(lines, printable(fmt.Sprintf("ended the publisher of %s at %s: client %s%s", k.Stream, k.Origin, k.ID, from(k.Client))))
			continue
		}
		at := place{k.Stream, k.Origin}
		if len(players[at]) == 0 {
			order = append(order, at)
		}
		players[at] = append(players[at], k)
	}
	for _, at := range order {
		if ended := players[at]; len(ended) == 1 {
			lines = append(lines, printable(fmt.Sprintf("ended a player of %s at %s: client %s%s", at.stream, at.origin, ended[0].ID, from(ended[0].Client))))
		} else {
			lines = append(lines, printable(fmt.Sprintf("ended %d players of %s at %s", len(ended), at.stream, at.origin)))
		}
	}
	return lines
}

// from says where a client comes from, unless that is the proxy's own address.
func from(client string) string {
	if ip, err := netip.ParseAddr(client); err != nil || ip.IsLoopback() {
		return ""
	}
	return " from " + client
}

// completeStreams offers the streams of the running instance.
func (p *program) completeStreams(c *cli.Context) {
	p.complete(c, func(ctx context.Context, control string) []string {
		var r streamsReport
		if controlCall(ctx, control, http.MethodGet, controlStreams, &r) != nil {
			return nil
		}
		var titles []string
		for _, s := range r.Streams {
			// What a shell would take apart is not offered.
			if title := s.title(); printable(title) == title && !strings.ContainsAny(title, " '\"\\$`;&|<>(){}*?") {
				titles = append(titles, title)
			}
		}
		return titles
	})
}
