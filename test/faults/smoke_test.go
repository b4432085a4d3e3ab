package faults

import (
	"strings"
	"testing"
	"time"
)

// TestSmoke kills one origin of three under a small load. It also proves that the
// checks see a fault: they are asked about the streams that were hit as if nothing
// had happened to them.
func TestSmoke(t *testing.T) {
	in := up(t, 3, 0)
	var f, blind fault
	l := newLoad(t, in, size{publishers: 6, players: 12, rate: 25}, &f)
	report(t, 0, l.unharmed(nil, &f))
	victims := in.victims(0, 1)
	for _, v := range in.mustStatus().current() { // one with streams
		if len(in.namesOf([]originStatus{v})) > 0 {
			victims = []originStatus{v}
		}
	}
	hit := in.namesOf(victims)
	report(t, 1, killRound(in, l, &f, victims))
	wrong := strings.Join(l.unharmed(nil, &blind), "\n")
	for name := range hit {
		for _, want := range []string{"the publisher of " + name + " was cut", ") of " + name + " was cut"} {
			if !strings.Contains(wrong, want) {
				t.Errorf("the checks do not see that %s; they say:\n%s", want, wrong)
			}
		}
	}
	before := in.mustStatus()
	before.Origins[0].PID++
	if len(in.siblings(before, nil)) == 0 {
		t.Error("another pid of an origin is not seen")
	}
	was := usageOf(in.pid())
	was.descriptors -= 3
	if usageOf(in.pid()).exceeds(was) == "" {
		t.Error("three descriptors more are not seen")
	}
	in.waitReady(3)
	l.awaitFrames(t, 10*time.Second)
}

// TestPlayerSees: silence, lost frames and the frames of another session.
func TestPlayerSees(t *testing.T) {
	at := time.Now()
	tests := []struct {
		name    string
		frames  []frame
		every   time.Duration
		missing uint64
		gap     time.Duration
		starts  int
	}{
		{"nothing wrong", []frame{{1, 1}, {1, 2}, {1, 3}}, 40 * time.Millisecond, 0, 40 * time.Millisecond, 1},
		{"joined late", []frame{{1, 7}, {1, 8}}, 40 * time.Millisecond, 0, 40 * time.Millisecond, 1},
		{"joined late, after a header", []frame{{1, 1}, {1, 7}, {1, 8}}, 40 * time.Millisecond, 0, 40 * time.Millisecond, 1},
		{"two lost", []frame{{1, 2}, {1, 5}}, 40 * time.Millisecond, 2, 40 * time.Millisecond, 1},
		{"one twice", []frame{{1, 2}, {1, 1}}, 40 * time.Millisecond, 1, 40 * time.Millisecond, 1},
		{"silence", []frame{{1, 1}, {1, 2}}, 2 * time.Second, 0, 2 * time.Second, 1},
		{"another session", []frame{{1, 9}, {2, 1}}, 40 * time.Millisecond, 0, 40 * time.Millisecond, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &player{joined: true}
			p.mark(at.Add(-tt.every))
			now := at
			for _, f := range tt.frames {
				parsed, ok := parseFrame(f.payload())
				if !ok {
					t.Fatal("our own frame is not recognised")
				}
				p.note(parsed, now)
				now = now.Add(tt.every)
			}
			s := p.suffered(now.Add(-tt.every))
			if s.missing != tt.missing || s.gap != tt.gap || len(p.started) != tt.starts {
				t.Errorf("missing %d, gap %s, %d starts; want %d, %s, %d", s.missing, s.gap, len(p.started), tt.missing, tt.gap, tt.starts)
			}
		})
	}
}
