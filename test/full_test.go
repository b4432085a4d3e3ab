package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What a big machine's worth of origins may cost, here on two cores.
const (
	manyOrigins   = 128
	manyReady     = 15 * time.Second
	manyDown      = 15 * time.Second
	idleCPU       = 1.0 // percent of a core
	idleRSS       = 80 << 20
	firstFrameLag = 10 * time.Millisecond
)

// TestManyOrigins starts 128, measures, and stops them.
func TestManyOrigins(t *testing.T) {
	if !suite.full {
		t.Skip("heavy: give SRS_PROXY_E2E_FULL=1")
	}
	start := time.Now()
	in := up(t, manyOrigins)
	took := time.Since(start)
	t.Logf("%d origins were ready after %s", manyOrigins, took.Round(time.Millisecond))
	if took > manyReady {
		t.Errorf("%d origins took %s to be ready, want %s", manyOrigins, took, manyReady)
	}
	in.checkAffinity(t)

	pid := in.cmd.Process.Pid
	time.Sleep(5 * time.Second) // what the start has left to do
	before, _ := procStat(pid)
	const idle = 20 * time.Second
	time.Sleep(idle) // this is what is measured
	after, _ := procStat(pid)
	cpu := float64(after.ticks-before.ticks) / 100 / idle.Seconds() * 100
	rss := kilobytes(t, procField(t, pid, "VmRSS"))
	t.Logf("idle: %.2f %% of a core, RSS %d MiB, %d descriptors, %s threads", cpu, rss>>20, count(descriptors(t, pid)), procField(t, pid, "Threads"))
	if cpu > idleCPU && !suite.race {
		t.Errorf("idle: %.2f %% of a core, want under %.0f", cpu, idleCPU)
	}
	if rss > idleRSS && !suite.race {
		t.Errorf("idle: RSS %d MiB, want under %d", rss>>20, idleRSS>>20)
	}
	if s := in.status(); s.Totals.Restarts != 0 || s.Totals.Ready != manyOrigins {
		t.Errorf("after being idle: %+v", s.Totals)
	}

	start = time.Now()
	r := srsProxy(t, "down", "--state-dir", in.stateDir)
	took = time.Since(start)
	t.Logf("down took %s", took.Round(time.Millisecond))
	if r.code != 0 || took > manyDown {
		t.Errorf("down: exit code %d after %s, want 0 within %s: %s", r.code, took, manyDown, r.err)
	}
	in.waitEnd(time.Second)
}

// checkAffinity proves that each origin runs where status says, and that the
// origins spread evenly.
func (in *instance) checkAffinity(t *testing.T) {
	t.Helper()
	perSet := make(map[string]int)
	for _, o := range in.status().Origins {
		if o.CPUs == "" {
			t.Fatalf("status shows no CPUs of %s", o.ID)
		}
		perSet[o.CPUs]++
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", o.PID))
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks { // each thread has a mask of its own
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				continue
			}
			if got := procField(t, tid, "Cpus_allowed_list"); got != o.CPUs {
				t.Errorf("%s, thread %d: Cpus_allowed_list %s, status shows %s", o.ID, tid, got, o.CPUs)
			}
		}
	}
	var counts []int
	for _, n := range perSet {
		counts = append(counts, n)
	}
	if slices.Max(counts)-slices.Min(counts) > 1 {
		t.Errorf("origins by CPUs: %v, want an even spread", perSet)
	}
}

// TestAffinity is its light form.
func TestAffinity(t *testing.T) {
	t.Parallel()
	up(t, 5).checkAffinity(t)
}

func kilobytes(t *testing.T, field string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSuffix(field, " kB"))
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// TestFirstFrame compares the time to a player's first frame with that of a
// player who goes to the origin itself. It is measured always, and judged where
// the machine is ours.
func TestFirstFrame(t *testing.T) {
	in := up(t, 2)
	pub := in.publish(t, "a")
	in.playRTMP(t, "a").awaitFrames(t, 20, 10*time.Second) // a whole GOP is cached
	id, _ := in.home(t, "a")
	direct := fmt.Sprintf("127.0.0.1:%d", in.status().origin(id).Ports.RTMP)

	measure := func(addr string) time.Duration {
		start := time.Now()
		p, err := openPlay(addr, "rtmp://"+addr+"/live", "a")
		if err != nil {
			t.Fatal(err)
		}
		defer p.conn.Close()
		_ = p.conn.SetDeadline(time.Now().Add(10 * time.Second))
		if err := untilStamp(p.media, pub.id); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	var through, past []time.Duration
	for range 50 {
		through = append(through, measure(in.rtmp()))
		past = append(past, measure(direct))
	}
	slices.Sort(through)
	slices.Sort(past)
	lag := through[25] - past[25]
	t.Logf("first frame, median of 50: %s through the proxy, %s direct; p90 %s and %s", through[25], past[25], through[45], past[45])
	if suite.full && lag > firstFrameLag {
		t.Errorf("the proxy adds %s to the first frame, want %s at most", lag, firstFrameLag)
	}
}
