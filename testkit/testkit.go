// Package testkit is what the tests of several packages set up in the same way.
//
//	Log                  a log that is read while it is written
//	Within               wait for a condition, as long as that may take
//	Serve                a server's Run, until the test ends
//	FreePort, FreeAddr   where nobody listens
//	TCPPair              a connection
//	Start, SRS           a program, until the test ends
//	IgnoreSRTDial        what a library leaves behind, for goleak
//
// Only tests import it, which imports_test.go sees to: nothing of it is in the product.
package testkit

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"
)

// Log is a bytes.Buffer for several goroutines.
type Log struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// pause is between two looks at a condition: no test waits for long because of it, and
// conditions that ask a server leave it time for others.
const pause = 5 * time.Millisecond

// Within waits until ok, and ends the test if it is not by then.
func Within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// stopMost is how long a server may take to stop.
const stopMost = 10 * time.Second

// Serve calls run, which has to return nil soon after its context is cancelled. That is
// by stop, which waits for it, or at the end of the test. What a test looks at after the
// end it does in a t.Cleanup that calls stop first.
func Serve(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(stopMost):
			t.Errorf("Run did not return within %v of the cancel", stopMost)
		}
	})
	t.Cleanup(stop)
	return stop
}
