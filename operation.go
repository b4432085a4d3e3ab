package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"srs-proxy/supervisor"
)

// busyWith is the one operation that goes on, if any: two that change the set of
// origins would each be right about a set that is no more.
type busyWith struct {
	mu    sync.Mutex // guards the following
	name  string
	since time.Time
	freed chan struct{} // closed at the end of the present one
}

// begin takes the place, or says who has it.
func (b *busyWith) begin(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.name != "" {
		return fmt.Errorf("%s goes on since %s; wait for its end (srs-proxy status shows the origins)", b.name, b.since.Format(time.TimeOnly))
	}
	b.name, b.since, b.freed = name, time.Now(), make(chan struct{})
	return nil
}

// await takes the place when it is free, or gives up when ended is closed.
func (b *busyWith) await(ended <-chan struct{}, name string) bool {
	for b.begin(name) != nil {
		b.mu.Lock()
		freed := b.freed
		b.mu.Unlock()
		select {
		case <-freed:
		case <-ended:
			return false
		}
	}
	return true
}

func (b *busyWith) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.name = ""
	close(b.freed)
}

// originChanges tells two looks at the origins apart, in words.
type originChanges struct {
	last map[string]supervisor.OriginStatus
}

func newOriginChanges(now []supervisor.OriginStatus) *originChanges {
	c := &originChanges{}
	c.set(now)
	return c
}

func (c *originChanges) set(now []supervisor.OriginStatus) {
	c.last = make(map[string]supervisor.OriginStatus, len(now))
	for _, o := range now {
		c.last[o.ID] = o
	}
}

// next is a line for each thing that has changed since the last look. serves says
// in words what an origin serves.
func (c *originChanges) next(now []supervisor.OriginStatus, serves func(id string) string) []string {
	// What comes is told before what goes because of it.
	var lines, leaving []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	sayLeaving := func(format string, args ...any) { leaving = append(leaving, fmt.Sprintf(format, args...)) }
	gone := c.last
	c.set(now)
	for _, o := range now {
		was, known := gone[o.ID]
		delete(gone, o.ID)
		switch {
		case !known && o.Desired == supervisor.Run:
			say("%s starts", o.ID)
		case o.PID != was.PID && o.PID != 0 && was.PID != 0:
			was.State = "" // another process: whatever it is, it is news
		}
		if o.State != was.State {
			switch o.State {
			case supervisor.Ready:
				say("%s is ready", o.ID)
			case supervisor.Backoff, supervisor.Fatal, supervisor.Degraded:
				say("%s is %s: %s", o.ID, o.State, explainOrigin(o))
			case supervisor.Stopped:
				if known {
					sayLeaving("%s has stopped", o.ID)
				}
			}
		}
		switch {
		case o.Role == supervisor.Retiring && was.Role != supervisor.Retiring:
			sayLeaving("%s drains (%s), until %s at the latest", o.ID, serves(o.ID), o.DrainUntil.Format(time.TimeOnly))
		case o.Desired == supervisor.Drain && was.Desired == supervisor.Run:
			sayLeaving("%s drains (%s)", o.ID, serves(o.ID))
		case o.Desired == supervisor.Run && was.Desired == supervisor.Drain:
			say("%s takes new streams again", o.ID)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		sayLeaving("%s is gone", id)
	}
	return append(lines, leaving...)
}
