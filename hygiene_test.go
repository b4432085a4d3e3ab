package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fixedPorts lists the calls of a test's source that listen on a fixed port: on
// a machine where somebody has that port, such a test fails for no reason.
func fixedPorts(name string, src any) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !strings.HasPrefix(calledName(call), "Listen") {
			return true
		}
		for _, arg := range call.Args {
			lit, ok := arg.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				continue
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				continue
			}
			if i := strings.LastIndexByte(text, ':'); i >= 0 {
				if port, err := strconv.Atoi(text[i+1:]); err == nil && port != 0 {
					found = append(found, fmt.Sprintf("%s: listens on fixed port %d; use port 0", fset.Position(lit.Pos()), port))
				}
			}
		}
		return true
	})
	return found, nil
}

func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func TestNoFixedPortsInTests(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		seen++
		found, err := fixedPorts(path, nil)
		if err != nil {
			return err
		}
		for _, f := range found {
			t.Error(f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no test file seen")
	}
}

func TestFixedPortCheckerSeesThem(t *testing.T) {
	tests := []struct {
		call  string
		wrong bool
	}{
		{`net.Listen("tcp", "127.0.0.1:0")`, false},
		{`net.Listen("tcp", ":0")`, false},
		{`net.Listen("tcp", addr)`, false},
		{`net.Listen("tcp", "127.0.0.1:1935")`, true},
		{`net.ListenPacket("udp", ":8000")`, true},
		{`http.ListenAndServe(":8080", nil)`, true},
		{`net.Dial("tcp", "127.0.0.1:1935")`, false},
	}
	for _, tt := range tests {
		t.Run(tt.call, func(t *testing.T) {
			got, err := fixedPorts("x_test.go", "package x\nfunc f() { "+tt.call+" }")
			if err != nil {
				t.Fatal(err)
			}
			if (len(got) > 0) != tt.wrong {
				t.Errorf("fixedPorts = %q, want any: %v", got, tt.wrong)
			}
		})
	}
}
