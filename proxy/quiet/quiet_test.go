package quiet

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFloodIsOneLineASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := New(slog.New(slog.NewTextHandler(&out, nil)))
		time.Sleep(time.Hour)
		for range 100 {
			l.Warn("failed", "n", 1)
		}
		time.Sleep(time.Second)
		l.Warn("failed", "n", 2)
		time.Sleep(time.Second)
		l.Warn("failed", "n", 3)
		var got []string
		for line := range strings.Lines(out.String()) {
			_, rest, _ := strings.Cut(strings.TrimSpace(line), "msg=")
			got = append(got, rest)
		}
		if want := "failed n=1|failed n=2 left_out=99|failed n=3"; strings.Join(got, "|") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
