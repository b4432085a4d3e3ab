package srsconf

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseVersion(t *testing.T) {
	tests := []struct {
		name, out string
		want      Version
		fails     bool
	}{
		{"plain", "7.0.18", Version{7, 0, 18}, false},
		{"line end", "5.0.213\r\n", Version{5, 0, 213}, false},
		{"prefixed", "v6.0.157\n", Version{6, 0, 157}, false},
		{"its own line wins", "libsrt 1.5.3\nSRS/6.0.1\n7.0.18\n", Version{7, 0, 18}, false},
		{"signature", "XCORE-SRS/7.0.64(Kai)", Version{7, 0, 64}, false},
		{"signature before others", "OpenSSL 3.0.11, SRS v8.0.28, MIT", Version{8, 0, 28}, false},
		{"in text", "srs version 4.0.271 (release)", Version{4, 0, 271}, false},
		{"sanitizer's noise", "==1==WARNING: 0.0.0.0\n7.0.18\n", Version{7, 0, 18}, false},
		{"not an address", "listening on 127.0.0.1", Version{}, true},
		{"not two numbers", "7.0", Version{}, true},
		{"too long to be one", "99999.0.1", Version{}, true},
		{"empty", "", Version{}, true},
		{"usage", "usage: srs -c FILE", Version{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseVersion(tt.out)
			if tt.fails != errors.Is(err, ErrNoVersion) {
				t.Fatalf("error %v", err)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestVersionOrder(t *testing.T) {
	ordered := []Version{{5, 0, 213}, {6, 0, 0}, {6, 0, 157}, {7, 0, 18}, {7, 0, 100}, {7, 1, 0}, {8, 0, 0}}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := a.AtLeast(b); got != (i >= j) {
				t.Errorf("%s at least %s: %t", a, b, got)
			}
		}
	}
	if s := (Version{7, 0, 18}).String(); s != "7.0.18" {
		t.Error(s)
	}
}

func TestVersionSince(t *testing.T) {
	lines := []Version{{7, 0, 15}, {5, 0, 215}, {6, 0, 156}}
	tests := []struct {
		v    Version
		want bool
	}{
		{Version{4, 0, 999}, false},
		{Version{5, 0, 214}, false},
		{Version{5, 0, 215}, true},
		{Version{6, 0, 155}, false},
		{Version{6, 0, 157}, true},
		{Version{7, 0, 14}, false},
		{Version{7, 0, 18}, true},
		{Version{8, 0, 0}, true},
		{Version{}, true}, // the newest
	}
	for _, tt := range tests {
		if got := tt.v.Since(lines...); got != tt.want {
			t.Errorf("%s: %t", tt.v, got)
		}
	}
	if (Version{6, 0, 999}).Since(Version{5, 0, 215}, Version{7, 0, 15}) != true {
		t.Error("a line between two others has what the older has")
	}
	if (Version{7, 0, 18}).Since() {
		t.Error("since nothing")
	}
}

// script writes an executable that stands for some srs.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "srs")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDetectVersion(t *testing.T) {
	t.Run("stderr and a status", func(t *testing.T) {
		v, err := DetectVersion(t.Context(), script(t, `test "$1" = -v && echo 3.0.184 >&2; exit 255`))
		if err != nil || v != (Version{3, 0, 184}) {
			t.Fatal(v, err)
		}
	})
	t.Run("missing binary", func(t *testing.T) {
		_, err := DetectVersion(t.Context(), "/nonexistent/srs")
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/nonexistent/srs") {
			t.Fatal(err)
		}
	})
	t.Run("no srs", func(t *testing.T) {
		binary := script(t, "echo hello")
		_, err := DetectVersion(t.Context(), binary)
		if !errors.Is(err, ErrNoVersion) || !strings.Contains(err.Error(), binary) || !strings.Contains(err.Error(), "hello") {
			t.Fatal(err)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := DetectVersion(ctx, script(t, "exec sleep 60"))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
	t.Run("prints for ever", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := DetectVersion(ctx, script(t, "exec yes 1.2.x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
	t.Run("real", func(t *testing.T) {
		if _, v := srs(t); v.Major < 3 {
			t.Error(v)
		}
	})
}
