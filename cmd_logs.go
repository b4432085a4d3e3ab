package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"strconv"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// logsDefault fills a screen.
const logsDefault = 50

func (p *program) logsCommand() *cli.Command {
	return &cli.Command{
		Name:      "logs",
		Usage:     "show what the origins log and print, in the order of time",
		ArgsUsage: "[ORIGIN]",
		Description: "Reads the origins' log files, rotated ones too, and works after the end of an instance as well.\n" +
			"Examples: srs-proxy logs -n 200 3     the last 200 lines of origin-3\n" +
			"          srs-proxy logs -f           follow all of them, through rotations\n" +
			"          srs-proxy logs -n all 3.1   everything of the process that took origin-3's place\n" +
			fmt.Sprintf("Exit codes: %d shown, %d error, %d usage, %d not running (with -f, or when there are no logs).", exitOK, exitFailure, exitUsage, exitNotRunning),
		Flags: append(settingFlags(p.env, "state-dir", "control"),
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what is added, until Ctrl-C"},
			&cli.StringFlag{Name: "lines", Aliases: []string{"n"}, Value: strconv.Itoa(logsDefault), DefaultText: strconv.Itoa(logsDefault), Usage: "begin with the last `N` lines, of all origins together; or all"},
		),
		BashComplete: p.completeOrigins,
		Action: withWords(func(c *cli.Context, words []string) error {
			if len(words) > 1 {
				return usageErrorf("logs shows one origin or all of them, and %q is one too many", words[1])
			}
			id := ""
			if len(words) == 1 {
				id = originID(words[0])
			}
			n, err := parseLines(c.String("lines"))
			if err != nil {
				return err
			}
			return p.logs(c.Context, sourcesOf(c, p.env), id, n, c.Bool("follow"))
		}),
	}
}

func parseLines(v string) (int, error) {
	if v == "all" {
		return allLines, nil
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return 0, usageErrorf("flag --lines: %q is not a number of lines; give one such as 200, or all", v)
	}
	return int(n), nil
}

func (p *program) logs(ctx context.Context, src sources, id string, n int, follow bool) error {
	cfg, err := resolve(src, "state-dir", "control")
	if err != nil {
		return err
	}
	// A running instance knows best where its files are.
	stateDir, running := cfg.StateDir, true
	o, err := askOrigins(ctx, cfg.Control)
	switch {
	case err == nil:
		stateDir = o.StateDir
	case errors.Is(err, errNotRunning):
		running = false
	default:
		return err
	}
	dirs, err := originDirs(stateDir)
	if !running && (follow || err != nil || len(dirs) == 0) {
		return &exitError{exitNotRunning, fmt.Errorf("%w: nobody answers on %s", errNotRunning, cfg.Control)}
	}
	if err != nil {
		return err
	}
	if err := knownDir(dirs, id); err != nil {
		return err
	}
	if !running {
		if err := printf(p.term.err, "srs-proxy is not running; this is what its origins logged before\n"); err != nil {
			return err
		}
	}

	m := newLogMerge(stateDir, id, p.term.out, p.term.colors)
	defer m.Close()
	if err := m.tail(n); err != nil {
		return closedPipe(err)
	}
	if m.lines == 0 && n != 0 {
		if err := printf(p.term.err, "nothing is logged yet in %s\n", filepath.Join(stateDir, cmp.Or(id, "origin-*"), logFileName)); err != nil {
			return err
		}
	}
	if !follow {
		return nil
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	return closedPipe(m.follow(ctx))
}

// knownDir complains about an origin that never was.
func knownDir(dirs []originDir, id string) error {
	var names []string
	for _, d := range dirs {
		if d.matches(id) {
			return nil
		}
		names = append(names, d.name)
	}
	return unknownOrigin(id, names)
}

// closedPipe makes the end of who reads our output (head, less) an ordinary one.
func closedPipe(err error) error {
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}
