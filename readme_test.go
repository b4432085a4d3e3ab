package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var updateReadme = flag.Bool("update-readme", false, "write the settings' table into README.md")

const (
	readmeBegin = "<!-- settings: kept true by readme_test.go -->\n"
	readmeEnd   = "\n## The proxy alone"

	readmeProxyBegin = "<!-- settings of proxy: kept true by readme_test.go -->\n"
	readmeProxyEnd   = "\n<!-- end of settings of proxy -->"
)

// The README's tables of settings are what the code has.
func TestReadmeSettings(t *testing.T) {
	checkReadmeTable(t, readmeBegin, readmeEnd, settingsTable())
	checkReadmeTable(t, readmeProxyBegin, readmeProxyEnd, tableOf(proxyOwnSettings()))
}

func checkReadmeTable(t *testing.T, begin, end, want string) {
	t.Helper()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	if !ok {
		t.Fatal("the mark before the table is gone")
	}
	got, after, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatal("the heading after the table is gone")
	}
	if *updateReadme {
		if err := os.WriteFile("README.md", []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("README.md differs from the settings; run: go test . -run TestReadmeSettings -update-readme\nhas:\n%s\nwant:\n%s", got, want)
	}
}

func settingsTable() string {
	return tableOf(append(settings("/var/lib/srs-proxy"), setting{
		name: configFileFlag, env: configFileEnv, usage: "read settings from the YAML `FILE`; its keys are the flags' names",
	}))
}

func tableOf(all []setting) string {
	var b strings.Builder
	b.WriteString("| flag | variable | default | what it does |\n|---|---|---|---|\n")
	row := func(name, env, def, usage string) {
		if def != "" {
			def = "`" + def + "`"
		}
		value := ""
		if parts := strings.Split(usage, "`"); len(parts) == 3 {
			value = " " + strings.ReplaceAll(parts[1], "|", `\|`)
		}
		fmt.Fprintf(&b, "| `--%s%s` | `%s` | %s | %s |\n", name, value, env, def,
			strings.ReplaceAll(strings.ReplaceAll(usage, "`", ""), "|", ", "))
	}
	for _, s := range all {
		row(s.name, s.env, s.def, s.usage)
	}
	return b.String()
}
