package runtime

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openSampler(tb testing.TB, pid int) *ProcSampler {
	tb.Helper()
	s := new(ProcSampler)
	if err := s.Open(pid); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func TestProcSamplerOnSelf(t *testing.T) {
	s := openSampler(t, os.Getpid())
	start, err := s.Sample()
	if err != nil {
		t.Fatal(err)
	}
	var statm unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &statm); err != nil {
		t.Fatal(err)
	}
	// Maxrss is the high-water mark in KiB; the kernel counts RSS in batches per thread.
	if most := uint64(statm.Maxrss)<<10 + 8<<20; start.RSS < 1<<20 || start.RSS > most {
		t.Errorf("RSS %d, want 1 MiB to %d", start.RSS, most)
	}
	if !strings.ContainsRune("RSD", rune(start.State)) {
		t.Errorf("state %c", start.State)
	}
	// Burn until both clocks, the sampler's and getrusage's, agree on 50 ms more.
	for {
		now, err := s.Sample()
		if err != nil {
			t.Fatal(err)
		}
		if now.CPUTime < start.CPUTime {
			t.Fatalf("CPU time went back from %v to %v", start.CPUTime, now.CPUTime)
		}
		if now.CPUTime >= start.CPUTime+50*time.Millisecond {
			break
		}
	}
	var after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	now, err := s.Sample()
	if err != nil {
		t.Fatal(err)
	}
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano())
	if d := now.CPUTime - used; d < -100*time.Millisecond || d > 100*time.Millisecond {
		t.Errorf("CPU time %v, getrusage says %v", now.CPUTime, used)
	}
}

func TestProcSamplerOutlivesTheProcess(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := openSampler(t, cmd.Process.Pid)
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitState(t, s, 'T')
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitState(t, s, 'Z')
	_ = cmd.Wait() // killed, as we know
	if _, err := s.Sample(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("a process that was reaped: %v", err)
	}
	if err := s.Open(cmd.Process.Pid); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("open a process that was reaped: %v", err)
	}
	if _, err := s.Sample(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sample a closed one: %v", err)
	}
}

func waitState(t *testing.T, s *ProcSampler, state byte) {
	t.Helper()
	for t.Context().Err() == nil {
		u, err := s.Sample()
		if err != nil {
			t.Fatal(err)
		}
		if u.State == state {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestProcSamplerDoesNotAllocate(t *testing.T) {
	s := openSampler(t, os.Getpid())
	allocs := testing.AllocsPerRun(1000, func() {
		if _, err := s.Sample(); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a sample", allocs)
	}
}

func BenchmarkProcSampler(b *testing.B) {
	cmd := exec.CommandContext(b.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer kill(cmd)
	s := openSampler(b, cmd.Process.Pid)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Sample(); err != nil {
			b.Fatal(err)
		}
	}
}
