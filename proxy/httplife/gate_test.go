package httplife

import (
	"testing"
	"time"
)

func TestGate(t *testing.T) {
	var g Gate
	if !g.Enter() {
		t.Fatal("an open gate let nobody in")
	}
	closed := make(chan struct{})
	go func() { g.Close(); close(closed) }()
	for !func() bool {
		if g.Enter() {
			g.Leave()
			return false
		}
		return true
	}() {
		time.Sleep(time.Millisecond)
	}
	select {
	case <-closed:
		t.Error("close did not wait for the one inside")
	default:
	}
	g.Leave()
	<-closed
}
