package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"
)

func (p *program) configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "print the configuration that up would use, or an origin's",
		Flags: append(settingFlags(p.env),
			&cli.StringFlag{Name: "origin", Usage: "print the SRS config of origin `N` (0 is the first) instead"},
		),
		Action: noArguments(func(c *cli.Context) error {
			cfg, err := resolve(sourcesOf(c, p.env))
			if err != nil {
				return err
			}
			if c.IsSet("origin") {
				return p.originConfig(c.Context, cfg, c.String("origin"))
			}
			text, err := configYAML(cfg)
			if err != nil {
				return err
			}
			return printf(p.term.out, "%s", text)
		}),
	}
}

// configYAML writes the settings in the form of a configuration file, each with
// its source as comment, grouped as in the help.
func configYAML(cfg *resolved) ([]byte, error) {
	root := &yaml.Node{Kind: yaml.MappingNode}
	category := ""
	for _, v := range cfg.values {
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: v.setting.name}
		if v.setting.category != category {
			category = v.setting.category
			key.HeadComment = category
		}
		val := &yaml.Node{Kind: yaml.ScalarNode, Value: v.shown(), LineComment: v.origin()}
		if v.text == "" {
			val.Style = yaml.DoubleQuotedStyle
		}
		root.Content = append(root.Content, key, val)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("write config as YAML: %w", err)
	}
	return out.Bytes(), nil
}

// originConfig prints the SRS config of one slot.
func (p *program) originConfig(ctx context.Context, cfg *resolved, origin string) error {
	s, err := newSetup(ctx, cfg)
	if err != nil {
		return err
	}
	slot, err := strconv.Atoi(origin)
	if err != nil || slot < 0 || slot >= len(s.cpus.Origins) {
		return usageErrorf("flag --origin: %q is no origin; give 0 to %d", origin, len(s.cpus.Origins)-1)
	}
	text, err := s.originConfig(slot)
	if err != nil {
		return err
	}
	return printf(p.term.out, "%s", text)
}
