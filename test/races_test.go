package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Each name is published through one proxy and played through the other at the same moment,
// the first that anybody hears of it. Both sessions must be on one of eight origins.
func TestFirstPublishAndPlayRace(t *testing.T) {
	t.Parallel()
	races := 200
	if suite.faults {
		races = 1000
	}
	const atOnce = 25
	s := newShared(t, places{}, 8)
	used := make(map[string]int)
	var failed failures
	for first := 0; first < races; first += atOnce {
		var peers [2 * atOnce]*peer
		gate := make(chan struct{})
		var all sync.WaitGroup
		for i := range peers {
			race := first + i/2
			name, in := fmt.Sprint("race", race), s.proxies[(race+i)%2]
			all.Go(func() {
				<-gate
				var err error
				if i%2 == 0 {
					peers[i], err = openPublish(in.rtmp(), "rtmp://"+in.rtmp()+"/live", name)
				} else {
					peers[i], err = openPlay(in.rtmp(), "rtmp://"+in.rtmp()+"/live", name)
				}
				failed.add(err, "%s, session %d", name, i%2)
			})
		}
		close(gate)
		all.Wait()
		homes := sessionsAt(t, s.origins)
		for i := range atOnce {
			name := fmt.Sprint("race", first+i)
			if at := homes[name]; len(at) != 2 || at[0] != at[1] {
				t.Errorf("%s has sessions at %v, want two at one origin", name, at)
			} else {
				used[at[0]]++
			}
		}
		for _, p := range peers {
			if p != nil {
				p.conn.Close()
			}
		}
	}
	failed.report(t, 2*races)
	least, most := races, 0
	for _, n := range used {
		least, most = min(least, n), max(most, n)
	}
	t.Logf("%d races; %d origins used, for %d to %d streams", races, len(used), least, most)
	if len(used) != len(s.origins) {
		t.Errorf("%d of %d origins were used", len(used), len(s.origins))
	}
}

// sessionsAt are the addresses of the origins that have sessions of a stream, by its name.
func sessionsAt(t *testing.T, origins []*outside) map[string][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	at := make(map[string][]string)
	for _, o := range origins {
		r := get(t, ctx, "http://"+o.api+"/api/v1/clients/?count=1000", nil)
		var reply struct {
			Clients []struct{ Name, URL string }
		}
		if err := json.Unmarshal(r.body, &reply); err != nil || r.code != http.StatusOK {
			t.Fatalf("%s: %d %v", o.api, r.code, err)
		}
		for _, c := range reply.Clients {
			name := c.URL[strings.LastIndexByte(c.URL, '/')+1:]
			at[name] = append(at[name], o.addr)
		}
	}
	return at
}

// An origin dies. Both proxies publish its streams elsewhere within a second, that of the
// heartbeats, and of a check, would be far longer.
func TestKilledOriginOfTwoProxies(t *testing.T) {
	t.Parallel()
	rounds := 3
	if suite.faults {
		rounds = 20
	}
	s := newShared(t, places{}, 4)
	var took []time.Duration
	for round := range rounds {
		victim, names := togetherAt(t, s, round)
		var slowest [2]time.Duration
		killed := time.Now()
		victim.signal(syscall.SIGKILL)
		var both sync.WaitGroup
		var pubs [2]*publisher
		for i, in := range s.proxies {
			both.Go(func() {
				// Through the other proxy than before.
				for pubs[i] == nil && time.Since(killed) < readyWithin {
					pubs[i], _ = startPublisher(in.rtmp(), "rtmp://"+in.rtmp()+"/live", names[1-i])
				}
				slowest[i] = time.Since(killed)
			})
		}
		both.Wait()
		for i, pub := range pubs {
			if pub == nil {
				t.Fatalf("round %d: %s is not published through proxy %d", round, names[1-i], i)
			}
			s.proxies[1-i].playRTMP(t, names[1-i]).awaitFrames(t, 3, 15*time.Second)
			pub.stop()
		}
		took = append(took, slowest[:]...)
		victim.run()
		for _, in := range s.proxies {
			in.waitOrigins(len(s.origins), len(s.origins), readyWithin)
		}
	}
	slices.Sort(took)
	t.Logf("%d kills, published through both proxies after %s at the median and %s at most", rounds, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if most := took[len(took)-1]; most > time.Second {
		t.Errorf("published %s after the kill, want 1s", most)
	}
}

// togetherAt publishes through both proxies until an origin has a stream of each, and
// returns it and the two names.
func togetherAt(t *testing.T, s *shared, round int) (home *outside, names [2]string) {
	t.Helper()
	at := make(map[*outside]*[2]string)
	for i := range 16 * len(s.origins) {
		name := fmt.Sprintf("kill%d-%d", round, i)
		through := rand.IntN(2) // in turn, each proxy could always meet the same origins
		pub := s.proxies[through].publish(t, name)
		o, _ := homeOf(t, name, s.origins...)
		if at[o] == nil {
			at[o] = new([2]string)
		}
		if at[o][through] == "" {
			at[o][through] = name
		} else {
			pub.stop()
		}
		if at[o][0] != "" && at[o][1] != "" {
			return o, *at[o]
		}
	}
	t.Fatal("no origin has a stream of each proxy")
	return nil, names
}
