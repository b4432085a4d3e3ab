package supervisor

import "sync"

// Progress is how far the origins are.
type Progress struct {
	Ready, Total int
	// Note is what is wrong with an origin that is not ready, if any is.
	Note string
}

// notifier lets any number of readers wait for the next change.
type notifier struct {
	mu sync.Mutex // guards ch
	ch chan struct{}
}

func (n *notifier) changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

func (n *notifier) notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}

// Progress counts the origins that should run, and those that are ready. The channel is closed when a slot moves on.
func (s *Supervisor) Progress() (Progress, <-chan struct{}) {
	changed := s.progress.changed()
	var p Progress
	for _, slot := range s.places() {
		o := slot.status()
		if o.Desired != Run {
			continue
		}
		p.Total++
		switch o.State {
		case Ready:
			p.Ready++
		case Backoff, Fatal, Degraded:
			p.Note = o.ID + ": " + o.Reason
		}
	}
	if p.Ready == p.Total {
		s.once.Do(func() { close(s.allReady) })
	}
	return p, changed
}

// AllReady is closed when all origins were ready for the first time.
func (s *Supervisor) AllReady() <-chan struct{} { return s.allReady }

// watchProgress notices the first time that all are ready.
func (s *Supervisor) watchProgress(ended <-chan struct{}) {
	for {
		p, changed := s.Progress()
		if p.Ready == p.Total {
			return
		}
		select {
		case <-changed:
		case <-ended:
			return
		}
	}
}

// starting says that not all origins were ready yet: what cannot start now ends
// the whole start, so that its operator sees it.
func (s *Supervisor) starting() bool {
	select {
	case <-s.allReady:
		return false
	default:
		return true
	}
}
