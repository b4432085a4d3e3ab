package faults

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// startsAllowed is how often an origin may be started in ten minutes of a crash loop:
// after 100 ms, 1 s, 2 s and so on to 30 s, less 20 % of jitter.
const startsAllowed = 32

// TestCrashLoop has one origin die again and again, by the clock: as soon as it has a
// process, or as soon as that is ready. SRS_PROXY_FAULTS_CRASHLOOP=10m says for how long.
func TestCrashLoop(t *testing.T) {
	text := os.Getenv("SRS_PROXY_FAULTS_CRASHLOOP")
	if text == "" {
		t.Skip("takes ten minutes: give SRS_PROXY_FAULTS_CRASHLOOP=10m")
	}
	long, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	in, l, f := loaded(t, "crash loop of one origin, "+text)
	victim := in.victims(0, 1)[0]
	hit := in.namesOf([]originStatus{victim})
	before := in.mustStatus()
	l.mark()
	kill(t, victim.PID)
	report(t, 1, l.recover(hit, afterDeath, f))

	// From here on its streams are elsewhere, and nobody is hit.
	l.mark()
	starts, last := 0, victim.PID
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		o := in.origin(victim.ID)
		if o.PID == 0 || o.PID == last || starts%2 == 1 && o.State != "ready" {
			continue
		}
		starts++
		last = o.PID
		kill(t, o.PID)
	}
	f.rounds = starts
	o := in.origin(victim.ID)
	t.Logf("%d starts in %s; the status counts %d restarts", starts, long, o.Restarts)
	if starts < 3 {
		t.Errorf("%d starts in %s make no crash loop", starts, long)
	}
	if allowed := max(6, int(startsAllowed*long/(10*time.Minute))); starts > allowed || o.Restarts > allowed {
		t.Errorf("%d starts were seen and %d are counted in %s, %d are allowed", starts, o.Restarts, long, allowed)
	}
	report(t, 2, append(l.unharmed(nil, f), l.single()...))
	report(t, 2, in.siblings(before, []originStatus{victim}))
	l.stop()
	in.waitReady(suite.size.origins)
	f.checkBaseline(t, in)
}

// origin is one of the current ones.
func (in *instance) origin(id string) originStatus {
	in.t.Helper()
	s, err := in.ask("origins")
	if err != nil {
		in.t.Fatal(err)
	}
	for _, o := range s.Origins {
		if o.ID == id {
			return o
		}
	}
	in.t.Fatal(fmt.Errorf("no origin %s", id))
	return originStatus{}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill -9 %d: %v", pid, err)
	}
}
