package supervisor

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestBackoff(t *testing.T) {
	want := []time.Duration{
		100 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second,
		8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second,
	}
	var b backoff
	for i, w := range want {
		if got := b.next(0); got != w {
			t.Errorf("wait %d is %s, want %s", i, got, w)
		}
	}
	for range 100 { // far beyond any shift
		if got := b.next(0.999999); got < 24*time.Second || got > 25*time.Second {
			t.Fatalf("a wait of %s with the most jitter", got)
		}
	}
	b.reset()
	if got := b.next(0.5); got != 90*time.Millisecond {
		t.Errorf("the first wait after a reset is %s", got)
	}
}

func TestTransitions(t *testing.T) {
	all := []State{Starting, Ready, Degraded, Draining, Backoff, Fatal, Stopped}
	for _, from := range all {
		for _, to := range all {
			err := checkTransition(from, to)
			if allowed := from == to || slices.Contains(from.next(), to); allowed != (err == nil) {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
	}
	for _, never := range [][2]State{{Stopped, Ready}, {Backoff, Ready}, {Fatal, Ready}, {Starting, Degraded}, {Draining, Backoff}, {"", Ready}} {
		if checkTransition(never[0], never[1]) == nil {
			t.Errorf("%q may become %q", never[0], never[1])
		}
	}
	// No state is a dead end: from each one a slot can still be stopped.
	for _, from := range all {
		if from != Stopped && !slices.Contains(from.next(), Stopped) {
			t.Errorf("%s cannot be stopped", from)
		}
	}
}

// A probe every second and 1.5 s to answer: an origin that falls silent has its
// third miss 4.5 s after the first probe that it leaves unanswered.
func TestLivenessSchedule(t *testing.T) {
	start := time.Unix(1000, 0)
	l := liveness{nextAt: start}
	var sent, missed []time.Duration
	for now := start; now.Before(start.Add(6 * time.Second)); now = now.Add(100 * time.Millisecond) {
		if now.Sub(start) <= 2*time.Second && !l.sentAt.IsZero() {
			l.answered(now) // silent from the probe of 2 s on
		}
		if l.expired(now, 1500*time.Millisecond, false) {
			missed = append(missed, now.Sub(start))
		}
		if l.due(now) {
			l.sent(now, time.Second)
			sent = append(sent, now.Sub(start))
		}
	}
	s := time.Second
	if want := []time.Duration{0, s, 2 * s, 3500 * time.Millisecond, 5 * s}; !slices.Equal(sent, want) {
		t.Errorf("sent at %v, want %v", sent, want)
	}
	if want := []time.Duration{3500 * time.Millisecond, 5 * s}; !slices.Equal(missed, want) {
		t.Errorf("missed at %v, want %v", missed, want)
	}
	if l.misses != 2 || !l.mutedAt.Equal(start.Add(2*s)) {
		t.Errorf("%d misses since %s", l.misses, l.mutedAt.Sub(start))
	}
	if !l.answered(start) || l.misses != 0 || l.answered(start) {
		t.Error("an answer does not make it well once")
	}
}

func TestLateTickIsHeldAgainstNobody(t *testing.T) {
	start := time.Unix(1000, 0)
	var l liveness
	l.sent(start, time.Second)
	if l.expired(start.Add(time.Hour), time.Second, true) || l.misses != 0 {
		t.Error("a miss by a late tick")
	}
	if l.expired(start.Add(time.Hour+900*time.Millisecond), time.Second, false) {
		t.Error("the probe did not get its time again")
	}
	if !l.expired(start.Add(time.Hour+1100*time.Millisecond), time.Second, false) {
		t.Error("never a miss again")
	}
}

func TestHostTrouble(t *testing.T) {
	tests := []struct {
		missing, watched int
		late, want       bool
	}{
		{1, 1, false, false}, // one alone is never together
		{1, 2, false, false},
		{2, 2, false, true},
		{1, 8, false, false},
		{2, 8, false, false}, // a quarter is not over a quarter
		{3, 8, false, true},
		{32, 128, false, false},
		{33, 128, false, true},
		{1, 128, true, true},
		{0, 0, false, false},
	}
	for _, tt := range tests {
		if got := hostTrouble(tt.missing, tt.watched, tt.late); got != tt.want {
			t.Errorf("%d of %d missing, late %t: %t", tt.missing, tt.watched, tt.late, got)
		}
	}
}

// signals are what end sent, and when.
type signals struct {
	start  time.Time
	sent   []string
	diesOf unix.Signal
	exited chan struct{}
}

func (s *signals) send(sig unix.Signal) {
	s.sent = append(s.sent, unix.SignalName(sig)+"@"+time.Since(s.start).String())
	if sig == s.diesOf {
		close(s.exited)
	}
}

func TestEndEscalates(t *testing.T) {
	tests := []struct {
		name    string
		diesOf  unix.Signal
		hurryAt time.Duration
		want    string
		dead    bool
	}{
		{"obeys", unix.SIGQUIT, 0, "SIGQUIT@0s", true},
		{"waits for its clients", unix.SIGTERM, 0, "SIGQUIT@0s SIGTERM@8s", true},
		{"deaf", unix.SIGKILL, 0, "SIGQUIT@0s SIGTERM@8s SIGKILL@12s", true},
		{"hurried", unix.SIGTERM, 3 * time.Second, "SIGQUIT@0s SIGTERM@3s", true},
		{"hurried and deaf", unix.SIGKILL, 3 * time.Second, "SIGQUIT@0s SIGTERM@3s SIGKILL@5s", true},
		{"hurried after SIGTERM", unix.SIGKILL, 9 * time.Second, "SIGQUIT@0s SIGTERM@8s SIGTERM@9s SIGKILL@11s", true},
		{"immortal", 0, 0, "SIGQUIT@0s SIGTERM@8s SIGKILL@12s", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &signals{start: time.Now(), diesOf: tt.diesOf, exited: make(chan struct{})}
				hurry := make(chan struct{})
				if tt.hurryAt > 0 {
					time.AfterFunc(tt.hurryAt, func() { close(hurry) })
				}
				if dead := end(s.exited, hurry, s.send, 8*time.Second, 12*time.Second); dead != tt.dead {
					t.Errorf("dead: %t", dead)
				}
				if got := strings.Join(s.sent, " "); got != tt.want {
					t.Errorf("sent %s, want %s", got, tt.want)
				}
			})
		})
	}
}

func TestPauseEndsByTimeOrderAndRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slot{wake: make(chan struct{}, 1), view: OriginStatus{Desired: Run}}
		start := time.Now()
		s.pause(t.Context(), time.Second, Run)
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %s", took)
		}
		start = time.Now()
		time.AfterFunc(time.Second, func() { s.report(verdict{}) }) // news is no reason
		time.AfterFunc(2*time.Second, func() { s.order(Run) })
		s.pause(t.Context(), time.Minute, Run)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("a retry ended it after %s", took)
		}
		start = time.Now()
		time.AfterFunc(3*time.Second, func() { s.order(Stop) })
		s.pause(t.Context(), 0, Run)
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("an order ended it after %s", took)
		}
		s.pause(t.Context(), time.Minute, Run) // it is not wanted any more
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("it waits for what nobody wants: %s", took)
		}
	})
}

func TestReadReply(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n"
	tests := []struct {
		name, reply    string
		complete, good bool
	}{
		{"nothing", "", false, false},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-Le", false, false},
		{"half a body", head + `{"pid":`, false, false},
		{"ours", head + `{"pid":"123"}`, true, true},
		{"another's", head + `{"pid":"124"}`, true, false},
		{"a part of ours", head + `{"pid":"12"}}`, true, false},
		{"error", "HTTP/1.1 503 Busy\r\ncontent-length:13\r\n\r\n" + `{"pid":"123"}`, true, false},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n" + `{"pid":"123"}` + "\r\n0\r\n\r\n", true, true},
		{"chunked, half", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n" + `{"pid":"123"}`, false, true},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", false, false},
	}
	for _, tt := range tests {
		complete, good := readReply([]byte(tt.reply), []byte(`"123"`))
		if complete != tt.complete || complete && good != tt.good {
			t.Errorf("%s: complete %t, good %t", tt.name, complete, good)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"pid\":\"123\"}"))
	f.Add([]byte("HTTP/1.1 200 OK\r\ncontent-length\r\n\r\n"))
	f.Fuzz(func(t *testing.T, reply []byte) {
		if complete, _ := readReply(reply, []byte(`"1"`)); complete && !strings.Contains(string(reply), "\r\n\r\n") {
			t.Error("complete without a head")
		}
	})
}

func TestHealth(t *testing.T) {
	o := func(d Desired, s State) OriginStatus { return OriginStatus{Desired: d, State: s} }
	tests := []struct {
		origins           []OriginStatus
		healthy, degraded bool
	}{
		{[]OriginStatus{o(Run, Ready), o(Drain, Draining), o(Stop, Stopped)}, true, false},
		{[]OriginStatus{o(Run, Ready), o(Run, Backoff)}, false, true},
		{[]OriginStatus{o(Run, Ready), o(Run, Degraded)}, false, true},
		{[]OriginStatus{o(Run, Starting), o(Run, Fatal)}, false, false},
		{nil, true, false},
	}
	for i, tt := range tests {
		s := Snapshot{Origins: tt.origins}
		if s.Healthy() != tt.healthy || s.Degraded() != tt.degraded {
			t.Errorf("%d: healthy %t, degraded %t", i, s.Healthy(), s.Degraded())
		}
	}
}

// An origin whose API was silent when it was saved is known again when it speaks.
func TestKnownService(t *testing.T) {
	const pid, ticks = 42, 1000
	speaks, silent := identity{pid: pid, service: "svc"}, identity{pid: pid}
	tests := []struct {
		saved string
		id    identity
		want  bool
	}{
		{"", speaks, true},
		{"", silent, true},
		{"svc", speaks, true},
		{"42-1000", speaks, true},
		{"42-1000", silent, true},
		{"svc", silent, false},
		{"other", speaks, false},
		{"42-999", speaks, false},
		{"43-1000", speaks, false},
	}
	for _, tt := range tests {
		if got := knownService(tt.saved, tt.id, pid, ticks); got != tt.want {
			t.Errorf("saved %q, says %q: %t", tt.saved, tt.id.service, got)
		}
	}
}
