package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fileValue is one value of the configuration file and where it stands.
type fileValue struct {
	text string
	file string
	line int
}

// readConfigFile reads a YAML mapping from setting names to scalars, or to lists of
// them where the setting is a list. It is strict: a key that is no setting, or is there twice, is an error, because a
// misspelt key that is silently skipped is found only when it was needed. It
// walks the nodes instead of decoding into a struct to know each value's line.
func readConfigFile(path string, all []setting) (map[string]fileValue, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usageErrorf("%s: %w", path, withoutPath(err))
	}
	return parseConfigFile(path, text, all)
}

func parseConfigFile(path string, text []byte, all []setting) (map[string]fileValue, error) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return map[string]fileValue{}, nil // nothing but comments
		}
		return nil, usageErrorf("%s: not YAML: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, usageErrorf("%s: has a second YAML document; give one", path)
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, usageErrorf("%s:%d: is not a list of settings; write lines such as \"origins: 8\"", path, root.Line)
	}

	values := make(map[string]fileValue, len(root.Content)/2)
	for pair := range slices.Chunk(root.Content, 2) {
		key, val := pair[0], pair[1]
		if err := checkKey(key.Value, all); err != nil {
			return nil, usageErrorf("%s:%d: %w", path, key.Line, err)
		}
		if prev, ok := values[key.Value]; ok {
			return nil, usageErrorf("%s:%d: %s is set on line %d already; keep one", path, key.Line, key.Value, prev.line)
		}
		if val.Kind == yaml.AliasNode {
			val = val.Alias
		}
		s := settingNamed(key.Value, all)
		items := []*yaml.Node{val}
		if s.isList && val.Kind == yaml.SequenceNode {
			items = val.Content
		}
		words := make([]string, 0, len(items))
		for _, item := range items {
			if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
				return nil, usageErrorf("%s:%d: %s has no single value; write \"%s: VALUE\" (%s)",
					path, key.Line, key.Value, key.Value, strings.ReplaceAll(s.usage, "`", ""))
			}
			words = append(words, item.Value)
		}
		values[key.Value] = fileValue{text: strings.Join(words, s.joint()), file: path, line: val.Line}
	}
	return values, nil
}

func checkKey(key string, all []setting) error {
	if settingNamed(key, all) != nil {
		return nil
	}
	names := make([]string, 0, len(all))
	for _, s := range all {
		names = append(names, s.name)
	}
	if near := nearest(key, names); near != "" {
		return fmt.Errorf("%q is not a setting; did you mean %s?", key, near)
	}
	return fmt.Errorf("%q is not a setting; the settings are %s", key, strings.Join(names, ", "))
}

func settingNamed(name string, all []setting) *setting {
	i := slices.IndexFunc(all, func(s setting) bool { return s.name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}

// nearest is the name that a misspelt word was probably meant to be, or "". A
// third of the letters may be wrong.
func nearest(word string, names []string) string {
	best, bestDistance := "", 1+max(1, len(word)/3)
	for _, n := range names {
		if d := editDistance(strings.ToLower(strings.ReplaceAll(word, "_", "-")), n); d < bestDistance {
			best, bestDistance = n, d
		}
	}
	return best
}

// editDistance is Levenshtein's, by rows.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
