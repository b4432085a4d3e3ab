package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// newcomers publish names that nobody has seen before, a moment each.
type newcomers struct {
	addr   string
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu      sync.Mutex // guards the following
	took    series
	refused []string
}

// stay is how long a newcomer publishes: SRS says yes before it has looked at the name.
const stay = 200 * time.Millisecond

func newcomersAt(addr, prefix string, every time.Duration) *newcomers {
	ctx, cancel := context.WithCancel(context.Background())
	n := &newcomers{addr: addr, cancel: cancel}
	n.tasks.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			n.tasks.Go(func() { n.one(fmt.Sprintf("%s-%d", prefix, i)) })
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return n
}

func (n *newcomers) one(name string) {
	start := time.Now()
	peer, err := openPublish(n.addr, name)
	took := time.Since(start)
	if err == nil {
		err = peer.holds(stay)
		peer.conn.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.refused = append(n.refused, fmt.Sprintf("%s after %s: %v", name, ms(took), err))
		return
	}
	n.took.add(took)
}

// holds says whether the connection stays open for so long.
func (p *peer) holds(d time.Duration) error {
	_ = p.conn.SetReadDeadline(time.Now().Add(d))
	for {
		_, err := p.r.ReadMessage()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("closed after it was accepted: %w", err)
		}
	}
}

// end stops new ones, waits for those on their way, and returns what is wrong.
func (n *newcomers) end(f *fault) (wrong []string) {
	n.cancel()
	n.tasks.Wait()
	f.newcomers = append(f.newcomers, n.took...)
	f.refused += len(n.refused)
	for _, r := range n.refused {
		wrong = append(wrong, "a new name was refused: "+r)
	}
	return wrong
}
