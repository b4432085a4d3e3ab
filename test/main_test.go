package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// suite is what all tests share, made once by TestMain and not changed after.
var suite struct {
	srs    string // SRS_BINARY, or ""
	full   bool
	race   bool
	faults bool   // SRS_PROXY_FAULTS=1
	dir    string // of what is below
	inside string // dir of the process that started this one to be in a network of its own
	binary string // srs-proxy, as built from this tree
	clip   *clip
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "srs-proxy-e2e-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // a test runs the program as another user
	}
	if err == nil {
		err = prepare(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func prepare(dir string) error {
	suite.inside = os.Getenv(insideEnv)
	suite.srs = os.Getenv("SRS_BINARY")
	suite.full = os.Getenv("SRS_PROXY_E2E_FULL") == "1"
	suite.faults = os.Getenv("SRS_PROXY_FAULTS") == "1"
	suite.race = os.Getenv("SRS_PROXY_E2E_RACE") == "1"
	// Whatever an instance leaves behind becomes our child, where it is seen.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	if suite.inside != "" {
		return takeOver(suite.inside)
	}
	build := []string{"build", "-o", filepath.Join(dir, programFile)}
	if suite.race {
		build = append(build, "-race")
	}
	if err := command("go", append(build, "..")...); err != nil {
		return err
	}
	if err := makeClip(filepath.Join(dir, clipFile)); err != nil {
		return err
	}
	return takeOver(dir)
}

const programFile, clipFile = "srs-proxy", "clip.flv"

// takeOver uses what was prepared in a folder.
func takeOver(dir string) (err error) {
	suite.dir, suite.binary = dir, filepath.Join(dir, programFile)
	suite.clip, err = readClip(filepath.Join(dir, clipFile))
	return err
}

// makeClip encodes four seconds, small and cheap to move: what is tested is the
// way, not the picture.
func makeClip(path string, more ...string) error {
	args := []string{
		"-hide_banner", "-loglevel", "error", "-y",
		"-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15",
		"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=22050",
		"-t", "4", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "15", "-pix_fmt", "yuv420p", "-b:v", "150k",
		"-c:a", "aac", "-b:a", "32k", "-ac", "1",
	}
	return command("ffmpeg", append(append(args, more...), "-f", "flv", path)...)
}

func command(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// needSRS skips what only SRS has.
func needSRS(t *testing.T, why string) {
	t.Helper()
	if suite.srs == "" {
		t.Skipf("%s: give SRS_BINARY=/path/to/srs", why)
	}
}

func needTool(t *testing.T, name, of string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed (%s)", name, of)
	}
}

// eventually polls until the condition holds; what it saw last is in the failure.
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
		time.Sleep(10 * time.Millisecond)
	}
}
