package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogQueue: a reader that has stopped stops nobody else; when it goes on it gets
// the lines that there was room for, in order, and how many are lost.
func TestLogQueue(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w := io.Pipe()
				q := newLogQueue(w, format)
				defer q.end()
				line := func(n int) string { return fmt.Sprintf("%08d %s\n", n, strings.Repeat("x", 1000)) }
				const all = 3 * logQueueSize / 1000
				start := time.Now()
				for n := range all {
					if _, err := io.WriteString(q, line(n)); err != nil {
						t.Fatal(err)
					}
					synctest.Wait() // whatever can be written is
				}
				q.Flush()
				if waited := time.Since(start); waited != logPatience {
					t.Errorf("waited %s for a reader that has stopped, want %s", waited, logPatience)
				}
				lines := bufio.NewReader(r)
				n, lost := 0, 0
				for n+lost < all {
					got, err := lines.ReadString('\n')
					if err != nil {
						t.Fatal(err)
					}
					if got == line(n) {
						n++
						continue
					}
					if !strings.Contains(got, "log lines were lost") || lost > 0 {
						t.Fatalf("after %d lines and %d lost ones: %.80q", n, lost, got)
					}
					_, count, _ := strings.Cut(strings.NewReplacer(`"`, "", ":", "=", "}", "").Replace(got), "lines=")
					if _, err := fmt.Sscan(count, &lost); err != nil {
						t.Fatalf("%q: %v", got, err)
					}
				}
				if n+lost != all || lost == 0 {
					t.Errorf("%d lines and %d lost ones of %d", n, lost, all)
				}
				// Who reads again misses nothing more.
				go func() { _, _ = io.WriteString(q, line(all)) }()
				if got, err := lines.ReadString('\n'); err != nil || got != line(all) {
					t.Errorf("%.80q, %v", got, err)
				}
			})
		})
	}
}

// TestLogQueueClose: what was logged before the end is there after it.
func TestLogQueueClose(t *testing.T) {
	var b bytes.Buffer
	q := newLogQueue(&b, "text")
	for n := range 1000 {
		fmt.Fprintf(q, "line %d\n", n)
	}
	q.Close()
	if got := strings.Count(b.String(), "\n"); got != 1000 || !strings.HasSuffix(b.String(), "line 999\n") {
		t.Errorf("%d lines: ...%.40q", got, b.String()[max(0, b.Len()-40):])
	}
	q.Close()
}
