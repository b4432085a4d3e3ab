package supervisor

import (
	"os"
	goruntime "runtime"
	"syscall"
	"testing"
)

// A fleet that lived, lost origins and was stopped leaves neither descriptors nor
// goroutines behind.
func TestNothingLeaks(t *testing.T) {
	live := func() {
		f := newFleet(t, fakeConfig(t, 4, "ready")).up()
		f.Snapshot(t.Context())
		before := f.pids()
		for _, pid := range before {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		for i, pid := range before {
			f.readyAgain(i, pid)
		}
		pids := f.pids()
		f.stop()
		if err := f.ended(); err != nil {
			t.Fatal(err)
		}
		f.nothingLeft(append(pids, before...)...)
	}
	live() // what stays for ever, such as the poller's descriptor, is there now
	descriptors, goroutines := openDescriptors(t), goruntime.NumGoroutine()
	live()
	if now := openDescriptors(t); now > descriptors {
		t.Errorf("%d descriptors became %d", descriptors, now)
	}
	eventually(t, "as few goroutines as before", func() bool { return goruntime.NumGoroutine() <= goroutines })
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
