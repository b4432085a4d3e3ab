package runtime

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// helperEnv names the function of helpers that the test binary runs instead of
// the tests: what changes a whole process is tried in a process of its own.
const helperEnv = "SRS_PROXY_RUNTIME_TEST_HELPER"

func TestMain(m *testing.M) {
	name := os.Getenv(helperEnv)
	if name == "" {
		os.Exit(runWithCgroups(m))
	}
	helper, known := map[string]func() error{
		"pin-self":       helperPinSelf,
		"raise-nofile":   helperRaiseNofile,
		"full-table":     helperFullTable,
		"main-thread":    helperMainThread,
		"subreaper":      helperSubreaper,
		"original-limit": helperOriginalLimit,
		"eat-memory":     helperEatMemory,
		"supervise":      helperSupervise,
		"unprivileged":   helperUnprivileged,
	}[name]
	if !known {
		fmt.Fprintf(os.Stderr, "no helper %q\n", name)
		os.Exit(2)
	}
	if err := helper(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// helperCmd is the test binary as the named helper; its stderr ends up in the
// buffer.
func helperCmd(t *testing.T, name string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), helperEnv+"="+name)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func runHelper(t *testing.T, name string) {
	t.Helper()
	cmd, stderr := helperCmd(t, name)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
}
