package relay

import "sync"

// Group is pairs that end together, as a server's do when it stops. A context for each
// would cost more memory than the pair. The zero Group is empty.
type Group struct {
	mu    sync.Mutex // guards the following
	pairs map[*Pair]struct{}
	ended error // see End
}

// End ends the pairs of the group with a cause (see Pair.Stop), and has the Start of
// others fail with it from now on.
func (g *Group) End(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = cause
	for p := range g.pairs {
		p.Stop(cause)
	}
}

func (g *Group) add(p *Pair) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended != nil {
		return g.ended
	}
	if g.pairs == nil {
		g.pairs = make(map[*Pair]struct{})
	}
	g.pairs[p] = struct{}{}
	return nil
}

func (g *Group) remove(p *Pair) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pairs, p)
	if len(g.pairs) == 0 {
		g.pairs = nil // a map keeps the memory of its greatest size
	}
}
