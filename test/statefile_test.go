package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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

// TestLeftovers: the supervisor is killed outright, its origins live on; the next
// start names them and how to end them, with the state file and without.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	pids := []int{}
	for _, o := range in.status().Origins {
		pids = append(pids, o.PID)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			for _, pid := range pids {
				endProcess(pid)
			}
		}
	}
	t.Cleanup(end)
	in.signal(syscall.SIGKILL)
	in.waitEnd(5 * time.Second)
	for _, pid := range pids {
		if _, ok := procStat(pid); !ok {
			t.Fatalf("origin pid %d died with the supervisor", pid)
		}
	}

	for _, tt := range []struct {
		name   string
		before func()
	}{
		{"with the state file", func() {}},
		{"without", func() { os.Remove(filepath.Join(in.stateDir, "state.json")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.before()
			r := run(t, exec.Command(suite.binary, in.args...))
			if r.code != 1 || !strings.Contains(r.err, "kill") {
				t.Errorf("exit code %d, %q; want 1 and how to end them", r.code, r.err)
			}
			for _, pid := range pids {
				if tt.name == "with the state file" && !strings.Contains(r.err, strconv.Itoa(pid)) {
					t.Errorf("pid %d is not named: %s", pid, r.err)
				}
				if st, ok := procStat(pid); !ok || st.state == "Z" {
					t.Errorf("origin pid %d was ended", pid)
				}
			}
		})
	}
	end()
	// The way out works: a start on the same state dir, with its stale socket.
	again := newInstance(t, 2, "--state-dir", in.stateDir)
	again.stateDir = in.stateDir
	again.start().waitReady(readyWithin)
	again.stop()
}
