package faults

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bridging has SRS decode the audio of every publisher, for WebRTC, and end who sends
// what it cannot decode, as our frames are.
const bridging = "rtmp_to_rtc     on;"

// templateText is the product's template, without that.
func templateText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../srs.tmpl.conf")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), bridging) != 1 {
		t.Fatalf("the template has no single %q to change", bridging)
	}
	return strings.Replace(string(text), bridging, strings.Replace(bridging, "on;", "off;", 1), 1)
}

// withTemplate adds it to the flags, unless they name one.
func withTemplate(t *testing.T, flags []string) []string {
	t.Helper()
	if slices.Contains(flags, "--template") {
		return flags
	}
	path := filepath.Join(t.TempDir(), "template.conf")
	if err := os.WriteFile(path, []byte(templateText(t)), 0o644); err != nil {
		t.Fatal(err)
	}
	return append(flags, "--template", path)
}
