package meter

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// A thread that has ended still counts: a process that burns its time in threads
// that end shows all of it.
func TestCPUCountsWhatRan(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 50*time.Millisecond; {
	}
	after, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Errorf("cpu %v, then %v", before, after)
	}
	if _, err := CPU(1 << 22); err == nil {
		t.Error("a process that there is not has a CPU clock")
	}
}

func TestFamilyAndFootprint(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & sleep 60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	defer func() {
		for _, pid := range slices.Backward(pids) {
			if p, err := os.FindProcess(pid); err == nil {
				p.Kill()
			}
		}
		cmd.Wait()
	}()
	for deadline := time.Now().Add(10 * time.Second); len(pids) < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("family %v, want a shell and two children", pids)
		}
		var err error
		if pids, err = Family(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Of(pids)
	if err != nil {
		t.Fatal(err)
	}
	if f.Threads != 3 || f.Descriptors < 9 || f.RSS == 0 {
		t.Errorf("footprint %+v", f)
	}
	all, err := Machine()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := all[pids[2]]; !ok {
		t.Error("the machine's processes lack one")
	}
	if d := Since(all, all); d != 0 {
		t.Errorf("in no time the machine used %v", d)
	}
}

func TestWritten(t *testing.T) {
	before, err := Written(os.Getpid())
	if err != nil {
		t.Skip("no accounting of I/O here: ", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	after, err := Written(os.Getpid())
	if err != nil || after-before < 5000 {
		t.Errorf("written %d more, %v", after-before, err)
	}
}
