package testkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Start runs a program in dir until the test ends; what it said is shown if the test
// fails. One that is not installed skips the test.
func Start(t testing.TB, dir, program string, args ...string) *exec.Cmd {
	t.Helper()
	NeedTools(t, program)
	out := &Log{}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = stopMost
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its children, if it is still there
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s %s said:\n%s", program, strings.Join(args, " "), out)
		}
	})
	return cmd
}

// NeedTools skips the test if one of them is not installed.
func NeedTools(t testing.TB, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

// SRSBinary is the SRS to test with, which the variable SRS_BINARY names; without it the
// test is skipped.
func SRSBinary(t testing.TB) string {
	t.Helper()
	binary := os.Getenv("SRS_BINARY")
	if binary == "" {
		t.Skip("SRS_BINARY is not set: no SRS to test with")
	}
	return binary
}

// srsConf is what all configs have: SRS stays in the foreground, with all its files in
// its folder, and reports to nobody.
const srsConf = `daemon off; srs_log_tank file; srs_log_file DIR/srs.log; pid DIR/srs.pid; work_dir DIR;
heartbeat { enabled off; } stats { network 0; }
`

// SRS runs SRS until the test ends, with a config to which the common part is added. DIR
// in it is the folder that SRS has to itself, which is returned; srs.log there is its
// log. That it listens is for the caller to see.
func SRS(t testing.TB, conf string) (dir string) {
	t.Helper()
	binary := SRSBinary(t)
	dir = t.TempDir()
	path := filepath.Join(dir, "srs.conf")
	text := strings.ReplaceAll(srsConf+conf, "DIR", dir)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log := SRSLog(dir)
			t.Logf("the end of SRS's log:\n%s", log[max(0, len(log)-8000):])
		}
	})
	Start(t, dir, binary, "-c", path)
	return dir
}

// SRSLog is what the SRS of a folder has logged, "" before it does.
func SRSLog(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "srs.log"))
	return string(b)
}
