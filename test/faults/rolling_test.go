package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// needCommand skips what the program cannot be told yet.
func needCommand(t *testing.T, name string) {
	t.Helper()
	out, err := exec.Command(suite.program, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "\n   "+name+" ") {
		t.Skipf("srs-proxy has no command %q", name)
	}
}

// TestRestartAll replaces all origins under continuous publishing.
func TestRestartAll(t *testing.T) {
	long(t)
	needCommand(t, "restart")
	in, l, f := loaded(t, "restart --all")
	for round := range suite.rounds {
		f.rounds++
		report(t, round+1, changeRound(t, in, l, f, suite.size.origins, suite.size.origins, "restart", "--all"))
	}
	l.stop()
	f.checkBaseline(t, in)
}

// TestReload replaces all origins by others with another config.
func TestReload(t *testing.T) {
	long(t)
	needCommand(t, "reload")
	const setting = "queue_length            "
	b, err := os.ReadFile("../../srs.tmpl.conf")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if strings.Count(text, setting) != 1 {
		t.Fatalf("the template has no single %q to change", setting)
	}
	template := filepath.Join(t.TempDir(), "template.conf")
	write := func(n int) {
		changed := strings.Replace(text, setting, setting+strconv.Itoa(n), 1)
		if err := os.WriteFile(template, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	in, l, f := loaded(t, "reload with another template", "--template", template)
	for round := range suite.rounds {
		f.rounds++
		write(round%8 + 2)
		report(t, round+1, changeRound(t, in, l, f, suite.size.origins, suite.size.origins, "reload"))
	}
	l.stop()
	f.checkBaseline(t, in)
}

// TestScale goes to a quarter, five quarters, a half and back.
func TestScale(t *testing.T) {
	long(t)
	needCommand(t, "scale")
	n := suite.size.origins
	in, l, f := loaded(t, fmt.Sprintf("scale %d, %d, %d, %d", n/4, n*5/4, n/2, n))
	now := n
	for round := range suite.rounds {
		f.rounds++
		for _, next := range []int{n / 4, n * 5 / 4, n / 2, n} {
			report(t, round+1, changeRound(t, in, l, f, now, next, "scale", strconv.Itoa(next)))
			now = next
		}
	}
	l.stop()
	f.checkBaseline(t, in)
}

// changeRound has one command change the origins from one number to another, with
// new names coming all the time, and has the streams move then, as streams do when
// their encoders are restarted.
func changeRound(t *testing.T, in *instance, l *load, f *fault, from, to int, command ...string) (wrong []string) {
	t.Helper()
	before := pidsOf(in.mustStatus())
	fresh := newcomersAt(in.rtmp, fmt.Sprintf("n%d", time.Now().UnixMilli()), 100*time.Millisecond)
	ready := watchReady(in)
	l.mark()
	start := time.Now()
	out, err := in.command(command...)
	took := time.Since(start)
	f.took.add(took)
	time.Sleep(felt)
	if err != nil {
		wrong = append(wrong, fmt.Sprintf("%s: %v: %.300s", strings.Join(command, " "), err, out))
	}
	wrong = append(wrong, l.unharmed(nil, f)...)
	wrong = append(wrong, l.move(f)...)
	wrong = append(wrong, fresh.end(f)...)
	if least, asked := ready.end(); least < min(from, to) || asked < 3 {
		wrong = append(wrong, fmt.Sprintf("%s: only %d origins were ready, from %d to %d (%d looks)", strings.Join(command, " "), least, from, to, asked))
	}
	wrong = append(wrong, in.awaitGone(to, f)...)
	if command[0] != "scale" && len(wrong) == 0 {
		for pid := range pidsOf(in.mustStatus()) {
			if before[pid] {
				wrong = append(wrong, fmt.Sprintf("%s: pid %d was not replaced", strings.Join(command, " "), pid))
			}
		}
	}
	return append(wrong, l.single()...)
}

// goneWithin is how long an origin may stay after its last stream has moved.
const goneWithin = 15 * time.Second

// awaitGone waits until there is nothing but the origins that are wanted.
func (in *instance) awaitGone(want int, f *fault) []string {
	start := time.Now()
	for {
		s, err := in.status()
		took := time.Since(start)
		switch {
		case err == nil && len(s.Origins) == want && s.Totals.Ready == want:
			f.gone.add(took)
			return nil
		case took > goneWithin:
			wrong := []string{fmt.Sprintf("%s after the streams have moved: error %v, %d origins, %d ready, %d wanted: %s",
				goneWithin, err, len(s.Origins), s.Totals.Ready, want, s.going())}
			streams := in.streams()
			for _, o := range s.Origins {
				if o.Role != "" {
					wrong = append(wrong, fmt.Sprintf("%s still has a publisher of %q", o.ID, streams[o.ID]))
				}
			}
			return wrong
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func pidsOf(s status) map[int]bool {
	pids := make(map[int]bool)
	for _, o := range s.Origins {
		pids[o.PID] = true
	}
	return pids
}

// going are the origins that should be gone.
func (s status) going() string {
	var names []string
	for _, o := range s.Origins {
		if o.Role != "" || o.State != "ready" {
			names = append(names, fmt.Sprintf("%s %s %s %s", o.ID, o.Role, o.State, o.Reason))
		}
	}
	return strings.Join(names, "; ")
}

// move has every stream begin anew, one after the other, and proves that it is let
// in and that its players find it.
func (l *load) move(f *fault) (wrong []string) {
	l.mark()
	for _, p := range l.pubs {
		p.again()
		time.Sleep(5 * time.Millisecond)
	}
	limit := time.Now().Add(3 * afterDeath.frames)
	begun := make(map[string]time.Time)
	for _, p := range l.pubs {
		_, at, refused := p.await(limit)
		begun[p.name] = at
		if len(refused) > 0 || at.IsZero() {
			f.refused += len(refused)
			wrong = append(wrong, fmt.Sprintf("%s was refused when its encoder was restarted: %.300q", p.name, refused))
		}
	}
	split := make(map[string]bool)
	defer func() { l.mend(split) }()
	for _, p := range l.players {
		at := p.await(l.session, l.marked.Add(2*afterDeath.frames))
		if at.IsZero() && !begun[p.name].IsZero() && (split[p.name] || l.in.isSplit(p.name)) {
			split[p.name] = true
			continue
		}
		if at.IsZero() {
			at = p.await(l.session, limit)
		}
		took := at.Sub(begun[p.name])
		switch {
		case at.IsZero() || begun[p.name].IsZero():
			wrong = append(wrong, fmt.Sprintf("a player (%s) of %s did not see its encoder's next session", p.kind(), p.name))
			continue
		case took > afterDeath.frames:
			wrong = append(wrong, fmt.Sprintf("a player (%s) of %s saw its encoder's next session after %s, %s are allowed", p.kind(), p.name, ms(took), afterDeath.frames))
		}
		f.frames.add(max(0, took))
	}
	return wrong
}

// readyWatch looks all the time how many origins are ready.
type readyWatch struct {
	stop, done chan struct{}
	least, n   int // valid after done
}

func watchReady(in *instance) *readyWatch {
	w := &readyWatch{stop: make(chan struct{}), done: make(chan struct{}), least: 1 << 30}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			if s, err := in.status(); err == nil {
				w.least = min(w.least, s.Totals.Ready)
				w.n++
			}
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

func (w *readyWatch) end() (least, looks int) {
	close(w.stop)
	<-w.done
	return w.least, w.n
}
