package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Between these lines of a document is what publish writes.
const (
	docBegin = "<!-- bench: written by make bench-docs -->\n"
	docEnd   = "<!-- /bench -->\n"
)

// errDocs says that there is nothing to write, or no place for it.
var errDocs = errors.New("docs")

// published is what was measured in front of one kind of origin.
type published struct {
	name, title string // of the plot's file, and in the text
	results     *results
}

// publish puts the tables and plots of results.json files into the documents under root:
// docs/BENCH.md has all, README.md what each case is about. Of several files of one
// origin the later one's cases replace those of the earlier one.
func publish(root string, files []string) error {
	all, err := readResults(files)
	if err != nil {
		return err
	}
	var whole, brief strings.Builder
	for i, p := range all {
		if err := os.WriteFile(filepath.Join(root, "docs", p.plot()), []byte(p.results.plot()), 0o644); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(&whole, "### %s\n\n%s\n%s\n![CPU of each case](%s)\n\n", p.title, p.results.head(), p.results.barTable(false), p.plot())
		if i == 0 { // SRS, if there is any
			_, _ = fmt.Fprintf(&brief, "%s\n%s\n", p.results.head(), p.results.barTable(true))
		}
	}
	return errors.Join(
		replaceBetween(filepath.Join(root, "docs", "BENCH.md"), whole.String()),
		replaceBetween(filepath.Join(root, "README.md"), brief.String()),
	)
}

func (p published) plot() string { return "bench-" + p.name + ".svg" }

// readResults reads and merges, SRS first.
func readResults(files []string) ([]published, error) {
	srs := published{name: "srs", title: "In front of SRS"}
	builtin := published{name: "builtin", title: "In front of the built-in origin"}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		r := new(results)
		if err := json.Unmarshal(b, r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if r.Scale != 1 {
			return nil, fmt.Errorf("%w: %s is of scaled cases", errDocs, file)
		}
		to := &builtin
		if strings.HasPrefix(r.Origin, "SRS") {
			to = &srs
		}
		to.results = merge(to.results, r)
	}
	var all []published
	for _, p := range []published{srs, builtin} {
		if p.results != nil {
			p.results.summarize()
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no results.json: run make bench first", errDocs)
	}
	return all, nil
}

// merge is a with the cases of b in place of its own.
func merge(a, b *results) *results {
	if a == nil {
		return b
	}
	measured := map[string]bool{}
	for _, l := range b.Legs {
		measured[l.Case] = true
	}
	for _, l := range a.Legs {
		if !measured[l.Case] {
			b.Legs = append(b.Legs, l)
		}
	}
	b.Rounds = min(a.Rounds, b.Rounds)
	return b
}

// replaceBetween writes text between the marks of a file.
func replaceBetween(file, text string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(b, []byte(docBegin))
	_, after, also := bytes.Cut(rest, []byte(docEnd))
	if !ok || !also {
		return fmt.Errorf("%w: %s lacks the lines %q and %q", errDocs, file, strings.TrimSpace(docBegin), strings.TrimSpace(docEnd))
	}
	return os.WriteFile(file, []byte(string(before)+docBegin+text+docEnd+string(after)), 0o644)
}
