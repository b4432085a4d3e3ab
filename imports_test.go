package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// listedPackage is what the checker needs of `go list -json`; Imports are those
// of the product code, without tests.
type listedPackage struct {
	ImportPath string
	Imports    []string
}

const module = "srs-proxy"

// allowedImports says which of our folders a folder may import besides its own.
// A folder that is not here is an error: its place has to be decided.
func allowedImports() map[string][]string {
	return map[string][]string{
		"":           {"supervisor", "proxy", "origin", "console", "bench", "balancer", "protocol", "runtime", "srsconf"},
		"supervisor": {"runtime", "srsconf", "balancer"},
		"proxy":      {"balancer", "protocol"},
		"origin":     {"protocol"},
		"bench":      {"protocol"},
		"test":       {"protocol"},
		"balancer":   {},
		"protocol":   {},
		"runtime":    {},
		"srsconf":    {},
		"console":    {},
		"testkit":    {}, // and nobody may import it but tests
	}
}

// violations lists the imports that break the directions, in order.
func violations(pkgs []listedPackage) []string {
	var found []string
	allowed := allowedImports()
	for _, p := range pkgs {
		from := folder(p.ImportPath)
		may, known := allowed[from]
		if !known {
			found = append(found, fmt.Sprintf("%s: folder %s has no rule in allowedImports", p.ImportPath, from))
		}
		for _, imp := range p.Imports {
			if why := forbidden(from, may, imp); why != "" {
				found = append(found, fmt.Sprintf("%s imports %s: %s", p.ImportPath, imp, why))
			}
		}
	}
	return found
}

func forbidden(from string, may []string, imp string) string {
	switch {
	case ours(imp):
		if to := folder(imp); to != from && !slices.Contains(may, to) {
			return fmt.Sprintf("%s may import only %q of ours", orMain(from), may)
		}
	case imp == "runtime" && from != "runtime":
		return "only runtime/ imports Go's runtime"
	case from == "protocol" && socketOrLog(imp):
		return "protocol/ knows no sockets, no logger and no context"
	}
	return ""
}

// socketOrLog names what pure protocol code does without. Addresses and URLs
// are plain values.
func socketOrLog(imp string) bool {
	switch imp {
	case "net/netip", "net/url":
		return false
	case "net", "log", "log/slog", "context", "os":
		return true
	}
	return strings.HasPrefix(imp, "net/") || strings.HasPrefix(imp, "golang.org/x/net") || strings.HasPrefix(imp, "golang.org/x/sys")
}

func ours(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// folder is the first folder of one of our packages, "" for main.
func folder(path string) string {
	rest := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func orMain(folder string) string {
	if folder == "" {
		return "main"
	}
	return folder
}

func TestImportDirections(t *testing.T) {
	pkgs := listPackages(t)
	if len(pkgs) < 5 {
		t.Fatalf("go list names %d packages; the checker looks at the wrong place", len(pkgs))
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var pkgs []listedPackage
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listedPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestImportCheckerSeesViolations(t *testing.T) {
	tests := []struct {
		from, to string
		wrong    bool
	}{
		{"srs-proxy", "srs-proxy/supervisor", false},
		{"srs-proxy", "srs-proxy/proxy", false},
		{"srs-proxy", "runtime", true},
		{"srs-proxy/supervisor", "srs-proxy/balancer", false},
		{"srs-proxy/supervisor", "srs-proxy/proxy", true},
		{"srs-proxy/supervisor", "srs-proxy/origin", true},
		{"srs-proxy/supervisor", "srs-proxy", true},
		{"srs-proxy/proxy", "srs-proxy/proxy/rtmp", false},
		{"srs-proxy/proxy/rtmp", "srs-proxy/protocol/rtmp", false},
		{"srs-proxy/proxy/rtmp", "srs-proxy/supervisor", true},
		{"srs-proxy/proxy/rtmp", "srs-proxy/runtime", true},
		{"srs-proxy/origin", "srs-proxy/protocol/amf0", false},
		{"srs-proxy/origin", "srs-proxy/srsconf", true},
		{"srs-proxy/balancer", "srs-proxy/protocol/amf0", true},
		{"srs-proxy/srsconf", "srs-proxy/runtime", true},
		{"srs-proxy/console", "srs-proxy/balancer", true},
		{"srs-proxy/runtime", "runtime", false},
		{"srs-proxy/supervisor", "runtime", true},
		{"srs-proxy/supervisor", "runtime/debug", false},
		{"srs-proxy/protocol/rtmp", "srs-proxy/protocol/amf0", false},
		{"srs-proxy/protocol/rtmp", "net", true},
		{"srs-proxy/protocol/rtmp", "net/http", true},
		{"srs-proxy/protocol/rtmp", "net/netip", false},
		{"srs-proxy/protocol/rtmp", "net/url", false},
		{"srs-proxy/protocol/rtmp", "log/slog", true},
		{"srs-proxy/protocol/rtmp", "context", true},
		{"srs-proxy/proxy", "net", false},
		{"srs-proxy", "srs-proxy/testkit", true},
		{"srs-proxy/proxy/rtmp", "srs-proxy/testkit", true},
		{"srs-proxy/elsewhere", "fmt", true},
	}
	for _, tt := range tests {
		t.Run(tt.from+"->"+tt.to, func(t *testing.T) {
			got := violations([]listedPackage{{ImportPath: tt.from, Imports: []string{tt.to}}})
			if (len(got) > 0) != tt.wrong {
				t.Errorf("violations = %q, want any: %v", got, tt.wrong)
			}
		})
	}
}
