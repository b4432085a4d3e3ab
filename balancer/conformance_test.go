package balancer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"
)

// Conformance is what every implementation must do. open returns an empty
// balancer whose pins idle for idle.
func Conformance(t *testing.T, open func(t *testing.T, idle time.Duration) Balancer) {
	for name, test := range map[string]func(t *testing.T, open func(time.Duration) Balancer){
		"no origin":                           testNoOrigin,
		"sticky":                              testSticky,
		"concurrent first picks agree":        testFirstPicksAgree,
		"removed at once":                     testRemove,
		"a replaced process has no streams":   testReplaced,
		"stale release":                       testStaleRelease,
		"idle pin waits for its publisher":    testIdle,
		"a pin without publisher goes":        testNeverPublished,
		"refused again and again":             testRefused,
		"refused when it comes back":          testRefusedOnReturn,
		"draining":                            testDraining,
		"excluded":                            testExcluded,
		"dial failures eject":                 testEjection,
		"never more than half ejected":        testEjectionBound,
		"spread":                              testSpread,
		"cpu counts":                          testCPU,
		"lookup is stateless and consistent":  testLookup,
		"lookup moves only the lost":          testLookupMoves,
		"routes":                              testRoutes,
		"the vhost, app and name are the key": testKey,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func(idle time.Duration) Balancer { return open(t, idle) })
		})
	}
}

var ctx = context.Background()

func stream(name string) Stream { return Stream{Vhost: DefaultVhost, App: "live", Name: name} }

func addOrigins(t *testing.T, b Balancer, n int) {
	t.Helper()
	for i := range n {
		o := Origin{ID: fmt.Sprintf("o%03d", i), Service: "first", Endpoints: Endpoints{RTMP: fmt.Sprintf("127.0.0.1:%d", 20000+i)}}
		if err := b.Update(ctx, o); err != nil {
			t.Fatal(err)
		}
	}
}

func pick(t *testing.T, b Balancer, name string, role Role, exclude ...string) Lease {
	t.Helper()
	l, err := b.Pick(ctx, Request{Stream: stream(name), Role: role, Exclude: exclude})
	if err != nil {
		t.Fatalf("pick %s: %v", name, err)
	}
	return l
}

func release(t *testing.T, b Balancer, l Lease) {
	t.Helper()
	if err := b.Release(ctx, l); err != nil {
		t.Fatal(err)
	}
}

func statuses(t *testing.T, b Balancer) map[string]Status {
	t.Helper()
	list, err := b.Origins(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]Status)
	for _, s := range list {
		m[s.ID] = s
	}
	return m
}

func testNoOrigin(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	if _, err := b.Pick(ctx, Request{Stream: stream("a")}); !errors.Is(err, ErrNoOrigin) {
		t.Errorf("pick: %v", err)
	}
	if _, err := b.Lookup(ctx, stream("a")); !errors.Is(err, ErrNoOrigin) {
		t.Errorf("lookup: %v", err)
	}
	if err := b.Remove(ctx, "unknown"); err != nil {
		t.Errorf("remove: %v", err)
	}
	if err := b.Update(ctx, Origin{}); err == nil {
		t.Error("an origin without id was taken")
	}
}

func testSticky(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 8)
	first := pick(t, b, "a", Publish)
	for range 20 {
		if l := pick(t, b, "a", Play); l.Origin.ID != first.Origin.ID || l.Pin != first.Pin {
			t.Fatalf("play went to %s, publish to %s", l.Origin.ID, first.Origin.ID)
		}
	}
	if first.Origin.Endpoints.RTMP == "" || first.Stream != stream("a") || first.Role != Publish {
		t.Errorf("lease %+v", first)
	}
	s := statuses(t, b)[first.Origin.ID]
	if s.Streams != 1 || s.Publishers != 1 || s.Players != 20 {
		t.Errorf("status %+v", s)
	}
}

// Load-then-store split first publish and first play (defect 7 of the existing proxy).
func testFirstPicksAgree(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 8)
	leases := make([]Lease, 1000)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range leases {
		wg.Go(func() {
			<-start
			l, err := b.Pick(ctx, Request{Stream: stream("a"), Role: Role(i % 2)})
			if err != nil {
				t.Error(err)
			}
			leases[i] = l
		})
	}
	close(start)
	wg.Wait()
	for _, l := range leases {
		if l.Origin.ID != leases[0].Origin.ID {
			t.Fatalf("two origins: %s and %s", l.Origin.ID, leases[0].Origin.ID)
		}
		release(t, b, l)
	}
	for _, s := range statuses(t, b) {
		if s.Publishers != 0 || s.Players != 0 {
			t.Errorf("after the last release: %+v", s)
		}
	}
}

// A killed origin kept its streams (defect 6 of the existing proxy).
func testRemove(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 3)
	old := pick(t, b, "a", Publish)
	if err := b.Remove(ctx, old.Origin.ID); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		l := pick(t, b, "a", Publish)
		if l.Origin.ID == old.Origin.ID {
			t.Fatal("picked a removed origin")
		}
	}
	if _, ok := statuses(t, b)[old.Origin.ID]; ok {
		t.Error("still listed")
	}
	for i := range 50 {
		if o, err := b.Lookup(ctx, stream(fmt.Sprint(i))); err != nil || o.ID == old.Origin.ID {
			t.Fatalf("lookup: %v, %v", o.ID, err)
		}
	}
}

func testReplaced(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 1)
	old := pick(t, b, "a", Publish)
	if err := b.Update(ctx, Origin{ID: "o000", Service: "second"}); err != nil {
		t.Fatal(err)
	}
	if s := statuses(t, b)["o000"]; s.Streams != 0 || s.Publishers != 0 {
		t.Errorf("status %+v", s)
	}
	if l := pick(t, b, "a", Publish); l.Pin == old.Pin {
		t.Error("the pin of the dead process was given out")
	}
}

func testRefused(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 2)
	player := pick(t, b, "a", Play)
	home := player.Origin.ID
	refused := func() {
		t.Helper()
		l := pick(t, b, "a", Publish)
		if l.Origin.ID != home {
			t.Fatalf("sent to %s, its player is on %s", l.Origin.ID, home)
		}
		l.Refused = true
		release(t, b, l)
	}
	for range MaxRefusals - 1 {
		refused()
	}
	nothing := pick(t, b, "a", Publish) // this one never came to that
	release(t, b, nothing)
	first := pick(t, b, "a", Publish)
	for range MaxRefusals { // a second publisher is refused for a reason
		refused()
	}
	release(t, b, first)
	refused()
	moved := pick(t, b, "a", Publish)
	if moved.Origin.ID == home {
		t.Error("sent to where it was refused")
	}
	if l := pick(t, b, "a", Play); l.Origin.ID != moved.Origin.ID {
		t.Errorf("a new player is sent to %s, its publisher is on %s", l.Origin.ID, moved.Origin.ID)
	}
	release(t, b, player)
	if s := statuses(t, b)[home]; s.Streams != 0 || s.Publishers != 0 || s.Players != 0 {
		t.Errorf("left behind: %+v", s)
	}
	// With nowhere else to go it stays.
	if err := b.Remove(ctx, home); err != nil {
		t.Fatal(err)
	}
	home = moved.Origin.ID
	release(t, b, moved)
	for range MaxRefusals + 1 {
		refused()
	}
}

// A publisher that was served here a moment ago is sent on at its first refusal.
func testRefusedOnReturn(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	const origins = 4
	addOrigins(t, b, origins)
	player := pick(t, b, "a", Play)
	refused := func() string {
		t.Helper()
		l := pick(t, b, "a", Publish)
		l.Refused = true
		release(t, b, l)
		return l.Origin.ID
	}
	refused()
	if home := refused(); home != player.Origin.ID {
		t.Fatalf("sent to %s after one refusal", home)
	}
	served := pick(t, b, "a", Publish)
	served.Served = true
	release(t, b, served)
	if home := refused(); home != player.Origin.ID {
		t.Fatalf("sent to %s before it was refused", home)
	}
	after := pick(t, b, "a", Publish)
	if after.Origin.ID == player.Origin.ID {
		t.Error("sent back to where it was refused")
	}
	if after.Pin <= player.Pin {
		t.Errorf("the new pin %d is not above the old one %d", after.Pin, player.Pin)
	}
	// Another origin that has had the stream may refuse it for the same reason: it goes
	// to each once before it comes to one again.
	asked := []string{player.Origin.ID}
	for l := after; ; l = pick(t, b, "a", Publish) {
		if slices.Contains(asked, l.Origin.ID) {
			t.Fatalf("%s is asked again after %q", l.Origin.ID, asked)
		}
		asked = append(asked, l.Origin.ID)
		l.Refused = true
		release(t, b, l)
		if len(asked) == origins {
			break
		}
	}
	if l := pick(t, b, "a", Publish); l.Origin.ID == asked[len(asked)-1] {
		t.Error("with all of them asked it stays where it was refused last")
	}
}

func testStaleRelease(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 2)
	old := pick(t, b, "a", Publish)
	if err := b.Remove(ctx, old.Origin.ID); err != nil {
		t.Fatal(err)
	}
	now := pick(t, b, "a", Publish)
	release(t, b, old)
	if s := statuses(t, b)[now.Origin.ID]; s.Publishers != 1 || s.Streams != 1 {
		t.Errorf("the release of a dead origin's lease changed the new pin: %+v", s)
	}
}

func testIdle(t *testing.T, open func(time.Duration) Balancer) {
	const idle = 400 * time.Millisecond
	b := open(idle)
	addOrigins(t, b, 8)
	first := pick(t, b, "a", Publish)
	release(t, b, first)
	again := pick(t, b, "a", Publish)
	if again.Origin.ID != first.Origin.ID {
		t.Fatal("a publisher that came back was moved")
	}
	if o, err := b.Lookup(ctx, stream("a")); err != nil || o.ID != first.Origin.ID {
		t.Fatalf("lookup: %v, %v", o.ID, err)
	}
	release(t, b, again)
	eventually(t, 10*idle, func() bool { return statuses(t, b)[first.Origin.ID].Streams == 0 })
}

// A flood of made-up names must leave nothing (defect 7: pinned for ever).
func testNeverPublished(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Hour)
	addOrigins(t, b, 4)
	for i := range 500 {
		release(t, b, pick(t, b, fmt.Sprintf("made-up-%d", i), Play))
	}
	for _, s := range statuses(t, b) {
		if s.Streams != 0 {
			t.Errorf("left behind: %+v", s)
		}
	}
}

func testDraining(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 2)
	live := pick(t, b, "live", Publish)
	for name := range 100 { // an idle pin on the same origin
		l := pick(t, b, fmt.Sprint("idle", name), Publish)
		release(t, b, l)
		if l.Origin.ID != live.Origin.ID {
			continue
		}
		if err := b.Update(ctx, Origin{ID: live.Origin.ID, Service: "first", State: Draining}); err != nil {
			t.Fatal(err)
		}
		if p := pick(t, b, "live", Play); p.Origin.ID != live.Origin.ID {
			t.Error("a player did not follow the live publisher")
		}
		if p := pick(t, b, l.Stream.Name, Publish); p.Origin.ID == live.Origin.ID {
			t.Error("a stream without sessions stayed on a draining origin")
		}
		for i := range 20 {
			if p := pick(t, b, fmt.Sprint("new", i), Publish); p.Origin.ID == live.Origin.ID {
				t.Error("a new stream went to a draining origin")
			}
		}
		return
	}
	t.Fatal("no second stream on the origin")
}

func testExcluded(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 3)
	first := pick(t, b, "a", Play)
	moved := pick(t, b, "a", Publish, first.Origin.ID)
	if moved.Origin.ID == first.Origin.ID {
		t.Fatal("picked an excluded origin")
	}
	if p := pick(t, b, "a", Play); p.Origin.ID != moved.Origin.ID {
		t.Error("a player did not follow the moved stream")
	}
	if _, err := b.Pick(ctx, Request{Stream: stream("a"), Role: Play, Exclude: []string{moved.Origin.ID}}); !errors.Is(err, ErrOwnerUnreachable) {
		t.Errorf("a stream with a live publisher would have been split: %v", err)
	}
	release(t, b, first)
	if s := statuses(t, b)[first.Origin.ID]; s.Players != 0 || s.Streams != 0 {
		t.Errorf("the old pin is left: %+v", s)
	}
	if _, err := b.Pick(ctx, Request{Stream: stream("b"), Exclude: []string{"o000", "o001", "o002"}}); !errors.Is(err, ErrNoOrigin) {
		t.Errorf("all excluded: %v", err)
	}
}

func testEjection(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 3)
	refused := errors.New("connection refused")
	for range 3 {
		b.ReportDial(ctx, "o001", refused)
	}
	b.ReportDial(ctx, "unknown", refused)
	until := statuses(t, b)["o001"].EjectedUntil
	if left := time.Until(until); left < 3*time.Second || left > 5*time.Second {
		t.Errorf("ejected for %v, want 5 s", left)
	}
	for i := range 50 {
		if l := pick(t, b, fmt.Sprint(i), Publish); l.Origin.ID == "o001" {
			t.Fatal("picked an ejected origin")
		}
	}
	b.ReportDial(ctx, "o001", nil)
	if s := statuses(t, b)["o001"]; !s.EjectedUntil.IsZero() {
		t.Error("a success did not clear the ejection")
	}
	b.ReportDial(ctx, "o002", refused)
	b.ReportDial(ctx, "o002", refused)
	b.ReportDial(ctx, "o002", nil)
	b.ReportDial(ctx, "o002", refused)
	if s := statuses(t, b)["o002"]; !s.EjectedUntil.IsZero() {
		t.Error("failures that were not in a row ejected")
	}
}

func testEjectionBound(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 5)
	for id := range statuses(t, b) {
		for range 5 {
			b.ReportDial(ctx, id, errors.New("connection refused"))
		}
	}
	ejected := 0
	for _, s := range statuses(t, b) {
		if !s.EjectedUntil.IsZero() {
			ejected++
		}
	}
	if ejected != 2 {
		t.Errorf("%d of 5 ejected, want 2", ejected)
	}
}

// 64 streams at once over 8 origins: no more than 2 between the fullest and the emptiest.
func testSpread(t *testing.T, open func(time.Duration) Balancer) {
	for round := range 20 {
		b := open(time.Minute)
		addOrigins(t, b, 8)
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				if _, err := b.Pick(ctx, Request{Stream: stream(fmt.Sprint(i)), Role: Publish}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		least, most := math.MaxInt, 0
		for _, s := range statuses(t, b) {
			least, most = min(least, s.Streams), max(most, s.Streams)
		}
		if most-least > 2 {
			t.Fatalf("round %d: %d and %d streams", round, least, most)
		}
	}
}

func testCPU(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 2)
	if err := b.Update(ctx, Origin{ID: "o000", Service: "first", Load: Load{CPU: 0.9}}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if l := pick(t, b, fmt.Sprint(i), Publish); l.Origin.ID == "o000" {
			t.Fatal("a new stream went to an origin at 90 % of its core")
		}
	}
}

func testLookup(t *testing.T, open func(time.Duration) Balancer) {
	b, other := open(time.Minute), open(time.Minute)
	addOrigins(t, b, 16)
	addOrigins(t, other, 16)
	counts := make(map[string]int)
	for i := range 1600 {
		s := stream(fmt.Sprint("name", i))
		o, err := b.Lookup(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		o2, err := other.Lookup(ctx, s)
		if err != nil || o.ID != o2.ID {
			t.Fatalf("two answers: %s and %s, %v", o.ID, o2.ID, err)
		}
		counts[o.ID]++
	}
	for id, n := range counts {
		if n < 50 || n > 160 {
			t.Errorf("%s got %d of 1600 over 16", id, n)
		}
	}
	for _, s := range statuses(t, b) {
		if s.Streams != 0 {
			t.Errorf("a lookup left state: %+v", s)
		}
	}
}

func testLookupMoves(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 8)
	before := make(map[string]string)
	for i := range 400 {
		o, err := b.Lookup(ctx, stream(fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		before[fmt.Sprint(i)] = o.ID
	}
	if err := b.Remove(ctx, "o003"); err != nil {
		t.Fatal(err)
	}
	for name, id := range before {
		o, err := b.Lookup(ctx, stream(name))
		if err != nil {
			t.Fatal(err)
		}
		if id != "o003" && o.ID != id {
			t.Fatalf("%s moved from %s to %s though its origin lives", name, id, o.ID)
		}
	}
}

func testRoutes(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	want := Route{Stream: stream("a"), Origin: "o001"}
	if err := b.StoreRoute(ctx, RouteWebRTC, "ufrag", want, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got, err := b.LoadRoute(ctx, RouteWebRTC, "ufrag"); err != nil || got != want {
		t.Errorf("load: %+v, %v", got, err)
	}
	if _, err := b.LoadRoute(ctx, RouteHLS, "ufrag"); !errors.Is(err, ErrNoRoute) {
		t.Errorf("another kind: %v", err)
	}
	if err := b.StoreRoute(ctx, RouteHLS, "short", want, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func() bool {
		_, err := b.LoadRoute(ctx, RouteHLS, "short")
		return errors.Is(err, ErrNoRoute)
	})
}

func testKey(t *testing.T, open func(time.Duration) Balancer) {
	b := open(time.Minute)
	addOrigins(t, b, 8)
	pins := make(map[uint64]bool)
	for _, s := range []Stream{{"v", "live", "a"}, {"v", "live", "b"}, {"v", "app", "a"}, {"w", "live", "a"}, {"v", "live/a", "b"}} {
		l, err := b.Pick(ctx, Request{Stream: s, Role: Publish})
		if err != nil {
			t.Fatal(err)
		}
		pins[l.Pin] = true
	}
	if len(pins) != 5 {
		t.Errorf("5 streams share %d pins", len(pins))
	}
}

func eventually(t *testing.T, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so after %v", limit)
		}
	}
}
