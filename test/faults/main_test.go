package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// suite is what all tests share, made once by TestMain and not changed after.
var suite struct {
	program string // srs-proxy
	srs     string // SRS_BINARY, or "builtin"
	asked   bool   // for the long run
	size    size
	rounds  int
}

// size is how much load there is.
type size struct{ origins, publishers, players, rate int }

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "srs-proxy-faults-")
	if err == nil {
		err = prepare(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
	} else {
		code = m.Run()
		fmt.Print(figures.markdown())
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func prepare(dir string) error {
	suite.asked = os.Getenv("SRS_PROXY_FAULTS") == "1"
	if suite.srs = os.Getenv("SRS_BINARY"); suite.srs == "" {
		suite.srs = "builtin"
	}
	for _, n := range []struct {
		name string
		at   *int
		def  int
	}{
		{"ROUNDS", &suite.rounds, 20},
		{"RATE", &suite.size.rate, 25},
		{"ORIGINS", &suite.size.origins, 32},
		{"PUBLISHERS", &suite.size.publishers, 64},
		{"PLAYERS", &suite.size.players, 200},
	} {
		*n.at = n.def
		if text := os.Getenv("SRS_PROXY_FAULTS_" + n.name); text != "" {
			v, err := strconv.Atoi(text)
			if err != nil || v < 1 {
				return fmt.Errorf("SRS_PROXY_FAULTS_%s=%q: a number is expected", n.name, text)
			}
			*n.at = v
		}
	}
	// What a killed supervisor leaves becomes our child: none escapes us.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	if suite.program = os.Getenv("SRS_PROXY_FAULTS_PROGRAM"); suite.program != "" {
		return nil
	}
	suite.program = filepath.Join(dir, "srs-proxy")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", suite.program, "../..").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// long skips what takes minutes, unless it was asked for.
func long(t *testing.T) {
	t.Helper()
	if !suite.asked {
		t.Skip("takes minutes and wants the machine for itself: give SRS_PROXY_FAULTS=1")
	}
}

// eventually polls until the condition holds, and returns how long that took; what
// it saw last is in the failure.
func eventually(t *testing.T, within time.Duration, what string, holds func() (bool, string)) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		ok, saw := holds()
		took := time.Since(start)
		if ok {
			return took
		}
		if took > within {
			t.Fatalf("not within %s: %s; saw %s", within, what, saw)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
