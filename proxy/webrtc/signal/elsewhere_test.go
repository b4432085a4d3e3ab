package signal

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"srs-proxy/balancer"
	"srs-proxy/balancer/redisbalancer"
	"srs-proxy/balancer/redisbalancer/redistest"
	"srs-proxy/protocol/sdp"
	"srs-proxy/proxy/webrtc"
	"srs-proxy/proxy/webrtc/ticket"
	"srs-proxy/testkit"
)

// cluster is several proxies over one Redis and one secret, and an origin with media.
type cluster struct {
	*env
	redis   *redistest.Server
	origin  *origin
	media   *net.UDPConn // the origin's, which answers each datagram with itself
	proxies []*proxy
	asked   []*counted // by proxy
}

// counted is a balancer that counts how often it is asked for a route.
type counted struct {
	*redisbalancer.Redis
	loads atomic.Int64
}

func (c *counted) LoadRoute(ctx context.Context, kind balancer.RouteKind, key string) (balancer.Route, error) {
	c.loads.Add(1)
	return c.Redis.LoadRoute(ctx, kind, key)
}

func newCluster(t *testing.T, n int, takesICE bool) *cluster {
	t.Helper()
	c := &cluster{env: &env{t: t}, redis: redistest.Start(t), origin: &origin{id: "o0", takesICE: takesICE}}
	var err error
	if c.media, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.media.Close() })
	go echo(c.media)
	c.origin.srv = httptest.NewServer(http.HandlerFunc(c.origin.serve))
	t.Cleanup(c.origin.srv.Close)
	for range n {
		bal, err := redisbalancer.New(t.Context(), redisbalancer.Config{
			Addrs: []string{c.redis.Addr}, Settle: time.Millisecond, Timeout: 2 * time.Second, OriginTTL: time.Hour,
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = bal.Close() }) // there may be no Redis by then
		testkit.Serve(t, bal.Run)
		keys, err := ticket.New([]byte("a secret of this cluster"))
		if err != nil {
			t.Fatal(err)
		}
		if len(c.proxies) == 0 {
			c.bal = bal
			c.register("s1")
		}
		c.asked = append(c.asked, &counted{Redis: bal})
		c.proxies = append(c.proxies, c.newProxy(options{bal: c.asked[len(c.proxies)], tickets: keys}))
	}
	return c
}

func echo(conn *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
	}
}

func (c *cluster) register(service string) {
	c.t.Helper()
	o := balancer.Origin{ID: "o0", Service: service, Endpoints: balancer.Endpoints{API: c.origin.api(), RTC: c.media.LocalAddr().String()}}
	if err := c.bal.Update(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}

// offer makes a session at a proxy and returns its username, password and Location.
func (c *cluster) offer(p *proxy, path string) (username, pwd, location string) {
	c.t.Helper()
	var r response
	testkit.Within(c.t, 5*time.Second, "the offer is taken", func() bool {
		r = c.doAt(p, http.MethodPost, path, offerSDP, "Content-Type", "application/sdp")
		return r.StatusCode == http.StatusCreated
	})
	ice, err := sdp.ICE([]byte(r.text))
	if err != nil {
		c.t.Fatal(err)
	}
	return ice.Ufrag + ":clnt", ice.Pwd, fmt.Sprintf("/rtc/v1/whip/?action=delete&token=tkn&app=live&stream=a&session=%s:clnt", ice.Ufrag)
}

// mediaClient is a client's socket toward a proxy's media.
type mediaClient struct {
	*net.UDPConn
	t *testing.T
}

func (c *cluster) dial(p *proxy) mediaClient {
	c.t.Helper()
	conn, err := net.DialUDP("udp", nil, p.media.Addr().(*net.UDPAddr))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return mediaClient{conn, c.t}
}

func check(t *testing.T, username, pwd string) []byte {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(username), stun.NewShortTermIntegrity(pwd))
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

// ask sends a datagram as often as clients do until its answer comes, and says how often.
func (m mediaClient) ask(payload []byte) (sent int) {
	m.t.Helper()
	buf := make([]byte, 2048)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		_, _ = m.Write(payload)
		sent++
		_ = m.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := m.Read(buf); err == nil && string(buf[:n]) == string(payload) {
			return sent
		}
	}
	m.t.Fatal("no answer")
	return 0
}

// The first check of a client that comes to another proxy opens its session there,
// whoever chose its password; the lease follows, and DELETE through a third proxy ends all.
func TestMediaAtAnotherProxy(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		takesICE   bool
		publishers int
	}{
		{"our credentials", "/rtc/v1/whip/?app=live&stream=a", true, 1},
		{"the origin's credentials", "/rtc/v1/whip/?app=live&stream=a", false, 1},
		{"a player", "/rtc/v1/whep/?app=live&stream=a", true, 0},
		{"the client's credentials", "/rtc/v1/whep/?app=live&stream=a&ice-ufrag=mine&ice-pwd=2345678901234567890123", true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t, 3, tt.takesICE)
			username, pwd, location := c.offer(c.proxies[0], tt.path)
			client := c.dial(c.proxies[1])
			client.ask(check(t, username, pwd))
			client.ask([]byte("\x80\x60media"))
			var in webrtc.Info
			testkit.Within(t, 10*time.Second, "the other proxy knows what it is", func() bool {
				in, _ = c.proxies[1].media.Lookup(username)
				return in.Stream.Name == "a"
			})
			if want := balancer.Role(tt.publishers); in.Role != want || in.OriginID != "o0" || in.Stream.String() != "__defaultVhost__/live/a" {
				t.Errorf("%+v", in)
			}
			c.wantHeld(2*tt.publishers, 2-2*tt.publishers)
			// The one that signalled waits for media in vain, and the stream stays.
			c.proxies[0].finish(username, webrtc.ErrIdle)
			c.wantHeld(tt.publishers, 1-tt.publishers)
			client.ask([]byte("\x80\x60media"))

			if r := c.doAt(c.proxies[2], http.MethodDelete, strings.Replace(location, "tkn", "bad", 1), ""); r.StatusCode != http.StatusForbidden {
				t.Errorf("a bad token: %s", r.Status)
			}
			client.ask([]byte("\x80\x60media"))
			if r := c.doAt(c.proxies[2], http.MethodDelete, location, ""); r.StatusCode != http.StatusOK {
				t.Errorf("DELETE: %s %s", r.Status, r.text)
			}
			testkit.Within(t, 5*time.Second, "the media end", func() bool {
				_, ok := c.proxies[1].media.Lookup(username)
				return !ok
			})
			c.wantHeld(0, 0)
			// The client goes on for a while; that does not bring the session back, anywhere.
			for _, p := range c.proxies {
				late, before := c.dial(p), p.media.Stats().Unknown
				testkit.Within(t, 5*time.Second, "a late check is dropped", func() bool {
					_, _ = late.Write(check(t, username, pwd))
					return p.media.Stats().Unknown > before
				})
				if _, ok := p.media.Lookup(username); ok {
					t.Error("a deleted session is back")
				}
			}
		})
	}
}

// A ticket needs nobody: not the proxy that issued it, not the store, and not a second check.
func TestTicketWithoutStore(t *testing.T) {
	c := newCluster(t, 2, true)
	username, pwd, _ := c.offer(c.proxies[0], "/rtc/v1/whip/?app=live&stream=a")
	testkit.Within(t, 5*time.Second, "the other proxy knows the origin", func() bool {
		_, ok := c.proxies[1].originOfTicket(username)
		return ok
	})
	c.redis.Stop()
	t.Cleanup(c.redis.Continue)
	client := c.dial(c.proxies[1])
	if n := client.ask(check(t, username, pwd)); n != 1 {
		t.Logf("%d checks were sent, want 1", n) // or the machine is busy
	}
	client.ask([]byte("\x80\x60media"))
	if in, ok := c.proxies[1].media.Lookup(username); !ok || in.Stream.Name != "" {
		t.Errorf("%+v, %v", in, ok)
	}
	c.redis.Continue()
	testkit.Within(t, 20*time.Second, "the lease is taken", func() bool {
		in, _ := c.proxies[1].media.Lookup(username)
		return in.Stream.Name == "a"
	})
}

// A ticket is that of a process. One that came in its place has none of its sessions.
func TestTicketOfAnotherProcess(t *testing.T) {
	c := newCluster(t, 2, true)
	username, pwd, _ := c.offer(c.proxies[0], "/rtc/v1/whip/?app=live&stream=a")
	c.register("s2")
	testkit.Within(t, 5*time.Second, "the other proxy has heard", func() bool {
		_, ok := c.proxies[1].originOfTicket(username)
		return !ok && c.proxies[1].find(username) == nil
	})
	before := c.proxies[1].media.Stats().Unknown
	client := c.dial(c.proxies[1])
	_, _ = client.Write(check(t, username, pwd))
	testkit.Within(t, 5*time.Second, "the check is dropped", func() bool { return c.proxies[1].media.Stats().Unknown == before+1 })
}

// Made-up usernames cost the store a bounded number of reads, forged tickets none, and
// neither leaves anything behind. A session is found all the same.
func TestFloodOfUnknownUsernames(t *testing.T) {
	const flood = 20_000
	c := newCluster(t, 2, true)
	own, ownPwd, _ := c.offer(c.proxies[0], "/rtc/v1/whep/?app=live&stream=a&ice-ufrag=mine&ice-pwd=2345678901234567890123")
	issued, issuedPwd, _ := c.offer(c.proxies[0], "/rtc/v1/whep/?app=live&stream=b")
	p, client := c.proxies[1], c.dial(c.proxies[1])
	loads := func() int { return int(c.asked[1].loads.Load()) }
	send := func(what string, counted func() int64, make func(i int) []byte) {
		t.Helper()
		before := counted()
		for sent := 0; sent < flood; {
			for range 200 { // what a socket's buffer holds
				_, _ = client.Write(make(sent))
				sent++
			}
			testkit.Within(t, 10*time.Second, what+" are counted", func() bool { return counted()-before == int64(sent) })
		}
	}
	unknown := func() int64 { return p.media.Stats().Unknown }
	reads, began := loads(), time.Now()
	send("made-up usernames", unknown, func(i int) []byte { return check(t, fmt.Sprintf("made%06d:upuf", i), ownPwd) })
	most := searchBurst + int(searchRate*(time.Since(began).Seconds()+1))
	if n := loads() - reads; n > most || n == 0 {
		t.Errorf("%d reads for %d usernames in %s, want at most %d", n, flood, time.Since(began), most)
	} else {
		t.Logf("%d reads for %d usernames in %s", n, flood, time.Since(began))
	}
	// By now nothing is waiting; the same one again and again is asked for once.
	testkit.Within(t, 10*time.Second, "the queue is empty", func() bool { return len(p.unknown) == 0 })
	reads, began = loads(), time.Now()
	send("the same username", unknown, func(int) []byte { return check(t, "same0000:upuf", ownPwd) })
	if n := loads() - reads; n > 2+int(time.Since(began)/time.Second) {
		t.Errorf("%d reads for one username in %s", n, time.Since(began))
	}
	reads = loads()
	send("tickets with a wrong password", func() int64 { return p.media.Stats().BadIntegrity }, func(int) []byte { return check(t, issued, ownPwd) })
	if n := loads() - reads; n != 0 {
		t.Errorf("%d reads for tickets", n)
	}
	p.mu.Lock()
	left := len(p.sessions)
	p.mu.Unlock()
	if st := p.media.Stats(); st.Sessions != 0 || st.Added != 0 || left != 0 {
		t.Errorf("something is left: %+v", st)
	}
	client.ask(check(t, issued, issuedPwd))
	client.ask(check(t, own, ownPwd))
}
