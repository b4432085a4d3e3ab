package e2e

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// TestDieWithParent: with --die-with-parent no origin outlives a killed supervisor,
// with clients or without, and whoever comes next starts its own.
func TestDieWithParent(t *testing.T) {
	t.Parallel()
	// Origins look at their parent once a second; the rest is for a busy machine.
	const within = 3 * time.Second
	in := up(t, 3, "--die-with-parent")
	in.publish(t, "watched")
	awaitFrames(t, 3, 10*time.Second, in.playRTMP(t, "watched"))
	pids := in.originPIDs()
	in.signal(syscall.SIGKILL)
	killed := time.Now()
	in.waitEnd(5 * time.Second)
	dead := func() (bool, string) {
		for _, pid := range pids {
			if st, ok := procStat(pid); ok && st.state != "Z" {
				return false, st.state
			}
		}
		return true, ""
	}
	eventually(t, within, "the end of all origins", dead)
	t.Logf("all origins ended %s after the kill", time.Since(killed).Round(time.Millisecond))
	for _, pid := range pids {
		endProcess(pid) // they are our children now
	}

	// The next one comes so soon that they have not noticed yet.
	again := in.again()
	again.start().waitReady(readyWithin)
	pids = again.originPIDs()
	again.signal(syscall.SIGKILL)
	again.waitEnd(5 * time.Second)
	third := again.again()
	third.start().waitReady(readyWithin)
	if now := third.originPIDs(); slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(pids, pid) }) {
		t.Errorf("pids %v became %v: some were adopted", pids, now)
	}
	if got := third.status().Totals.Restarts; got != 0 {
		t.Errorf("%d restarts", got)
	}
	eventually(t, within, "the end of the origins before", dead)
	for _, pid := range pids {
		endProcess(pid)
	}
	third.publish(t, "again").stop()
	third.stop()
}
