package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// withWords gives an action the words of its command line that are no flags. The
// flag package stops at the first of them; people write flags behind it too
// (drain 3 -o json), so those are taken here. Behind "--" all are words.
func withWords(action func(c *cli.Context, words []string) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		var words []string
		for args := c.Args().Slice(); len(args) > 0; {
			word := args[0]
			args = args[1:]
			if word == "--" {
				words = append(words, args...)
				break
			}
			if len(word) < 2 || word[0] != '-' {
				words = append(words, word)
				continue
			}
			if word == "-h" || word == "--help" {
				return cli.ShowCommandHelp(c, c.Command.Name)
			}
			var err error
			if args, err = setLateFlag(c, word, args); err != nil {
				return err
			}
		}
		return action(c, words)
	}
}

// setLateFlag sets a flag that stands behind a word, and returns what follows it.
func setLateFlag(c *cli.Context, word string, rest []string) ([]string, error) {
	name, value, given := strings.Cut(strings.TrimLeft(word, "-"), "=")
	i := slices.IndexFunc(c.Command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return nil, unknownFlag(c, name)
	}
	flag := c.Command.Flags[i]
	if !given {
		if _, isBool := flag.(*cli.BoolFlag); isBool {
			value = "true"
		} else if len(rest) == 0 {
			return nil, usageErrorf("flag needs an argument: %s; see %s --help", word, fullName(c))
		} else {
			value, rest = rest[0], rest[1:]
		}
	}
	if err := c.Set(flag.Names()[0], value); err != nil {
		return nil, usageErrorf("flag --%s: %q cannot be used: %w", flag.Names()[0], value, err)
	}
	return rest, nil
}

// originID reads how people name an origin: 3 is origin-3, and 3.1 is origin-3.1.
// Anything else stays as it is; whether it exists is for others to say.
func originID(word string) string {
	number, gen, dotted := strings.Cut(word, ".")
	if !isNumber(number) || dotted && !isNumber(gen) {
		return word
	}
	return "origin-" + word
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// originIDs reads the origins that a command is about: those named, or all by
// --all, for which the list is empty. One of the two has to be said: an order to
// all of them is not what a forgotten argument should mean.
func originIDs(c *cli.Context, words []string) ([]string, error) {
	switch {
	case c.Bool("all") && len(words) > 0:
		return nil, usageErrorf("%s: give origins or --all, not both", c.Command.FullName())
	case !c.Bool("all") && len(words) == 0:
		return nil, usageErrorf("%s needs an origin, such as %s 3, or --all", c.Command.FullName(), c.Command.FullName())
	}
	var ids []string
	for _, w := range words {
		ids = append(ids, originID(w))
	}
	return ids, nil
}

// outputFlag is -o of a command with a few forms, the first of which is the default.
func outputFlag(forms ...string) cli.Flag {
	return &cli.StringFlag{
		Name: "output", Aliases: []string{"o"}, Value: forms[0], DefaultText: forms[0],
		Usage: "`FORM`: " + orList(forms),
	}
}

func outputForm(c *cli.Context, forms ...string) (string, error) {
	form := c.String("output")
	if !slices.Contains(forms, form) {
		return "", usageErrorf("flag --output: %q is unknown; give %s", form, orList(forms))
	}
	return form, nil
}
