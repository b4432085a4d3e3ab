package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// settingFlag is a string flag that names its environment variable in help and
// leaves reading it to resolve, which must know where a value came from.
type settingFlag struct{ cli.StringFlag }

// Apply registers the flag without the variable.
func (f *settingFlag) Apply(set *flag.FlagSet) error {
	bare := f.StringFlag
	bare.EnvVars = nil
	return bare.Apply(set)
}

// String is the help's line.
func (f *settingFlag) String() string { return cli.FlagStringer(&f.StringFlag) }

// settingSwitch is one that needs no value on the command line.
type settingSwitch struct{ cli.BoolFlag }

// Apply registers the flag without the variable.
func (f *settingSwitch) Apply(set *flag.FlagSet) error {
	bare := f.BoolFlag
	bare.EnvVars = nil
	return bare.Apply(set)
}

// String is the help's line.
func (f *settingSwitch) String() string { return cli.FlagStringer(&f.BoolFlag) }

// settingList is one whose values are joined when it is given several times, where a
// plain flag would forget all but the last.
type settingList struct {
	cli.StringFlag
	joint string
}

// Apply registers the flag without the variable.
func (f *settingList) Apply(set *flag.FlagSet) error {
	set.Var(&joined{joint: f.joint}, f.Name, f.Usage)
	return nil
}

// String is the help's line.
func (f *settingList) String() string { return cli.FlagStringer(&f.StringFlag) }

// joined is a flag.Value that keeps all it was given.
type joined struct{ all, joint string }

func (j *joined) String() string { return j.all }

// Set adds a value.
func (j *joined) Set(v string) error {
	if j.all != "" && v != "" {
		v = j.all + j.joint + v
	}
	j.all = v
	return nil
}

// settingFlags are the flags of the settings called for, all of up when names is
// empty, and --config.
func settingFlags(env func(string) (string, bool), names ...string) []cli.Flag {
	return flagsOf(settings(defaultStateDir(env)), names...)
}

func flagsOf(all []setting, names ...string) []cli.Flag {
	flags := []cli.Flag{&settingFlag{cli.StringFlag{
		Name: configFileFlag, EnvVars: []string{configFileEnv}, Category: categoryHost,
		Usage: "read settings from the YAML `FILE`; its keys are the flags' names",
	}}}
	for _, s := range all {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		if s.isSwitch {
			flags = append(flags, &settingSwitch{cli.BoolFlag{
				Name: s.name, EnvVars: []string{s.env}, Category: s.category, Usage: s.usage,
			}})
			continue
		}
		plain := cli.StringFlag{Name: s.name, EnvVars: []string{s.env}, Category: s.category, DefaultText: s.def, Usage: s.usage}
		if s.isList {
			flags = append(flags, &settingList{plain, s.joint()})
		} else {
			flags = append(flags, &settingFlag{plain})
		}
	}
	return flags
}

// sourcesOf looks settings up in a command's flags and in the environment.
func sourcesOf(c *cli.Context, env func(string) (string, bool)) sources {
	return sources{
		flag: func(name string) (string, bool) { return c.String(name), c.IsSet(name) },
		env:  env,
	}
}

// noArguments refuses words after the flags: a forgotten dash must not be
// taken for an order to run with defaults.
func noArguments(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if c.Args().Present() {
			return usageErrorf("%s takes no arguments, and %q is one; see %s %s --help",
				c.Command.FullName(), c.Args().First(), c.App.Name, c.Command.FullName())
		}
		return action(c)
	}
}

// usageOf makes the flag parser's complaint ours, with the way out.
func usageOf(c *cli.Context, err error, _ bool) error {
	msg := strings.TrimPrefix(err.Error(), "flag provided but not defined: ")
	if msg == err.Error() {
		return usageErrorf("%s; see %s --help", msg, fullName(c))
	}
	return unknownFlag(c, strings.TrimLeft(msg, "-"))
}

func unknownFlag(c *cli.Context, name string) error {
	command := ""
	if c.Command != nil && c.Command.Name == proxyCommand {
		command = proxyCommand
	}
	if why := elsewhere(command, name); why != "" && (command != "" || c.Command != nil && c.Command.Name == "up") {
		return usageErrorf("there is no flag --%s here: %s", name, why)
	}
	if near := nearest(name, flagNames(c.Command.Flags)); near != "" {
		return usageErrorf("there is no flag --%s; did you mean --%s?", name, near)
	}
	return usageErrorf("there is no flag --%s; see %s --help", name, fullName(c))
}

func fullName(c *cli.Context) string {
	if c.Command == nil || c.Command.FullName() == "" || c.Command.FullName() == c.App.Name {
		return c.App.Name
	}
	return fmt.Sprintf("%s %s", c.App.Name, c.Command.FullName())
}

func flagNames(flags []cli.Flag) []string {
	names := make([]string, 0, len(flags))
	for _, f := range flags {
		names = append(names, f.Names()[0])
	}
	return names
}
