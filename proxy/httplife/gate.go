package httplife

import "sync"

// Gate counts handlers in and, once closed, lets no more in. net/http doesn't wait
// for the handlers of connections that it closed.
type Gate struct {
	mu     sync.Mutex // guards closed, and Add against Wait
	closed bool
	inside sync.WaitGroup
}

// Enter reports whether the caller is let in; then it has to Leave.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside.Add(1)
	return true
}

// Leave counts one out.
func (g *Gate) Leave() { g.inside.Done() }

// Close waits until everyone inside has left.
func (g *Gate) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}
