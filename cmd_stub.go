package main

import (
"context"
"github.com/urfave/cli/v2"
)

func (p *program) upCommand() *cli.Command {
	return &cli.Command{Name: "up", Flags: settingFlags(p.env)}
}
func (p *program) checkCommand() *cli.Command  { return &cli.Command{Name: "check"} }
func (p *program) originCommand() *cli.Command { return &cli.Command{Name: "origin"} }

func (p *program) originConfig(ctx context.Context, cfg *resolved, origin string) error { return nil }
