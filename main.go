// Command srs-proxy turns a big machine into one media server.
//
//	      publishers and players
//	               │  one set of public ports
//	 ┌─────────────▼─────────────┐
//	 │ srs-proxy up              │      srs-proxy status, down
//	 │ proxy · balancer ·        │◀──── unix socket
//	 │ supervisor                │
//	 └──┬─────────┬─────────┬────┘
//	    ▼         ▼         ▼
//	origin-0  origin-1 … origin-N      one process on one CPU each
//
// This folder is the command line: it reads the configuration, wires the parts
// and says in which order they start and stop. What the parts do is theirs.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
)

func main() {
	p := &program{
		term: newTerminal(os.Stdin, os.Stdout, os.Stderr, environment),
		env:  environment,
	}
	err := p.app().Run(os.Args)
	if err != nil {
		p.complain(err)
	}
	os.Exit(exitCode(err))
}

// program is what every command needs of its surroundings.
type program struct {
	term terminal
	env  func(name string) (string, bool)
}

// app is the command line's table of contents.
func (p *program) app() *cli.App {
	app := &cli.App{
		Name:    "srs-proxy",
		Usage:   "many SRS origins, one media server",
		Version: version(),
		Commands: []*cli.Command{
			p.upCommand(),
			p.downCommand(),
			p.statusCommand(),
			p.topCommand(),
			p.streamsCommand(),
			p.logsCommand(),
			p.scaleCommand(),
			p.drainCommand(),
			p.undrainCommand(),
			p.restartCommand(),
			p.reloadCommand(),
			p.kickCommand(),
			p.checkCommand(),
			p.configCommand(),
			p.systemdUnitCommand(),
			p.proxyCommand(),
			p.originCommand(),
			p.benchCommand(),
			p.versionCommand(),
			p.completionCommand(),
		},
		Action:               p.bareCommand,
		HideVersion:          true, // a command of its own, with details
		EnableBashCompletion: true,
		Suggest:              true,
		OnUsageError:         usageOf,
		ExitErrHandler:       func(*cli.Context, error) {}, // main turns errors into exit codes
		Writer:               p.term.out,
		ErrWriter:            p.term.err,
	}
	for _, c := range app.Commands {
		c.OnUsageError = usageOf
		c.HideHelpCommand = true
	}
	return app
}

// unknownCommand runs when no command of the list was named.
func unknownCommand(c *cli.Context) error {
	word := c.Args().First()
	if word == "" {
		return cli.ShowAppHelp(c)
	}
	names := make([]string, 0, len(c.App.Commands))
	for _, cmd := range c.App.Commands {
		names = append(names, cmd.Name)
	}
	if near := nearest(word, names); near != "" {
		return usageErrorf("there is no command %q; did you mean %s?", word, near)
	}
	return usageErrorf("there is no command %q; see %s --help", word, c.App.Name)
}

// complain prints an error for a human. An exitError without a cause has nothing to say.
func (p *program) complain(err error) {
	if ee, ok := errors.AsType[*exitError](err); ok && ee.err == nil {
		return
	}
	_, _ = fmt.Fprintf(p.term.err, "srs-proxy: %v\n", err) // nowhere left to report a failure to
}

// printf writes a command's result.
func printf(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
