package srsconf

import (
	"fmt"
	"regexp"
	"strings"
)

// Word writes s as one word of a config: bare where it can be, else in quotes.
// The syntax has no escapes, so a few strings cannot be written at all: those
// with control characters, empty ones (SRS drops the word), and those that
// need quotes and hold both kinds.
func Word(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("an empty value cannot be written")
	}
	for i := range len(s) {
		if control(s[i]) {
			return "", fmt.Errorf("%q has a control character, which the config syntax cannot hold", redact(s))
		}
	}
	switch {
	case !strings.ContainsAny(s, " \t;{") && !strings.ContainsRune("}#\"'", rune(s[0])):
		return s, nil
	case !strings.Contains(s, `"`):
		return `"` + s + `"`, nil
	case !strings.Contains(s, "'"):
		return "'" + s + "'", nil
	}
	return "", fmt.Errorf("%q needs quotes and has both kinds, which the config syntax cannot hold", redact(s))
}

// quoted is Word for words that Parse has read, which can all be written.
func quoted(s string) string {
	if w, err := Word(s); err == nil {
		return w
	}
	return `"` + s + `"`
}

var urlRest = regexp.MustCompile(`://[^\s"';]+`)

// redact takes the rest of URLs, where tokens and passwords are, out of a text
// that may end up in a log.
func redact(s string) string { return urlRest.ReplaceAllString(s, "://...") }
