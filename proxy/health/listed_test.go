package health

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"srs-proxy/balancer"
	"srs-proxy/testkit"
)

func listing(n int) Listing { return Listing{Endpoints: balancer.Endpoints{RTMP: addr(n)}} }

func (b *bench) list(origins ...int) {
	var all []Listing
	for _, n := range origins {
		all = append(all, listing(n))
	}
	b.m.List(b.t.Context(), all)
}

func (b *bench) release(l balancer.Lease) {
	b.t.Helper()
	if err := b.bal.Release(b.t.Context(), l); err != nil {
		b.t.Fatal(err)
	}
}

// Another list: who is new is asked first, who is gone and has no sessions is forgotten
// at once, and who has some drains. Listed again it is as before.
func TestListAgain(t *testing.T) {
	for _, shared := range []bool{false, true} {
		within(t, Config{Shared: shared}, func(b *bench) {
			b.list(1)
			time.Sleep(time.Second)
			l := b.publish("x")
			b.list(1, 2)
			time.Sleep(2 * time.Second)
			b.want("two", "1(1) 2 ")
			b.list(3)
			b.want("both are listed no more", "1-(1) ")
			if m := b.m.Members(); len(m) != 2 || !m[0].Unlisted || m[1].Unlisted {
				t.Errorf("%+v", m)
			}
			time.Sleep(2 * time.Second)
			b.want("the new one answers", "1-(1) 3 ")
			b.list(1, 3)
			b.want("listed again", "1(1) 3 ")
			b.list(3)
			time.Sleep(2 * DefaultTTL) // whatever that is
			b.want("listed no more, with a session", "1-(1) 3 ")
			b.release(l)
			time.Sleep(time.Second)
			b.want("without", "3 ")
			if n := len(b.m.Members()); n != 1 {
				t.Errorf("%d are known", n)
			}
		})
	}
}

// One that registers and was listed as well goes by its heartbeats when it is not.
func TestListedAndRegistered(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		b.m.List(b.t.Context(), []Listing{{Name: "a", Endpoints: balancer.Endpoints{RTMP: addr(1), HTTP: "10.0.0.1:8080"}}})
		time.Sleep(time.Second)
		b.register(1, "a")
		b.list()
		time.Sleep(DefaultTTL - 2*time.Second)
		if m := b.m.Members(); len(m) != 1 || m[0].ID != "a" || m[0].Static {
			t.Errorf("%+v", m)
		}
		b.register(1, "a")
		if all, err := b.bal.Origins(b.t.Context()); err != nil || len(all) != 1 || all[0].ID != "a" || all[0].State != balancer.Up {
			t.Errorf("%+v %v", all, err)
		}
		time.Sleep(DefaultTTL + time.Second)
		if m := b.m.Members(); len(m) != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// A name that is at another address now: as long as the one before has sessions, they
// have different IDs.
func TestListedNameMoves(t *testing.T) {
	within(t, Config{}, func(b *bench) {
		at := func(n int) []Listing {
			return []Listing{{Name: "a", Endpoints: balancer.Endpoints{RTMP: addr(n)}}}
		}
		ids := func(when string, want ...string) {
			t.Helper()
			var got []string
			for _, m := range b.m.Members() {
				got = append(got, m.ID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		b.m.List(b.t.Context(), at(1))
		time.Sleep(time.Second)
		b.m.List(b.t.Context(), at(2))
		ids("moved without sessions", "a")
		time.Sleep(time.Second)
		b.publish("x")
		b.m.List(b.t.Context(), at(3))
		ids("moved with a session", addr(3), "a")
	})
}

// names is DNS as a test has it.
type names struct {
	mu    sync.Mutex // guards the following
	has   []netip.Addr
	err   error
	asked int
}

func (n *names) lookup(context.Context, string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return slices.Clone(n.has), n.err
}

// set is what is answered from now on; how often was asked before is told.
func (n *names) set(err error, ips ...string) (asked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.has, n.err = nil, err
	for _, ip := range ips {
		n.has = append(n.has, netip.MustParseAddr(ip))
	}
	asked, n.asked = n.asked, 0
	return asked
}

var errNoHost = errors.New("no such host")

// A host name is an origin at each of its addresses, which come and go.
func TestListedByName(t *testing.T) {
	var dns names
	var log testkit.Log
	within(t, Config{Lookup: dns.lookup}, func(b *bench) {
		b.m.log = slog.New(slog.NewTextHandler(&log, nil))
		dns.set(errNoHost)
		b.m.List(b.t.Context(), []Listing{{Endpoints: balancer.Endpoints{RTMP: "srs.media.svc:1935", API: "srs.media.svc:1985"}}})
		time.Sleep(10 * time.Second)
		b.want("it cannot be resolved", "")
		if n := strings.Count(log.String(), "cannot be resolved"); n != 1 || !strings.Contains(log.String(), "host=srs.media.svc") {
			t.Errorf("%d warnings:\n%s", n, log.String())
		}
		if asked := dns.set(nil, "fe80::1", "::ffff:10.0.0.1", "2001:db8::2", "10.0.0.2", "0.0.0.0"); asked < 9 || asked > 12 {
			t.Errorf("asked %d times in 10 s without an address", asked)
		}
		time.Sleep(3 * time.Second)
		b.want("of both kinds of addresses", "1 2 ")
		if m := b.m.Members(); len(m) != 2 || m[0].Endpoints.API != "10.0.0.1:1985" {
			t.Errorf("%+v", m)
		}
		time.Sleep(resolveEvery)
		dns.set(nil, "10.0.0.1", "10.0.0.2")
		time.Sleep(10 * time.Second)
		if asked := dns.set(nil, "10.0.0.2", "10.0.0.3"); asked < 1 || asked > 3 {
			t.Errorf("asked %d times in 10 s, all being well", asked)
		}
		time.Sleep(resolveEvery + 2*time.Second)
		b.want("one more, and one less in the answer", "1 2 3 ")
		dns.set(errNoHost)
		time.Sleep(10 * DefaultTTL)
		b.want("DNS is away", "1 2 3 ")
		dns.set(nil, "10.0.0.2", "10.0.0.3")
		time.Sleep(resolveEvery + time.Second)
		b.want("DNS is back", "2 3 ")

		// An origin that died may be at another address soon.
		b.answer(3, finding{err: errRefused, gone: true})
		time.Sleep(resolveEvery + time.Second)
		b.want("one is dead", "2 ")
		dns.set(nil, "10.0.0.2", "10.0.0.4")
		time.Sleep(2 * time.Second)
		b.want("it is elsewhere", "2 4 ")
		b.list(5)
		time.Sleep(2 * time.Second)
		b.want("listed no more", "5 ")
		dns.set(nil, "10.0.0.6")
		time.Sleep(time.Minute)
		if asked := dns.set(nil); asked != 0 {
			t.Errorf("asked %d times for a name that is listed no more", asked)
		}
	})
}

// One whose name has no address of it any more keeps its sessions.
func TestListedByNameDrains(t *testing.T) {
	var dns names
	within(t, Config{Lookup: dns.lookup}, func(b *bench) {
		dns.set(nil, "10.0.0.1")
		b.m.List(b.t.Context(), []Listing{{Endpoints: balancer.Endpoints{RTMP: "srs:1935"}}})
		time.Sleep(3 * time.Second)
		l := b.publish("x")
		dns.set(nil, "10.0.0.2")
		time.Sleep(DefaultTTL - resolveEvery)
		b.want("for a while it stays", "1(1) 2 ")
		time.Sleep(2*resolveEvery + 2*time.Second)
		b.want("then it drains", "1-(1) 2 ")
		b.release(l)
		time.Sleep(time.Second)
		b.want("and is forgotten", "2 ")
	})
}

// What the system's resolver says.
func TestLookup(t *testing.T) {
	t.Parallel()
	found, err := lookup(t.Context(), "localhost")
	if err != nil || !slices.Contains(usable(found), netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("localhost is %v, %v", found, err)
	}
}

// counting counts what a balancer is told.
type counting struct {
	*balancer.Memory
	mu      sync.Mutex // guards the following
	updates int
}

func (c *counting) Update(ctx context.Context, o balancer.Origin) error {
	c.mu.Lock()
	c.updates++
	c.mu.Unlock()
	return c.Memory.Update(ctx, o)
}

// One that drains because it is listed no more has no heartbeats, and a balancer that is
// shared forgets what nobody tells it of.
func TestUnlistedIsRefreshed(t *testing.T) {
	within(t, Config{Shared: true}, func(b *bench) {
		bal := &counting{Memory: b.bal}
		b.m.bal = bal
		b.list(1)
		time.Sleep(time.Second)
		b.publish("x")
		b.list()
		bal.mu.Lock()
		before := bal.updates
		bal.mu.Unlock()
		time.Sleep(time.Minute)
		b.want("it drains", "1-(1) ")
		bal.mu.Lock()
		defer bal.mu.Unlock()
		if n := bal.updates - before; n < 5 || n > 10 {
			t.Errorf("told %d times in a minute", n)
		}
	})
}
