package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func (p *program) systemdUnitCommand() *cli.Command {
	return &cli.Command{
		Name:  "systemd-unit",
		Usage: "print a unit file for systemd, with the flags given here",
		Description: "Takes the flags of up, changes nothing. To install:\n" +
			"srs-proxy systemd-unit FLAGS | sudo tee /etc/systemd/system/srs-proxy.service\n" +
			"sudo systemctl daemon-reload && sudo systemctl enable --now srs-proxy",
		Flags: append(settingFlags(p.env),
			&cli.StringFlag{Name: "systemd-version", Usage: "write for systemd `N`; else for this machine's"},
		),
		Action: noArguments(func(c *cli.Context) error {
			version := installedSystemd(c.Context)
			if text := c.String("systemd-version"); text != "" {
				n, err := strconv.Atoi(text)
				if err != nil || n < 1 {
					return usageErrorf("flag --systemd-version: %q is no version; give a number such as 252", text)
				}
				version = n
			}
			return p.systemdUnit(sourcesOf(c, p.env), version)
		}),
	}
}

func (p *program) systemdUnit(src sources, version int) error {
	// The unit does not see this shell's variables, so they decide nothing here.
	given := sources{flag: src.flag, env: func(string) (string, bool) { return "", false }}
	cfg, err := resolve(given)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	u := unit{self: self, systemd: version, nofile: cfg.NoFile}
	if file, ok := src.flag(configFileFlag); ok {
		if u.configFile, err = filepath.Abs(file); err != nil {
			return fmt.Errorf("flag --%s: %w", configFileFlag, err)
		}
	}
	for _, v := range cfg.values {
		if v.from != fromFlag {
			continue
		}
		text := v.text
		// A unit starts in /.
		if v.setting.isPath() && text != "" && text != builtinOrigin {
			if text, err = filepath.Abs(text); err != nil {
				return fmt.Errorf("%s: %w", v.place(), err)
			}
		}
		u.flags = append(u.flags, unitFlag{v.setting.name, text})
	}
	u.stateDir = unitStateDir
	if cfg.value("state-dir").from != fromDefault {
		u.stateDir = cfg.StateDir
	}
	u.cgroup = cgroupNameFor(cfg.Cgroup, u.stateDir)
	text, err := u.render()
	if err != nil {
		return err
	}
	if err := printf(p.term.out, "%s", text); err != nil {
		return err
	}
	if names := variablesSet(src.env); len(names) > 0 {
		_, _ = fmt.Fprintf(p.term.err, "srs-proxy: not in the unit, as it does not see this shell's variables: %s; give flags, or write them into %s\n",
			strings.Join(names, " "), unitEnvironment)
	}
	return nil
}

// isPath says that a value is the path of something, by what help calls it.
func (s setting) isPath() bool {
	for _, what := range []string{"`PATH`", "`FILE`", "`DIR`"} {
		if strings.Contains(s.usage, what) {
			return true
		}
	}
	return false
}

// variablesSet are our variables in an environment, by name.
func variablesSet(env func(string) (string, bool)) []string {
	names := []string{configFileEnv}
	for _, s := range settings("") {
		names = append(names, s.env)
	}
	var set []string
	for _, name := range names {
		if value, ok := env(name); ok && value != "" {
			set = append(set, name)
		}
	}
	return set
}

// installedSystemd is the version of this machine's systemd, 0 without one.
func installedSystemd(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "--version").Output()
	if err != nil {
		return 0
	}
	// "systemd 252 (252.38-1~deb12u1)"
	fields := strings.Fields(string(out))
	if len(fields) < 2 {
		return 0
	}
	version, _, _ := strings.Cut(fields[1], ".")
	n, _ := strconv.Atoi(version)
	return n
}
