package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func (p *program) streamsCommand() *cli.Command {
	return &cli.Command{
		Name:  "streams",
		Usage: "list the streams of all origins",
		Description: "PUBLISHER is the client's address. IN and OUT are bits per second, SRS's averages over 30 s.\n" +
			"Examples: srs-proxy streams --sort players\n" +
			"          srs-proxy streams -o wide          with sizes and the publishers' IDs, which kick takes\n" +
			fmt.Sprintf("Exit codes: %d shown, %d error, %d usage, %d not running, %d an origin has not answered and its streams are missing.",
				exitOK, exitFailure, exitUsage, exitNotRunning, exitDegraded),
		Flags: append(settingFlags(p.env, "state-dir", "control"),
			outputFlag(outputTable, outputWide, outputJSON),
			&cli.StringFlag{Name: "sort", Value: "name", DefaultText: "name", Usage: "`COLUMN` to sort by: " + orList(streamOrders())}),
		Action: withWords(func(c *cli.Context, words []string) error {
			if len(words) > 0 {
				return usageErrorf("streams takes no arguments, and %q is one; see %s streams --help", words[0], c.App.Name)
			}
			form, err := outputForm(c, outputTable, outputWide, outputJSON)
			if err != nil {
				return err
			}
			if !slices.Contains(streamOrders(), c.String("sort")) {
				return usageErrorf("flag --sort: %q is unknown; give %s", c.String("sort"), orList(streamOrders()))
			}
			return p.streams(c.Context, sourcesOf(c, p.env), form, c.String("sort"))
		}),
	}
}

func (p *program) streams(ctx context.Context, src sources, form, order string) error {
	cfg, err := resolve(src, "state-dir", "control")
	if err != nil {
		return err
	}
	var r streamsReport
	if err := controlCall(ctx, cfg.Control, http.MethodGet, controlStreams, &r); err != nil {
		return notRunning(err)
	}
	sortStreams(r.Streams, order)
	if form == outputJSON {
		err = p.writeJSON(r)
	} else {
		err = writeTable(p.term.out, streamColumns(form == outputWide), streamRows(r.Streams, form == outputWide), p.term.colors)
	}
	if err != nil {
		return err
	}
	for _, e := range r.Errors {
		if err := printf(p.term.err, "missing: %s\n", printable(e)); err != nil {
			return err
		}
	}
	if len(r.Errors) > 0 {
		return &exitError{code: exitDegraded}
	}
	return nil
}

func streamOrders() []string { return []string{"name", "origin", "players", "in", "out", "up"} }

// sortStreams puts names in order, and figures the largest first.
func sortStreams(all []streamInfo, order string) {
	slices.SortStableFunc(all, func(a, b streamInfo) int {
		switch order {
		case "origin":
			return compareIDs(a.Origin, b.Origin)
		case "players":
			return cmp.Compare(b.Players, a.Players)
		case "in":
			return cmp.Compare(b.InBps, a.InBps)
		case "out":
			return cmp.Compare(b.OutBps, a.OutBps)
		case "up":
			return cmp.Compare(b.up(), a.up())
		default:
			return cmp.Compare(a.title(), b.title())
		}
	})
}

func (s streamInfo) up() float64 {
	if s.Publisher == nil {
		return 0
	}
	return s.Publisher.Up
}

// compareIDs orders origin-2 before origin-10.
func compareIDs(a, b string) int {
	if c := cmp.Compare(len(strings.SplitN(a, ".", 2)[0]), len(strings.SplitN(b, ".", 2)[0])); c != 0 {
		return c
	}
	return cmp.Compare(a, b)
}

func streamColumns(wide bool) []column {
	columns := []column{
		{title: "STREAM"},
		{title: "ORIGIN"},
		{title: "CODECS"},
		{title: "PUBLISHER"},
		{title: "PLAYERS", right: true},
		{title: "IN", right: true},
		{title: "OUT", right: true},
		{title: "UP", right: true},
	}
	if wide {
		columns = append(columns, column{title: "SIZE"}, column{title: "TYPE"}, column{title: "ID"})
	}
	return columns
}

func streamRows(all []streamInfo, wide bool) [][]cell {
	rows := make([][]cell, 0, len(all))
	for _, s := range all {
		publisher, up, kind, id := cell{text: "-", color: yellow}, "-", "-", "-"
		if p := s.Publisher; p != nil {
			publisher = cell{text: orDash(p.Client)}
			kind, id = orDash(p.Type), orDash(p.ID)
			if p.Up > 0 {
				up = formatUptime(time.Duration(p.Up * float64(time.Second)))
			}
		}
		codecs := strings.TrimSpace(s.Video + " " + s.Audio)
		row := []cell{
			{text: printable(s.title())},
			{text: printable(s.Origin)},
			{text: orDash(codecs)},
			publisher,
			{text: strconv.Itoa(s.Players)},
			{text: formatBits(s.InBps)},
			{text: formatBits(s.OutBps)},
			{text: up},
		}
		if wide {
			size := "-"
			if s.Width > 0 {
				size = fmt.Sprintf("%dx%d", s.Width, s.Height)
			}
			row = append(row, cell{text: size}, cell{text: kind}, cell{text: id})
		}
		rows = append(rows, row)
	}
	return rows
}
