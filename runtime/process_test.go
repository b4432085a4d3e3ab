package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const statTail = ` S 1 2 3 0 -1 4194560 100 0 0 0 17 5 0 0 20 0 9 0 8646 100000 250 18446744073709551615 1 1 0`

func TestParseStat(t *testing.T) {
	want := stat{state: 'S', utime: 17, stime: 5, startTime: 8646, rss: 250}
	for _, comm := range []string{"srs", "a b", "a) R 7 (b", "()", ")", "", "((", ") S 1 2 3 0 -1 9"} {
		got, err := parseStat([]byte("42 (" + comm + ")" + statTail + "\n"))
		if err != nil || got != want {
			t.Errorf("comm %q: %+v, %v", comm, got, err)
		}
	}
	for _, bad := range []string{
		"", "42", "42 (srs)", "42 (srs) ", "42 (srs)S", "42 (srs) S 1 2 3",
		"42 (srs)" + strings.Replace(statTail, " 17 ", " x ", 1),
		"42 (srs)" + strings.Replace(statTail, " 17 ", "  ", 1),
		"42 (srs)" + strings.Replace(statTail, " 8646 ", " 99999999999999999999 ", 1),
		"42 (srs)" + strings.Replace(statTail, " 250 ", " -1 ", 1),
	} {
		if got, err := parseStat([]byte(bad)); !errors.Is(err, errStat) {
			t.Errorf("%q: %+v, %v", bad, got, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (srs)" + statTail))
	f.Add([]byte("1 (a) b) R 1"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseStat(data)
		if err != nil {
			return
		}
		// The obvious way, which allocates.
		text := string(data)
		fields := regexp.MustCompile(`[ \n]`).Split(text[strings.LastIndexByte(text, ')')+2:], -1)
		for field, n := range map[int]uint64{14: got.utime, 15: got.stime, 22: got.startTime, 24: got.rss} {
			if want, err := strconv.ParseUint(fields[field-3], 10, 64); err != nil || n != want {
				t.Fatalf("%q: field %d is %d, want %d (%v)", data, field, n, want, err)
			}
		}
	})
}

func TestStartTime(t *testing.T) {
	// A program whose name is made to mislead.
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	nasty := filepath.Join(t.TempDir(), "a) Z 1 (b c")
	if err := os.WriteFile(nasty, program, 0o755); err != nil {
		t.Fatal(err)
	}
	ours, err := StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), nasty, "1000")
	if err := newTestSpawner(t).Start(cmd, nil, 0); err != nil {
		t.Fatal(err)
	}
	defer kill(cmd)
	child, err := StartTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// Both in ticks since the boot, and the child is seconds younger at most.
	if child < ours || child > ours+100*600 {
		t.Errorf("we started at %d, our child at %d", ours, child)
	}
	again, err := StartTime(cmd.Process.Pid)
	if err != nil || again != child {
		t.Errorf("the start time changed from %d to %d (%v)", child, again, err)
	}
	if _, err := StartTime(1 << 30); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("no such process: %v", err)
	}
}

func TestBootID(t *testing.T) {
	id, err := BootID()
	if err != nil || !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Fatalf("boot id %q, %v", id, err)
	}
	if again, err := BootID(); err != nil || again != id {
		t.Errorf("the boot id changed from %s to %s (%v)", id, again, err)
	}
}

func TestBecomeSubreaper(t *testing.T) { runHelper(t, "subreaper") }

// helperSubreaper has a child that leaves an orphan, which must become its own.
func helperSubreaper() error {
	if err := BecomeSubreaper(); err != nil {
		return err
	}
	out, err := exec.Command("sh", "-c", "sleep 1000 >&- 2>&- & echo $!").Output()
	if err != nil {
		return err
	}
	orphan, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return err
	}
	if err := unix.Kill(orphan, unix.SIGKILL); err != nil {
		return err
	}
	if _, err := unix.Wait4(orphan, nil, 0, nil); err != nil {
		return fmt.Errorf("the orphan did not become our child: %w", err)
	}
	return nil
}
