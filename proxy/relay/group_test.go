package relay

import (
	"context"
	"errors"
	"net"
	"testing"
)

// startIn runs a pair of a group, without a context that could end it.
func startIn(t *testing.T, g *Group, prologue func() error) (p *Pair, client *net.TCPConn, ended chan error) {
	t.Helper()
	client, clientSide := tcpPair(t)
	origin, originSide := tcpPair(t)
	p = New(Config{}).Pair(clientSide, originSide)
	p.Group, p.Prologue = g, prologue
	ended = make(chan error, 1)
	if err := p.Start(context.Background(), func(err error) { ended <- err }); err != nil {
		t.Fatal(err)
	}
	write(t, client, []byte("ping"))
	expect(t, origin, "ping")
	return p, client, ended
}

// The end of a group is that of its pairs, for its reason, and nobody comes in after it.
func TestGroup(t *testing.T) {
	var g Group
	_, _, gone := startIn(t, &g, nil)
	left, client, ended := startIn(t, &g, nil)
	client.Close()
	left.Stop(nil)
	if err := <-ended; err != nil {
		t.Errorf("one that ended before: %v", err)
	}
	g.mu.Lock()
	if len(g.pairs) != 1 {
		t.Errorf("%d pairs in the group, want the one that is left", len(g.pairs))
	}
	g.mu.Unlock()
	why := errors.New("the server stops")
	g.End(why)
	if err := <-gone; err != why {
		t.Errorf("ended with %v", err)
	}
	if g.pairs != nil {
		t.Errorf("%d pairs are left in the group", len(g.pairs))
	}
	clientSide, _ := tcpPair(t)
	originSide, _ := tcpPair(t)
	p := New(Config{}).Pair(clientSide, originSide)
	p.Group = &g
	if err := p.Start(context.Background(), func(error) { t.Error("it has begun") }); err != why {
		t.Errorf("one that comes later: %v", err)
	}
}

// Of causes the first counts, also one from before the start, and one of a group whose
// pair is still in its prologue.
func TestStop(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	t.Run("before Start", func(t *testing.T) {
		clientSide, _ := tcpPair(t)
		originSide, _ := tcpPair(t)
		p := New(Config{}).Pair(clientSide, originSide)
		p.Stop(first)
		p.Stop(second)
		if err := p.Run(context.Background()); err != first {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("running", func(t *testing.T) {
		p, _, ended := startIn(t, nil, nil)
		p.Stop(first)
		p.Stop(second)
		if err := <-ended; err != first {
			t.Errorf("ended with %v", err)
		}
		p.Stop(second) // is too late to do anything
	})
	t.Run("in the prologue", func(t *testing.T) {
		client, clientSide := tcpPair(t)
		origin, originSide := tcpPair(t)
		var g Group
		p := New(Config{}).Pair(clientSide, originSide)
		p.Group = &g
		p.Prologue = func() error {
			g.End(first)
			_, err := originSide.Read(make([]byte, 1)) // until it is woken up
			return err
		}
		if err := p.Run(context.Background()); err != first {
			t.Errorf("ended with %v", err)
		}
		clientSide.Close()
		originSide.Close()
		expectEnd(t, client)
		expectEnd(t, origin)
	})
}

// What a relayed session does not need is let go of.
func TestTaken(t *testing.T) {
	for name, prologue := range map[string]func() error{"at once": nil, "after a prologue": func() error { return nil }} {
		t.Run(name, func(t *testing.T) {
			client, clientSide := tcpPair(t)
			origin, originSide := tcpPair(t)
			p := New(Config{}).Pair(clientSide, originSide)
			taken := 0
			p.Taken = func() { taken++ }
			p.Prologue = prologue
			ended := make(chan error, 1)
			if err := p.Start(context.Background(), func(err error) { ended <- err }); err != nil {
				t.Fatal(err)
			}
			if _, err := clientSide.Write([]byte{1}); taken != 1 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("taken %d times; a connection that was taken: %v", taken, err)
			}
			write(t, client, []byte("ping"))
			expect(t, origin, "ping")
			write(t, origin, []byte("pong"))
			expect(t, client, "pong")
			kept := make(chan bool, 1)
			p.loop.order(p, func(_ *loop, p *Pair) { kept <- p.client != nil || p.origin != nil })
			if <-kept || p.Prologue != nil || p.Taken != nil {
				t.Error("the pair keeps what it does not need")
			}
			p.Stop(nil)
			<-ended
		})
	}
}
