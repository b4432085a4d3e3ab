package api

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shares
		asked := 0
		ask := func(key string) { s.do(key, func() []answer { asked++; return nil }) }
		expect := func(n int, why string) {
			t.Helper()
			if asked != n {
				t.Errorf("asked %d times, want %d: %s", asked, n, why)
			}
		}
		ask("a")
		ask("a")
		expect(1, "the second one shares")
		ask("b")
		expect(2, "another question")
		time.Sleep(shareFor / 2)
		ask("a")
		expect(2, "it is still new enough")
		s.reset()
		ask("a")
		expect(3, "after a reset")
		time.Sleep(shareFor + time.Nanosecond)
		ask("a")
		expect(4, "it is too old, counted from when it was asked")
		time.Sleep(time.Second)
		synctest.Wait()
		if n := len(s.byKey); n != 0 {
			t.Errorf("%d answers are kept", n)
		}
	})
}
