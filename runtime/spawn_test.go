package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bornWith is a shell that reports the limit and the affinity it was born with:
// the first thing it does, with nothing in it that could have changed them.
const bornWith = `ulimit -Sn; grep Cpus_allowed_list /proc/self/status`

func wantBorn(cpus CPUSet, nofile uint64) string {
	return fmt.Sprintf("%d\nCpus_allowed_list:\t%s\n", nofile, cpus)
}

func newTestSpawner(t *testing.T) *Spawner {
	t.Helper()
	s := NewSpawner()
	t.Cleanup(s.Close)
	return s
}

func ourCPUs(t *testing.T) CPUSet {
	t.Helper()
	set, err := AllowedCPUs(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func ourNofile(t *testing.T) syscall.Rlimit {
	t.Helper()
	limit, err := getNofile()
	if err != nil {
		t.Fatal(err)
	}
	return limit
}

// threadSets is the affinity of each of our threads.
func threadSets() (map[int]CPUSet, error) {
	tids, err := readNumbers("/proc/self/task")
	if err != nil {
		return nil, err
	}
	sets := make(map[int]CPUSet)
	for _, tid := range tids {
		set, err := getAffinity(tid)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sets[tid] = set
	}
	return sets, nil
}

func TestChildIsBornWithItsCPUsAndLimit(t *testing.T) {
	s := newTestSpawner(t)
	all, ours := ourCPUs(t), ourNofile(t)
	last := CPUSet{all[len(all)-1]}
	for _, tc := range []struct {
		name   string
		cpus   CPUSet
		nofile uint64
	}{
		{"lower limit, first CPU", all[:1], ours.Cur - 1234},
		{"lower limit, last CPU", last, ours.Cur / 2},
		{"our own limit", last, ours.Cur},
		{"all CPUs", all, ours.Cur / 3},
		{"nothing asked", nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "sh", "-c", bornWith)
			var out bytes.Buffer
			cmd.Stdout = &out
			if err := s.Start(cmd, tc.cpus, tc.nofile); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			cpus, nofile := tc.cpus, tc.nofile
			if cpus == nil {
				cpus, nofile = all, ours.Cur
			}
			if want := wantBorn(cpus, nofile); out.String() != want {
				t.Errorf("the child was born with %q, want %q", out.String(), want)
			}
			if now := ourNofile(t); now != ours {
				t.Errorf("our own limit is %v now, was %v", now, ours)
			}
		})
	}
}

// mayRaiseLimits reports whether we have CAP_SYS_RESOURCE, which root in a
// container often lacks.
func mayRaiseLimits() bool {
	status, _, _ := readOptional("/proc/self/status")
	_, caps, _ := strings.Cut(status, "CapEff:\t")
	caps, _, _ = strings.Cut(caps, "\n")
	bits, err := strconv.ParseUint(caps, 16, 64)
	return err == nil && bits&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func TestRaisedLimitNeedsPrivilege(t *testing.T) {
	s := newTestSpawner(t)
	ours := ourNofile(t)
	open := nrOpen(0)
	if open == 0 || ours.Max >= open {
		t.Skip("the hard limit can't be exceeded here")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", bornWith)
	var out bytes.Buffer
	cmd.Stdout = &out
	err := s.Start(cmd, nil, ours.Max+1000)
	if !mayRaiseLimits() {
		if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "hard limit") {
			t.Errorf("without privilege: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := wantBorn(ourCPUs(t), ours.Max+1000); out.String() != want {
		t.Errorf("the child was born with %q, want %q", out.String(), want)
	}
	if now := ourNofile(t); now != ours {
		t.Errorf("our own limit is %v now, was %v", now, ours)
	}
	// Over fs.nr_open nobody is privileged enough.
	err = s.Start(exec.CommandContext(t.Context(), "true"), nil, open+1)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), strconv.FormatUint(open, 10)) {
		t.Errorf("over fs.nr_open: %v", err)
	}
}

// A hundred children at once from several spawners, each with its own set and
// limit, while others watch that nothing of it shows on our own threads.
func TestConcurrentSpawns(t *testing.T) {
	spawners := []*Spawner{newTestSpawner(t), newTestSpawner(t)}
	all, ours := ourCPUs(t), ourNofile(t)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			// The main thread is what AllowedCPUs and the world see.
			if now, err := AllowedCPUs(os.Getpid()); err != nil || !now.Equal(all) {
				t.Errorf("our own affinity is %s during spawns, was %s (%v)", now, all, err)
				return
			}
			// A plain child of somebody else must not catch a spawner's CPUs.
			out, err := exec.CommandContext(ctx, "grep", "Cpus_allowed_list", "/proc/self/status").Output()
			if err == nil && strings.TrimSpace(string(out)) != "Cpus_allowed_list:\t"+all.String() {
				t.Errorf("an unrelated child got %q", out)
				return
			}
		}
	})

	var spawns sync.WaitGroup
	for i := range 100 {
		spawns.Go(func() {
			cpus := CPUSet{all[i%len(all)]}
			if i%3 == 2 {
				cpus = all
			}
			nofile := ours.Cur/2 + uint64(i)
			cmd := exec.CommandContext(t.Context(), "sh", "-c", bornWith)
			var out bytes.Buffer
			cmd.Stdout = &out
			if err := spawners[i%len(spawners)].Start(cmd, cpus, nofile); err != nil {
				t.Error(err)
				return
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if want := wantBorn(cpus, nofile); out.String() != want {
				t.Errorf("child %d was born with %q, want %q", i, out.String(), want)
			}
		})
	}
	spawns.Wait()
	stop()
	watch.Wait()

	sets, err := threadSets()
	if err != nil {
		t.Fatal(err)
	}
	for tid, set := range sets {
		if !set.Equal(all) {
			t.Errorf("thread %d is left on %s of %s", tid, set, all)
		}
	}
	if now := ourNofile(t); now != ours {
		t.Errorf("our own limit is %v now, was %v", now, ours)
	}
}

func TestStartErrorsLeaveNothing(t *testing.T) {
	s := newTestSpawner(t)
	all, ours := ourCPUs(t), ourNofile(t)
	unusable := all.Union(CPUSet{maxCPU - 1})
	for _, tc := range []struct {
		name string
		path string
		cpus CPUSet
		ok   func(error) bool
	}{
		{"no such program", "/no/such/program", all[:1], func(err error) bool {
			return errors.Is(err, fs.ErrNotExist) && strings.Contains(err.Error(), "/no/such/program")
		}},
		{"no such CPU", "/bin/true", CPUSet{maxCPU - 1}, func(err error) bool {
			return errors.Is(err, unix.EINVAL) && strings.Contains(err.Error(), "CPUs 8191")
		}},
		{"of two CPUs one does not exist", "/bin/true", CPUSet{all[0], maxCPU - 1}, func(err error) bool {
			return strings.Contains(err.Error(), "only "+all[:1].String()+" of them can be used")
		}},
		{"all CPUs and one that does not exist", "/bin/true", unusable, func(err error) bool {
			return strings.Contains(err.Error(), "only "+all.String()+" of them can be used")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := &exec.Cmd{Path: tc.path}
			err := s.Start(cmd, tc.cpus, ours.Cur/2)
			if err == nil || !tc.ok(err) {
				t.Errorf("error %v", err)
			}
			if cmd.Process != nil {
				t.Errorf("a child was started: %d", cmd.Process.Pid)
			}
			if now := ourNofile(t); now != ours {
				t.Errorf("our own limit is %v now, was %v", now, ours)
			}
			sets, err := threadSets()
			if err != nil {
				t.Fatal(err)
			}
			for tid, set := range sets {
				if !set.Equal(all) {
					t.Errorf("thread %d is left on %s of %s", tid, set, all)
				}
			}
		})
	}
}

func TestCloseLeavesChildrenAlone(t *testing.T) {
	s := NewSpawner()
	before, err := readNumbers("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(cmd, nil, 0); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	if err := s.Start(exec.CommandContext(t.Context(), "true"), nil, 0); !errors.Is(err, ErrSpawnerClosed) {
		t.Errorf("start after close: %v", err)
	}
	// The spawner's thread ends with it, and takes no child along.
	for !threadEnded(t, before) {
		time.Sleep(time.Millisecond)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the child ended by %v, want the end of its input", err)
	}
}

// The main thread's affinity is what the world sees as ours, so a spawner that
// happens to get it must move on.
func TestSpawnerLeavesTheMainThread(t *testing.T) { runHelper(t, "main-thread") }

func helperMainThread() error {
	s := newSpawner()
	moved := make(chan struct{})
	hold := make(chan struct{})
	defer close(hold)
	// Goroutines that hold on to their threads, until one gets the main thread.
	for got := make(chan bool); ; {
		go func() {
			goruntime.LockOSThread()
			main := unix.Gettid() == os.Getpid()
			got <- main
			if main {
				s.spawnThread()
				close(moved)
			}
			<-hold
		}()
		if <-got {
			break
		}
	}
	if err := s.Start(exec.Command("true"), nil, 0); err != nil {
		return err
	}
	select {
	case <-moved:
	case <-time.After(10 * time.Second):
		return errors.New("the spawner keeps the main thread")
	}
	s.Close()
	return nil
}

// threadEnded reports whether one of the threads before is gone; Go ends none but
// those of locked goroutines.
func threadEnded(t *testing.T, before []int) bool {
	t.Helper()
	now, err := readNumbers("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(CPUSet(before).Minus(now)) > 0
}

// The helper is born with a soft limit of 256, which Go raises for itself and
// would restore in its children.
func TestGoDoesNotRestoreTheOriginalLimit(t *testing.T) {
	s := newTestSpawner(t)
	cmd, stderr := helperCmd(t, "original-limit")
	if err := s.Start(cmd, nil, 256); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
}

func helperOriginalLimit() error {
	out, err := exec.Command("sh", "-c", "ulimit -Sn").Output()
	if err != nil || string(out) != "256\n" {
		return fmt.Errorf("this test shows nothing: a plain child has the limit %q (%v)", out, err)
	}
	ours, err := getNofile()
	if err != nil || ours.Cur <= 1000 {
		return fmt.Errorf("limit %v, want Go to have raised it (%v)", ours, err)
	}
	s := NewSpawner()
	defer s.Close()
	for asked, want := range map[uint64]uint64{0: ours.Cur, 1000: 1000, ours.Max: ours.Max} {
		cmd := exec.Command("sh", "-c", "ulimit -Sn; ulimit -Hn")
		var stdout bytes.Buffer
		cmd.Stdout = &stdout
		if err := s.Start(cmd, nil, asked); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return err
		}
		if born := fmt.Sprintf("%d\n%d\n", want, ours.Max); stdout.String() != born {
			return fmt.Errorf("asked for %d: the child has %q, want %q", asked, stdout.String(), born)
		}
	}
	return nil
}

// With many descriptors open our own limit must not be lowered for the sake of a
// child: others would fail to open theirs.
func TestSpawnWithAFullTable(t *testing.T) {
	s := newTestSpawner(t)
	cmd, stderr := helperCmd(t, "full-table")
	// An original limit below what the helper's children ask for.
	if err := s.Start(cmd, nil, 256); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
}

func helperFullTable() error {
	const childLimit = 300
	ours, err := getNofile()
	if err != nil {
		return err
	}
	var open []*os.File
	for len(open) <= childLimit {
		f, err := os.Open("/dev/null")
		if err != nil {
			return err
		}
		open = append(open, f)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var busy sync.WaitGroup
	var failed error
	opened := make(chan struct{}, 1)
	busy.Go(func() {
		for ctx.Err() == nil {
			f, err := os.Open("/dev/null") // a descriptor over childLimit
			if err != nil {
				failed = err
				return
			}
			f.Close()
			select {
			case opened <- struct{}{}:
			default:
			}
		}
	})
	<-opened
	s := NewSpawner()
	defer s.Close()
	for range 30 {
		// This child looks at its birth, and again once Start has returned.
		cmd := exec.Command("sh", "-c", "ulimit -Sn; read go; ulimit -Sn; ulimit -Hn")
		var stdout bytes.Buffer
		cmd.Stdout = &stdout
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		if err := s.Start(cmd, nil, childLimit); err != nil {
			return err
		}
		if _, err := stdin.Write([]byte("\n")); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return err
		}
		var born, soft, hard uint64
		if _, err := fmt.Sscan(stdout.String(), &born, &soft, &hard); err != nil {
			return err
		}
		if born < childLimit || soft != childLimit || hard != ours.Max {
			return fmt.Errorf("the child was born with %d, has %d and at most %d; want %d", born, soft, hard, childLimit)
		}
	}
	stop()
	busy.Wait()
	for _, f := range open {
		f.Close()
	}
	return failed
}

func TestRaiseNofile(t *testing.T) {
	s := newTestSpawner(t)
	cmd, stderr := helperCmd(t, "raise-nofile")
	if err := s.Start(cmd, nil, 256); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
}

func helperRaiseNofile() error {
	start, err := getNofile()
	if err != nil {
		return err
	}
	// Go has raised its own to hard-1; begin from below.
	if err := setNofile(syscall.Rlimit{Cur: 500, Max: start.Max}); err != nil {
		return err
	}
	beyond := nrOpen(0) + 1
	most := start.Max
	if mayRaiseLimits() {
		most = nrOpen(0)
	}
	for _, step := range []struct{ want, soft uint64 }{
		{100, 500}, // never lowered
		{1000, 1000},
		{0, start.Max},
		{start.Max, start.Max},
		{beyond, most},
	} {
		soft, err := RaiseNofile(step.want)
		if err != nil || soft != step.soft {
			return fmt.Errorf("RaiseNofile(%d) = %d, %v; want %d", step.want, soft, err, step.soft)
		}
		now, err := getNofile()
		if err != nil || now.Cur != soft {
			return fmt.Errorf("RaiseNofile(%d) = %d, but %v is in force (%v)", step.want, soft, now, err)
		}
	}
	return nil
}
