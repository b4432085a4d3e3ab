package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestAdoption: the supervisor is killed outright, its origins live on, and the
// next start goes on with them: with the state file, and without it by the proofs
// that the processes carry themselves.
func TestAdoption(t *testing.T) {
	for name, before := range map[string]func(stateDir string) error{
		"with the state file": func(string) error { return nil },
		"without":             func(dir string) error { return os.Remove(filepath.Join(dir, "state.json")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := up(t, 3)
			pids := in.originPIDs()
			in.signal(syscall.SIGKILL)
			in.waitEnd(5 * time.Second)
			// Orphans are our children (TestMain): ours to wait for, whatever happens.
			t.Cleanup(func() {
				for _, pid := range pids {
					endProcess(pid)
				}
			})
			for _, pid := range pids {
				if st, ok := procStat(pid); !ok || st.state == "Z" {
					t.Fatalf("origin pid %d died with the supervisor", pid)
				}
			}
			if err := before(in.stateDir); err != nil {
				t.Fatal(err)
			}

			again := in.again()
			since := time.Now()
			again.start().waitReady(readyWithin)
			t.Logf("adopted after %s", time.Since(since).Round(time.Millisecond))
			if got := again.originPIDs(); !slices.Equal(got, pids) {
				t.Errorf("pids %v, were %v", got, pids)
			}
			if got := again.status().Totals.Restarts; got != 0 {
				t.Errorf("%d restarts", got)
			}
			again.publish(t, "again").stop()
			again.stop()
			for _, pid := range pids {
				if _, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil); err != nil {
					t.Errorf("origin pid %d: %v", pid, err)
				}
			}
		})
	}
}

// again is the same command once more, for after the instance's end.
func (in *instance) again() *instance {
	next := &instance{t: in.t, args: in.args, stateDir: in.stateDir, ports: in.ports, on: in.on, ended: make(chan struct{}), pids: make(map[int]bool)}
	next.cmd = exec.Command(suite.binary, next.args...)
	next.cmd.Env = cleanEnv()
	next.cmd.Stdout, next.cmd.Stderr = &next.out, &next.err
	return next
}

func (in *instance) originPIDs() (pids []int) {
	in.t.Helper()
	for _, o := range in.status().Origins {
		pids = append(pids, o.PID)
	}
	return pids
}
