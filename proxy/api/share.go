package api

import (
	"sync"
	"time"
)

// shareFor is how old a question may be for somebody else to take its answers as
// those to his own. Ten polls a second are what any number of pollers cost the
// origins, and nobody sees what is older than that.
const shareFor = 100 * time.Millisecond

// shares are questions that were put a moment ago.
type shares struct {
	mu    sync.Mutex // guards byKey
	byKey map[string]*flight
}

// flight is one of them.
type flight struct {
	began   time.Time
	done    chan struct{} // closed when answers are there
	answers []answer      // of nobody's to change
}

// do asks, unless the same was asked just now.
func (s *shares) do(key string, ask func() []answer) []answer {
	now := time.Now()
	s.mu.Lock()
	if f := s.byKey[key]; f != nil && now.Sub(f.began) <= shareFor {
		s.mu.Unlock()
		<-f.done
		return f.answers
	}
	f := &flight{began: now, done: make(chan struct{})}
	if s.byKey == nil {
		s.byKey = make(map[string]*flight)
	}
	s.byKey[key] = f
	s.mu.Unlock()
	time.AfterFunc(shareFor, func() { s.forget(key, f) })
	defer close(f.done)
	f.answers = ask()
	return f.answers
}

func (s *shares) forget(key string, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKey[key] == f {
		delete(s.byKey, key)
	}
}

// reset: what was asked before is not true any more.
func (s *shares) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byKey)
}
