package srsconf

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	t.Run("arguments", func(t *testing.T) {
		binary := script(t, `test "$*" = "origin -t -c /x/y.conf" || { echo "got $*"; exit 1; }`)
		if err := Check(t.Context(), []string{binary, "origin"}, "/x/y.conf"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the caller's slice is not written to", func(t *testing.T) {
		command := append(make([]string, 0, 8), script(t, "exit 0"))
		if err := Check(t.Context(), command, "x"); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(command[:cap(command)], "-t") {
			t.Error("Check wrote into the caller's array")
		}
	})
	t.Run("refused", func(t *testing.T) {
		binary := script(t, `printf '[2026-01-01 00:00:00.000][INFO][1][abc] first\n\033[31m[2026-01-01][ERROR][1][abc][22] illegal directive\033[0m\n\n' >&2
i=0; while test $i -lt 5; do echo "line $i"; i=$((i+1)); done; exit 255`)
		err := Check(t.Context(), []string{binary}, "/x/y.conf")
		if !errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
		if got := err.Error(); !strings.HasSuffix(got, "-t -c /x/y.conf: line 1; line 2; line 3; line 4") {
			t.Error(got)
		}
	})
	t.Run("log prefix and colour", func(t *testing.T) {
		got := lastLines("[2026-01-01 00:00:00.000][INFO][1][abc] first\n\x1b[31m[2026-01-01][ERROR][1][abc][22] illegal directive\x1b[0m\n\n")
		if got != "first; illegal directive" {
			t.Errorf("%q", got)
		}
	})
	t.Run("refused in silence", func(t *testing.T) {
		err := Check(t.Context(), []string{script(t, "exit 1")}, "x")
		if !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), "it printed nothing") {
			t.Fatal(err)
		}
	})
	t.Run("the end of a lot of output", func(t *testing.T) {
		err := Check(t.Context(), []string{script(t, "yes filler | head -n 100000; echo the reason; exit 1")}, "x")
		if !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), "; the reason") || len(err.Error()) > 3000 {
			t.Fatal(err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		if err := Check(t.Context(), []string{"/nonexistent/srs"}, "x"); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
	})
	t.Run("no command", func(t *testing.T) {
		if err := Check(t.Context(), nil, "x"); err == nil {
			t.Fatal("accepted")
		}
	})
	t.Run("hangs", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := Check(ctx, []string{script(t, "exec sleep 60")}, "x")
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrRefused) {
			t.Fatal(err)
		}
	})
	t.Run("a grandchild holds the output", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		err := Check(ctx, []string{script(t, "sleep 4 & wait")}, "x")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited > 3*time.Second {
			t.Errorf("waited %s for a process that is nobody's", waited)
		}
	})
}

func TestChildrenDoNotSeeTheShellsSRSVariables(t *testing.T) {
	t.Setenv("SRS_LISTEN", "1935")
	t.Setenv("SRS_CONFIG_FILE", "/etc/other.conf")
	t.Setenv("SRS_DEVICE_IP", "192.0.2.1")
	binary := script(t, `env | grep -q -e ^SRS_LISTEN -e ^SRS_CONFIG_FILE && exit 1; env | grep -q ^SRS_DEVICE_IP= || exit 2; test -n "$PATH" || exit 3`)
	if err := Check(t.Context(), []string{binary}, "x"); err != nil {
		t.Fatal(err)
	}
	got := CleanEnv([]string{"A=1", "SRS_X=2", "XSRS_X=3", "SRS_DEVICE_IP=4", "SRS=5", "SRS_DEVICE_IPS=6"})
	if want := []string{"A=1", "XSRS_X=3", "SRS_DEVICE_IP=4", "SRS=5"}; !slices.Equal(got, want) {
		t.Error(got)
	}
}

func TestCheckRealSRS(t *testing.T) {
	binary, v := srs(t)
	p := params(0, v)
	p.WorkDir = t.TempDir()
	conf, err := builtin(t).Render(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.WorkDir, "srs.conf")
	if err := WriteFile(file, conf); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), []string{binary}, file); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(file, append(conf, "nonsense 1;\n"...)); err != nil {
		t.Fatal(err)
	}
	err = Check(t.Context(), []string{binary}, file)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "illegal directive nonsense") {
		t.Fatal(err)
	}
	t.Setenv("SRS_CONFIG_FILE", "/nonexistent")
	if err := WriteFile(file, conf); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), []string{binary}, file); err != nil {
		t.Errorf("the shell's SRS_CONFIG_FILE took over: %v", err)
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "srs.conf")
	for _, text := range []string{"first", "second, longer", ""} {
		if err := WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error("mode", info.Mode(), err)
	}
	// A failed write leaves neither a changed file nor a temporary one.
	full := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(full, []byte("x")); err == nil || !strings.Contains(err.Error(), full) {
		t.Error("a folder was replaced:", err)
	}
	if err := WriteFile(filepath.Join(dir, "none", "srs.conf"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
