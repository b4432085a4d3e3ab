package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestBadStateFile: whatever stands in the state file, the origins start, and
// nobody is signalled on its word.
func TestBadStateFile(t *testing.T) {
	t.Parallel()
	stranger := exec.Command("sleep", "300")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	})
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	forged := fmt.Sprintf(`{"format":1,"boot_id":%q,"pid":%d,"command":["srs"],"origins":[{"slot":0,"id":"origin-0","pid":%d,"start_ticks":1,"ports":{"RTMP":1,"HTTP":2,"API":3,"RTC":4,"SRT":5,"Exporter":6},"pid_file":"/x","config_hash":"0","restarts":0}]}`,
		strings.TrimSpace(string(boot)), stranger.Process.Pid, stranger.Process.Pid)
	random := make([]byte, 10_000)
	for i := range random {
		random[i] = byte(rand.IntN(256))
	}
	for name, content := range map[string]string{
		"empty":          "",
		"random":         string(random),
		"truncated":      forged[:len(forged)/2],
		"other format":   `{"format":99}`,
		"a stranger":     forged,
		"ourselves":      strings.ReplaceAll(forged, strconv.Itoa(stranger.Process.Pid), "1"),
		"negative pid":   strings.ReplaceAll(forged, strconv.Itoa(stranger.Process.Pid), "-1"),
		"a deep nesting": strings.Repeat("[", 1_000_000),
	} {
		t.Run(name, func(t *testing.T) {
			in := newInstance(t, 1)
			if err := os.MkdirAll(in.stateDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(in.stateDir, "state.json"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			in.start()
			in.waitReady(readyWithin)
			if name != "a stranger" && !strings.Contains(in.err.String(), "state file is unusable") {
				t.Errorf("no word of the state file in the log")
			}
			in.stop()
		})
	}
	if st, ok := procStat(stranger.Process.Pid); !ok || st.state == "Z" {
		t.Error("the stranger whom the state file named is dead")
	}
}
