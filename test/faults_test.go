package e2e

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"
)

// crowd are streams over all origins, with a player each over RTMP and HTTP-FLV through
// each instance.
type crowd struct {
	in      *instance
	pubs    map[string]*publisher
	players map[string][]*player
}

// newCrowd publishes through one instance after the other. Of what asks an instance, the
// first is meant.
func newCrowd(t *testing.T, in *instance, streams int, more ...*instance) *crowd {
	t.Helper()
	all := append([]*instance{in}, more...)
	c := &crowd{in, make(map[string]*publisher), make(map[string][]*player)}
	for i := range streams {
		name := fmt.Sprintf("c%02d", i)
		c.pubs[name] = all[i%len(all)].publish(t, name)
	}
	for name := range c.pubs {
		for _, in := range all {
			c.players[name] = append(c.players[name], in.playRTMP(t, name), in.playFLV(t, name))
		}
	}
	awaitFrames(t, 3, 10*time.Second, c.playersBut(nil)...)
	return c
}

// playersBut are those of all streams but some.
func (c *crowd) playersBut(names []string) (all []*player) {
	for name, p := range c.players {
		if !slices.Contains(names, name) {
			all = append(all, p...)
		}
	}
	return all
}

// fullest is an origin and the names on it.
func (c *crowd) fullest(t *testing.T) (originStatus, []string) {
	t.Helper()
	var best originStatus
	var names []string
	for _, o := range c.in.status().Origins {
		if got := o.publishing(t); len(got) > len(names) {
			best, names = o, got
		}
	}
	return best, names
}

// home is the origin that has a publisher of a stream, and how many have one.
func (in *instance) home(t *testing.T, name string) (id string, n int) {
	t.Helper()
	for _, o := range in.status().Origins {
		if o.State == "ready" && slices.Contains(o.publishing(t), name) {
			id = o.ID
			n++
		}
	}
	return id, n
}

// republish publishes a name as soon as its publisher was thrown out, as an
// encoder does, again and again until it is let in.
func (c *crowd) republish(t *testing.T, name string, closed, within time.Duration) (tries int, after time.Duration) {
	t.Helper()
	start := time.Now()
	select {
	case <-c.pubs[name].done:
	case <-time.After(closed):
		t.Fatalf("the publisher of %s was not closed within %s of its origin's death", name, closed)
	}
	t.Logf("%s: its publisher was closed %s after the fault", name, time.Since(start).Round(time.Millisecond))
	start = time.Now()
	var errs []error
	for time.Since(start) < within {
		tries++
		pub, err := startPublisher(c.in.rtmp(), "rtmp://"+c.in.rtmp()+"/live", name)
		if err == nil {
			t.Cleanup(pub.stop)
			c.pubs[name] = pub
			return tries, time.Since(start)
		}
		errs = append(errs, err)
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s cannot be published %s after its publisher was closed: %v", name, within, errors.Join(errs...))
	return 0, 0
}

// TestKillOrigin: kill -9 of an origin with four streams or more.
func TestKillOrigin(t *testing.T) {
	in := up(t, 3)
	c := newCrowd(t, in, 12)
	victim, names := c.fullest(t)
	if len(names) < 4 {
		t.Fatalf("the fullest of 3 origins has %d of 12 streams: %q", len(names), names)
	}
	t.Logf("killing %s, pid %d, with %q", victim.ID, victim.PID, names)

	start := time.Now()
	if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	out := eventually(t, 2*time.Second, "the slot is out of the balancer", func() (bool, string) {
		o := in.status().origin(victim.ID)
		return o.State != "ready" || o.PID != victim.PID, fmt.Sprintf("%+v", o)
	})
	t.Logf("status shows it after %s", out.Round(time.Millisecond))
	var worst time.Duration
	for _, name := range names {
		tries, after := c.republish(t, name, time.Second, 3*time.Second)
		worst = max(worst, after)
		home, n := in.home(t, name)
		t.Logf("%s: published again after %s, %d tries, on %s; %s after the kill", name, after.Round(time.Millisecond), tries, home, time.Since(start).Round(time.Millisecond))
		if n != 1 {
			t.Errorf("%s is on %d origins after the re-publish, want one", name, n)
		}
	}
	t.Logf("worst time of a re-publish: %s", worst.Round(time.Millisecond))
	// New names do not go to a dead origin either.
	for i := range 6 {
		in.publish(t, fmt.Sprintf("new%d", i))
	}
	back := eventually(t, 10*time.Second, "the slot is ready again, with one restart", func() (bool, string) {
		o := in.status().origin(victim.ID)
		return o.State == "ready" && o.PID != victim.PID && o.Restarts == 1, fmt.Sprintf("%+v", o)
	})
	t.Logf("the slot is ready again %s after the kill (waited %s)", time.Since(start).Round(time.Millisecond), back.Round(time.Millisecond))
	c.checkOthers(t, names)
	var again []*player
	for _, name := range names {
		again = append(again, in.playRTMP(t, name))
	}
	awaitFrames(t, 5, 10*time.Second, again...)
}

// checkOthers proves that the players of all other streams saw nothing of it.
func (c *crowd) checkOthers(t *testing.T, hit []string) {
	t.Helper()
	others := c.playersBut(hit)
	awaitFrames(t, 15, 10*time.Second, others...)
	var worst time.Duration
	for _, p := range others {
		p.checkNoGap(t)
		worst = max(worst, p.seen().late)
	}
	for name, pub := range c.pubs {
		select {
		case <-pub.done:
			t.Errorf("the publisher of %s was disconnected: %v", name, pub.err)
		default:
		}
	}
	t.Logf("the latest of the other origins' frames came %s after it was sent", worst.Round(time.Millisecond))
}

// TestHungOrigin: an origin that is there and does nothing (SIGSTOP).
func TestHungOrigin(t *testing.T) {
	in := up(t, 3)
	c := newCrowd(t, in, 6)
	victim, names := c.fullest(t)
	start := time.Now()
	if err := syscall.Kill(victim.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		tries, after := c.republish(t, name, 12*time.Second, 3*time.Second)
		t.Logf("%s: published again after %s, %d tries; %s after the hang", name, after.Round(time.Millisecond), tries, time.Since(start).Round(time.Millisecond))
	}
	eventually(t, 15*time.Second, "the slot is ready again, with one restart", func() (bool, string) {
		o := in.status().origin(victim.ID)
		return o.State == "ready" && o.PID != victim.PID && o.Restarts == 1, fmt.Sprintf("%+v", o)
	})
	c.checkOthers(t, names)
}
