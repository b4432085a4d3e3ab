package testkit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a test that fails without failing the one it is part of.
type recorder struct {
	testing.TB
	said     []string
	cleanups []func()
}

type fatal struct{}

func (r *recorder) Helper()          {}
func (r *recorder) Failed() bool     { return len(r.said) > 0 }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Logf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}
func (r *recorder) Errorf(format string, args ...any) { r.Logf(format, args...) }
func (r *recorder) Fatalf(format string, args ...any) { r.Logf(format, args...); panic(fatal{}) }

// do calls f as a test, and its cleanups.
func (r *recorder) do(f func(testing.TB)) string {
	defer func() {
		if v := recover(); v != nil && v != (fatal{}) {
			panic(v)
		}
	}()
	f(r)
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return strings.Join(r.said, "\n")
}

func TestWithin(t *testing.T) {
	looks := 0
	r := &recorder{TB: t}
	r.do(func(t testing.TB) {
		Within(t, 20*time.Second, "three looks", func() bool { looks++; return looks == 3 })
	})
	if len(r.said) != 0 || looks != 3 {
		t.Errorf("%d looks, %q", looks, r.said)
	}
	r.do(func(t testing.TB) { Within(t, 3*pause, "the impossible", func() bool { return false }) })
	if len(r.said) != 1 || !strings.Contains(r.said[0], "the impossible") {
		t.Errorf("said %q", r.said)
	}
}

func TestServe(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"a clean stop", nil, ""},
		{"an error", errors.New("lost"), "Run: lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := (&recorder{TB: t}).do(func(t testing.TB) {
				stop := Serve(t, func(ctx context.Context) error { <-ctx.Done(); return tt.err })
				stop()
				stop() // and once more by the cleanup
			})
			if got != tt.want {
				t.Errorf("said %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFreePort(t *testing.T) {
	addr := FreeAddr(t)
	if Listens(addr) {
		t.Errorf("somebody listens on %s", addr)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if !Listens(addr) {
		t.Errorf("nobody listens on %s", addr)
	}
}

// A program ends with its children, and what it said is shown if the test has failed.
func TestStart(t *testing.T) {
	from := time.Now()
	got := (&recorder{TB: t}).do(func(t testing.TB) {
		cmd := Start(t, "/", "sh", "-c", "pwd; sleep 1000 & wait")
		Within(t, 20*time.Second, "it has spoken", func() bool { return cmd.Stdout.(*Log).String() != "" })
		t.Errorf("failed")
	})
	if !strings.HasSuffix(got, "said:\n/\n") {
		t.Errorf("shown: %q", got)
	}
	if took := time.Since(from); took >= stopMost {
		t.Errorf("a child of its was waited for: %v", took)
	}
}

func TestLog(t *testing.T) {
	var l Log
	var writers sync.WaitGroup
	for range 10 {
		writers.Go(func() {
			_, _ = l.Write([]byte("x"))
			_ = l.String()
		})
	}
	writers.Wait()
	if l.String() != "xxxxxxxxxx" {
		t.Errorf("%q", l.String())
	}
}
