package supervisor

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// writeNumbers is the logging of a fake origin: 1, 2, 3... into a file that is
// opened anew on SIGUSR1, as SRS does.
func writeNumbers(path string) {
	reopen := make(chan os.Signal, 1)
	signal.Notify(reopen, syscall.SIGUSR1)
	open := func() *os.File {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			fmt.Println(err)
			os.Exit(6)
		}
		return f
	}
	f := open()
	for n := 1; ; n++ {
		fmt.Fprintln(f, n)
		select {
		case <-reopen:
			f.Close()
			f = open()
		case <-time.After(100 * time.Microsecond):
		}
	}
}

// Whatever the origin writes while its log is rotated under it is in one of the
// files, once and in order.
func TestRotationLosesNoLine(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 1, "logger")).up()
	slot := f.all()[0]
	const rotations = 20
	r := LogRotation{MaxSize: 500, Keep: 10 * rotations}
	for n := 1; n <= rotations; n++ {
		eventually(t, "rotation "+strconv.Itoa(n), func() bool {
			if err := f.rotateLog(slot, r); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(oldLog(slot.params.LogFile, n))
			return err == nil
		})
	}
	if o := slot.status(); o.State != Ready || o.Restarts != 0 {
		t.Errorf("the origin is %s after %d restarts", o.State, o.Restarts)
	}
	f.stop()
	if err := f.ended(); err != nil {
		t.Fatal(err)
	}

	var all strings.Builder
	for n := 2 * rotations; n >= 0; n-- {
		path := oldLog(slot.params.LogFile, n)
		if n == 0 {
			path = slot.params.LogFile
		}
		if text, err := os.ReadFile(path); err == nil {
			all.Write(text)
		}
	}
	next := 1
	for line := range strings.Lines(all.String()) {
		if strings.TrimSpace(line) != strconv.Itoa(next) {
			t.Fatalf("line %d is %q", next, line)
		}
		next++
	}
	if next < 500/4*rotations/2 {
		t.Errorf("only %d lines", next)
	}
}

// The loop itself rotates, without anybody's call.
func TestRotationRuns(t *testing.T) {
	cfg := fakeConfig(t, 1, "logger")
	cfg.Logs = LogRotation{MaxSize: 100, Keep: 2}
	dir := filepath.Join(cfg.StateDir, "origin-0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "srs.log")
	if err := os.WriteFile(path, []byte(strings.Repeat("old\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	newFleet(t, cfg).run()
	eventually(t, "an old log", func() bool {
		text, err := os.ReadFile(oldLog(path, 1))
		return err == nil && strings.HasPrefix(string(text), "old\n")
	})
	eventually(t, "a new log", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// A process that is not ready has no handler for the signal yet: its log waits.
func TestRotationWaitsForReady(t *testing.T) {
	f := newFleet(t, fakeConfig(t, 1, "mute")).run()
	slot := f.all()[0]
	eventually(t, "process", func() bool { return slot.status().PID != 0 })
	path := slot.params.LogFile
	if err := os.WriteFile(path, []byte("long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.rotateLog(slot, LogRotation{MaxSize: 1, Keep: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("rotated while it starts: %v", err)
	}
	if o := slot.status(); o.PID == 0 || o.Restarts != 0 {
		t.Errorf("the process is gone: %+v", o)
	}
}

func TestShiftLogs(t *testing.T) {
	tests := []struct {
		name string
		have string // which old ones there are
		keep int
		want string // what the old ones hold afterwards, in order
	}{
		{"the first", "", 3, "now"},
		{"one more", "1", 3, "now 1"},
		{"full", "1 2 3", 3, "now 1 2"},
		{"a gap", "2 3", 3, "now - 2"},
		{"lowered", "1 2 3 4 5", 2, "now 1"},
		{"only one", "1", 1, "now"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "srs.log")
			write := func(path, text string) {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(path, "now")
			for n := range strings.FieldsSeq(tt.have) {
				write(path+"."+n, n)
			}
			if err := shiftLogs(path, tt.keep); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); !os.IsNotExist(err) {
				t.Errorf("%s: %v", path, err)
			}
			want := strings.Fields(tt.want)
			for n := 1; n <= 6; n++ {
				text, err := os.ReadFile(oldLog(path, n))
				switch {
				case n <= len(want) && want[n-1] != "-":
					if err != nil || string(text) != want[n-1] {
						t.Errorf("old log %d: %q, %v; want %q", n, text, err, want[n-1])
					}
				case err == nil:
					t.Errorf("old log %d is there: %q", n, text)
				}
			}
		})
	}
}

// A folder that cannot be written to, an operator's own link: nothing happens to
// the origin or to the file.
func TestRotationLeavesLinksAlone(t *testing.T) {
	cfg := fakeConfig(t, 1, "good")
	dir := filepath.Join(cfg.StateDir, "origin-0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(t.TempDir(), "elsewhere.log")
	if err := os.WriteFile(target, []byte("long enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "srs.log")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, cfg).up()
	if err := f.rotateLog(f.all()[0], LogRotation{MaxSize: 1, Keep: 1}); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(path); err != nil || to != target {
		t.Errorf("link leads to %q, %v", to, err)
	}
}
