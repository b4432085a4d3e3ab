package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// parsed runs a command with a few flags and returns what its action got.
func parsed(t *testing.T, args ...string) (words []string, output string, all bool, help string, err error) {
	t.Helper()
	var out bytes.Buffer
	app := &cli.App{Name: "x", Writer: &out, ErrWriter: &out, ExitErrHandler: func(*cli.Context, error) {}, Commands: []*cli.Command{{
		Name: "do", HideHelpCommand: true,
		Flags: []cli.Flag{outputFlag(outputText, outputJSON), allFlag("all"), &cli.StringFlag{Name: "lines", Aliases: []string{"n"}}},
		Action: withWords(func(c *cli.Context, w []string) error {
			words, output, all = w, c.String("output"), c.Bool("all")
			return nil
		}),
	}}}
	err = app.Run(append([]string{"x", "do"}, args...))
	return words, output, all, out.String(), err
}

// Flags may stand behind words, as people write them.
func TestFlagsBehindWords(t *testing.T) {
	tests := []struct {
		args   string
		words  string
		output string
		all    bool
		err    string
	}{
		{"", "", "text", false, ""},
		{"a b", "a b", "text", false, ""},
		{"-o json a", "a", "json", false, ""},
		{"a -o json", "a", "json", false, ""},
		{"a --output=json b --all", "a b", "json", true, ""},
		{"a -a=false", "a", "text", false, ""},
		{"a -- -o json", "a -o json", "text", false, ""},
		{"a -", "a -", "text", false, ""},
		{"a -o", "", "", false, "needs an argument: -o"},
		{"a --outptu json", "", "", false, "did you mean --output?"},
		{"a --all=perhaps", "", "", false, "--all"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			words, output, all, _, err := parsed(t, strings.Fields(tt.args)...)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || exitCode(err) != exitUsage {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || strings.Join(words, " ") != tt.words || output != tt.output || all != tt.all {
				t.Errorf("words %q, output %q, all %v, %v", words, output, all, err)
			}
		})
	}
	if words, _, _, help, err := parsed(t, "a", "--help"); err != nil || words != nil || !strings.Contains(help, "x do") {
		t.Errorf("help behind a word: %q, %v, %q", words, err, help)
	}
}

func TestOriginID(t *testing.T) {
	for word, want := range map[string]string{
		"3": "origin-3", "12": "origin-12", "origin-3": "origin-3", "3.1": "origin-3.1", "origin-3.1": "origin-3.1",
		"": "", "x": "x", "3.": "3.", ".1": ".1", "-1": "-1", "3.x": "3.x", "99999999": "99999999",
	} {
		if got := originID(word); got != want {
			t.Errorf("originID(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestUnknownOrigin(t *testing.T) {
	few, many := []string{"origin-0", "origin-1"}, []string{"origin-0", "origin-1", "origin-2", "origin-3", "origin-4"}
	tests := []struct {
		id    string
		names []string
		want  string
	}{
		{"origin-7", few, "there is no origin-7; there are origin-0, origin-1"},
		{"origin-7", many, "there is no origin-7; there are origin-0 to origin-4"},
		{"orign-1", many, "there is no origin orign-1; did you mean origin-1?"},
		{"all", many, "there is no all; there are origin-0 to origin-4"},
		{"origin-7", nil, "there is no origin-7, and no other origin"},
		{"\x1b[2J", few, "there is no ?[2J; there are origin-0, origin-1"},
	}
	for _, tt := range tests {
		if got := unknownOrigin(tt.id, tt.names).Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
