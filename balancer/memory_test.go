package balancer

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryConforms(t *testing.T) {
	Conformance(t, func(_ *testing.T, idle time.Duration) Balancer { return NewMemory(Config{LeaseIdle: idle}) })
}

// maps are the sizes that must be zero when everything has ended.
func (m *Memory) maps() [5]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	onOrigins := 0
	for _, e := range m.origins {
		onOrigins += len(e.pins)
	}
	return [5]int{len(m.streams), len(m.pins), m.idle.Len(), len(m.routes), onOrigins}
}

func TestMemoryForgetsAfter60s(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(Config{})
		addOrigins(t, m, 4)
		for i := range 100 {
			release(t, m, pick(t, m, fmt.Sprint(i), Publish))
		}
		if err := m.StoreRoute(ctx, RouteHLS, "k", Route{}, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if n := m.maps(); n[0] != 100 {
			t.Fatalf("after 59 s: %v", n)
		}
		time.Sleep(20 * time.Second)
		if n := m.maps(); n != [5]int{} {
			t.Fatalf("after 79 s: %v", n)
		}
		if m.sweeper != nil {
			t.Error("the sweeper still runs")
		}
	})
}

// Toggling between idle and busy must not grow anything.
func TestMemoryReconnectLoop(t *testing.T) {
	m := NewMemory(Config{})
	addOrigins(t, m, 2)
	for range 10_000 {
		release(t, m, pick(t, m, "a", Publish))
	}
	if n := m.maps(); n != [5]int{1, 1, 1, 0, 1} {
		t.Errorf("%v", n)
	}
}

func TestMemoryBound(t *testing.T) {
	m := NewMemory(Config{MaxPins: 3})
	addOrigins(t, m, 2)
	release(t, m, pick(t, m, "idle", Publish))
	pick(t, m, "b", Publish)
	pick(t, m, "c", Publish)
	pick(t, m, "d", Publish) // the idle one makes room
	if _, err := m.Pick(ctx, Request{Stream: stream("e"), Role: Publish}); !errors.Is(err, ErrTooManyStreams) {
		t.Errorf("a fourth live stream: %v", err)
	}
	if _, err := m.Pick(ctx, Request{Stream: stream("b"), Role: Play}); err != nil {
		t.Errorf("play of a known stream: %v", err)
	}
}

func TestEjectionDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(Config{})
		addOrigins(t, m, 2)
		refused := errors.New("connection refused")
		m.ReportDial(ctx, "o000", refused)
		m.ReportDial(ctx, "o000", refused)
		for _, want := range []time.Duration{5, 10, 20, 40, 60, 60} {
			m.ReportDial(ctx, "o000", refused)
			if got := time.Until(statuses(t, m)["o000"].EjectedUntil); got != want*time.Second {
				t.Fatalf("ejected for %v, want %v s", got, want)
			}
			time.Sleep(want * time.Second)
			if s := statuses(t, m)["o000"]; !s.EjectedUntil.IsZero() {
				t.Fatal("still ejected after its time")
			}
		}
	})
}

func BenchmarkPickRelease(b *testing.B) {
	m := NewMemory(Config{})
	for i := range 128 {
		if err := m.Update(ctx, Origin{ID: fmt.Sprint(i)}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l, err := m.Pick(ctx, Request{Stream: stream(fmt.Sprint(i % 1000)), Role: Publish})
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Release(ctx, l); err != nil {
			b.Fatal(err)
		}
	}
}
