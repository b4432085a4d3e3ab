package httpserver

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"srs-proxy/balancer"
)

var sourceA = source{origin: "o0", service: "s", stream: balancer.Stream{Vhost: balancer.DefaultVhost, App: "live", Name: "a"}}

// mediaPlaylist is as SRS writes one.
func mediaPlaylist(first, last int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:%d\n#EXT-X-TARGETDURATION:2\n", first)
	for n := first; n <= last; n++ {
		fmt.Fprintf(&b, "#EXTINF:2.000, no desc\na-%d.ts?hls_ctx=x\n", n)
	}
	return []byte(b.String())
}

// epochID is the stream's epoch, 0 for none.
func (c *segments) epochID(src source) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.epochs[src]; e != nil {
		return e.id
	}
	return 0
}

func TestEpochs(t *testing.T) {
	type poll struct {
		wait, took  time.Duration // before it is asked for; until it has come
		first, last int
		fresh       bool // it begins an epoch
	}
	const ms = time.Millisecond
	for name, polls := range map[string][]poll{
		"goes on":                   {{0, ms, 90, 99, true}, {2 * time.Second, ms, 91, 100, false}, {0, ms, 91, 100, false}, {20 * time.Second, ms, 95, 104, false}},
		"starts over":               {{0, ms, 90, 99, true}, {5 * time.Second, ms, 0, 0, true}},
		"goes back by one":          {{0, ms, 90, 99, true}, {ms, ms, 90, 98, true}},
		"unseen for too long":       {{0, ms, 90, 99, true}, {24751 * ms, ms, 91, 100, true}},
		"a slow answer counts too":  {{0, ms, 90, 99, true}, {100 * ms, 24700 * ms, 91, 100, true}},
		"one segment is any":        {{0, ms, 0, 0, true}, {ms, ms, 0, 0, true}, {ms, ms, 0, 1, true}, {50 * ms, ms, 0, 1, false}},
		"unseen for a minute":       {{0, ms, 90_000, 90_009, true}, {59 * time.Second, ms, 90_001, 90_010, false}, {61 * time.Second, ms, 90_002, 90_011, true}},
		"the numbers begin high up": {{0, ms, 1_700_000_000, 1_700_000_003, true}, {time.Second, ms, 1_700_000_001, 1_700_000_004, false}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newSegments(1 << 20)
				defer c.setLimit(0)
				var last uint64
				for i, p := range polls {
					time.Sleep(p.wait)
					asked := time.Now()
					time.Sleep(p.took)
					c.observe(sourceA, mediaPlaylist(p.first, p.last), asked)
					id := c.epochID(sourceA)
					if (id != last) != p.fresh {
						t.Errorf("poll %d: epoch %d after %d", i, id, last)
					}
					last = id
				}
			})
		})
	}
}

// Of two polls at the same time the older answer may come last. That is no restart.
func TestEpochOvertaken(t *testing.T) {
	for name, tt := range map[string]struct {
		late  int
		fresh bool
	}{"the list before": {99, false}, "an older one": {98, true}, "a new sequence": {0, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newSegments(1 << 20)
				defer c.setLimit(0)
				c.observe(sourceA, mediaPlaylist(90, 99), time.Now())
				time.Sleep(time.Second)
				first := time.Now()
				time.Sleep(time.Millisecond)
				c.observe(sourceA, mediaPlaylist(91, 100), time.Now())
				id := c.epochID(sourceA)
				time.Sleep(time.Millisecond)
				c.observe(sourceA, mediaPlaylist(max(0, tt.late-9), tt.late), first)
				if got := c.epochID(sourceA); (got != id) != tt.fresh {
					t.Errorf("epoch %d after %d", got, id)
				}
			})
		})
	}
}

// Streams that nobody watches any more are forgotten, lists too large are not kept.
func TestEpochsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSegments(1 << 20)
		defer c.setLimit(0)
		c.observe(sourceA, mediaPlaylist(90, 99), time.Now())
		c.observe(source{origin: "o1"}, mediaPlaylist(0, 2000), time.Now())
		if c.epochID(sourceA) != 1 || c.epochID(source{origin: "o1"}) != 0 || c.Stats().Held == 0 {
			t.Errorf("epochs %d and %d, %+v", c.epochID(sourceA), c.epochID(source{origin: "o1"}), c.Stats())
		}
		time.Sleep(50 * time.Second)
		c.observe(sourceA, mediaPlaylist(700, 799), time.Now())
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if c.epochID(sourceA) == 0 {
			t.Error("forgotten while it was watched")
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if c.epochID(sourceA) != 0 || c.Stats().Held != 0 {
			t.Errorf("epoch %d, %+v", c.epochID(sourceA), c.Stats())
		}
	})
}

// fakeSRS is an origin that numbers segments from 0 in each publish and leaves the files of
// the one before where they are, until it comes to their names: SRS with hls_dispose 0.
type fakeSRS struct {
	publish, last int
	files         map[string]int // name to publish
	born          time.Time      // of the last segment
}

func (o *fakeSRS) cut() {
	o.last++
	o.files[fmt.Sprintf("a-%d.ts", o.last)] = o.publish
	o.born = time.Now()
}

// Viewers of any pace over two proxies, restarts at any time: nobody who has read the playlist of one
// publish gets a segment of an earlier one. Time is fake, so that a run of hours takes a moment.
func TestNoSegmentOfAnEarlierPublish(t *testing.T) {
	for seed := range uint64(15) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			between := func(from, to time.Duration) time.Duration { return from + time.Duration(rnd.Int64N(int64(to-from))) }
			proxies := []*segments{newSegments(1 << 20), newSegments(1 << 20)}
			defer proxies[0].setLimit(0)
			defer proxies[1].setLimit(0)
			o := &fakeSRS{last: -1, files: make(map[string]int)}
			type viewer struct {
				next    time.Time
				pace    time.Duration
				publish int      // whose playlist it has read
				names   []string // that it has not fetched yet
			}
			viewers := make([]*viewer, 1+rnd.IntN(8))
			for i := range viewers {
				viewers[i] = &viewer{pace: between(5*time.Millisecond, 4*time.Second)}
			}
			// At worst segments follow each other as fast as they may, and so do publishes.
			slow := []time.Duration{1, 2, 20}[seed%3]
			fragment := between(segmentLeast, slow*segmentLeast+1)
			over := time.Now().Add(between(time.Second, 3*slow*time.Second))
			shared, asked := 0, 0
			for range 10_000 {
				time.Sleep(between(time.Millisecond, 40*time.Millisecond))
				now := time.Now()
				if now.After(over) { // the next publish, at once or after a while
					o.publish, o.last = o.publish+1, -1
					over = now.Add(between(100*time.Millisecond, 3*slow*time.Second))
					fragment = between(segmentLeast, slow*segmentLeast+1)
					o.born = now.Add(between(-fragment, slow*100*time.Millisecond))
				}
				if now.Sub(o.born) >= fragment {
					o.cut()
				}
				v := viewers[rnd.IntN(len(viewers))]
				c := proxies[rnd.IntN(2)]
				switch {
				case now.Before(v.next) || o.last < 0:
				case len(v.names) == 0:
					v.next = now.Add(v.pace)
					v.publish = o.publish
					first := max(0, o.last-9)
					for n := first; n <= o.last; n++ {
						v.names = append(v.names, fmt.Sprintf("a-%d.ts", n))
					}
					rnd.Shuffle(len(v.names), func(i, j int) { v.names[i], v.names[j] = v.names[j], v.names[i] })
					c.observe(sourceA, mediaPlaylist(first, o.last), now)
				default:
					name := v.names[0]
					v.names = v.names[1:]
					key := segmentKey{source: sourceA, path: "/live/" + name}
					f, first := c.join(t.Context(), key)
					asked++
					if f == nil {
						continue
					}
					if first {
						f.answer(200, nil, 2)
						binary.BigEndian.PutUint16(f.body, uint16(o.files[name]))
						f.grow(2, nil)
						c.finish(f, true)
					} else if shared++; int(binary.BigEndian.Uint16(f.body)) < v.publish {
						t.Errorf("seed %d: %s of publish %x for who has read the playlist of %d", seed, name, f.body, v.publish)
					}
					c.leave(f, first)
				}
			}
			if shared == 0 && len(viewers) > 2 {
				t.Errorf("seed %d: nothing was shared in %d requests of %d viewers", seed, asked, len(viewers))
			}
		})
	}
}
