package srsconf

import (
	"os"
	"strconv"
	"syscall"
	"testing"
)

// builtinText is the template of the release.
func builtinText(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../srs.tmpl.conf")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func builtin(t testing.TB) *Template {
	t.Helper()
	tmpl, err := ParseTemplate("srs.tmpl.conf", builtinText(t))
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

// srs is the path of a real SRS and its version; the test is skipped without one.
func srs(t *testing.T) (string, Version) {
	t.Helper()
	binary := os.Getenv("SRS_BINARY")
	if binary == "" {
		t.Skip("SRS_BINARY is not set: no real SRS to try the config with")
	}
	v, err := DetectVersion(t.Context(), binary)
	if err != nil {
		t.Fatal(err)
	}
	raiseFileLimit(t)
	return binary, v
}

// raiseFileLimit is for SRS, which wants max_connections + 128 files; children
// inherit what was set explicitly.
func raiseFileLimit(t *testing.T) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// params of a slot, all that must be given.
func params(slot int, v Version) Params {
	return Params{Slot: slot, Version: v, Ports: PortPlan{}.Ports(slot), WorkDir: "/var/lib/srs-proxy/origin-" + itoa(slot)}
}

func itoa(n int) string { return strconv.Itoa(n) }
