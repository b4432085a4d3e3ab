package supervisor

import "fmt"

// A slot's observed state moves like this:
//
// A slot begins stopped. To run, it is starting: it waits for its turn, checks
// its config and its ports, spawns, and probes until the process answers as
// itself. Then it is ready and in the balancer. A probe that stays unanswered
// makes it degraded, still in the balancer; an answer makes it ready again. When
// the process dies or hangs for good the slot is out of the balancer and in
// backoff, and after a wait starting again. A start that failed is backoff too,
// unless nothing but another configuration would help: then it is fatal, until
// somebody orders another run.
//
// Drained, a ready or degraded slot is draining: it has its clients and gets no
// new streams; undrained it is ready again. Ordered to stop, a slot with a process
// is draining until the process is gone, then stopped; one without is stopped at
// once. A process that dies by itself while it drains, or just as it should stop,
// leaves its slot stopped, because nobody wants it back.

// next lists the states that may follow s.
func (s State) next() []State {
	switch s {
	case Stopped:
		return []State{Starting}
	case Starting:
		return []State{Ready, Backoff, Fatal, Draining, Stopped}
	case Ready:
		return []State{Degraded, Draining, Backoff, Stopped}
	case Degraded:
		return []State{Ready, Draining, Backoff, Stopped}
	case Draining:
		return []State{Ready, Degraded, Stopped}
	case Backoff:
		return []State{Starting, Stopped}
	case Fatal:
		return []State{Starting, Stopped}
	}
	return nil
}

// checkTransition proves that the machine above allows a move.
func checkTransition(from, to State) error {
	if from == to {
		return nil
	}
	for _, s := range from.next() {
		if s == to {
			return nil
		}
	}
	return fmt.Errorf("a slot does not go from %q to %q", from, to)
}
