package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	// diskSize is that of the state dir's file system.
	diskSize = 64 << 20
	// outputMost is how much of what an origin prints may be kept: the supervisor looks
	// ten times a second, and cuts what is above 256 KiB.
	outputMost = 1 << 20
)

// onSmallDisk is an instance whose state dir is a small file system of its own, in a
// mount namespace that ends with its last process.
func onSmallDisk(t *testing.T) *instance {
	t.Helper()
	in := newInstance(t, suite.size.origins, suite.size.origins)
	if err := os.Mkdir(in.stateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	const script = `mount -t tmpfs -o mode=700,size=$1 tmpfs "$2" && shift 2 && exec "$@"`
	in.within = []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", fmt.Sprint(diskSize), in.stateDir}
	try := append(in.within[1:len(in.within):len(in.within)], "true")
	if out, err := exec.Command(in.within[0], try...).CombinedOutput(); err != nil {
		t.Skipf("no file system can be mounted here: %v: %s", err, out)
	}
	in.start()
	in.waitReady(suite.size.origins)
	return in
}

// seen is a file of the state dir as the instance sees it.
func (in *instance) seen(path ...string) string {
	return filepath.Join(append([]string{fmt.Sprintf("/proc/%d/root", in.pid()), in.stateDir}, path...)...)
}

// TestDiskFull fills the disk with the state dir and the logs, and then kills an
// origin: its streams go on elsewhere, all others notice nothing, and it is ready
// again, with the disk full or at the latest when there is room.
func TestDiskFull(t *testing.T) {
	long(t)
	in := onSmallDisk(t)
	l, f := in.loaded("disk of logs and state full, and kill -9 of one origin")
	repeat(t, in, l, f, func(round int) []string { return diskRound(in, l, f, in.victims(round, 1)[0], round) })
}

func diskRound(in *instance, l *load, f *fault, victim originStatus, round int) (wrong []string) {
	filler := in.seen("filler")
	defer os.Remove(filler)
	fresh := newcomersAt(in.rtmp, fmt.Sprintf("disk%d", round), 100*time.Millisecond)
	l.mark()
	if err := fill(filler); err != nil {
		return append(fresh.end(f), err.Error())
	}
	begin := l.marked
	time.Sleep(500 * time.Millisecond)
	wrong = append(wrong, l.unharmed(nil, f)...)
	wrong = append(wrong, fresh.end(f)...)
	wrong = append(wrong, killRound(in, l, f, []originStatus{victim})...)
	if _, ok := in.logged("", "state file not written", begin); !ok {
		wrong = append(wrong, "the log does not say that the state file could not be written")
	}
	if err := os.Remove(filler); err != nil {
		wrong = append(wrong, err.Error())
	}
	start := time.Now()
	in.waitReady(suite.size.origins)
	f.took.add(time.Since(start))
	return wrong
}

// fill writes until nothing more can be written.
func fill(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		_, err := file.Write(block)
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			return err
		}
		if err != nil {
			block = block[:len(block)/2]
		}
	}
	return nil
}

// TestOutputFlood has an origin print as fast as its disk takes it: what is kept of
// that is bounded, and nobody notices.
func TestOutputFlood(t *testing.T) {
	long(t)
	in := onSmallDisk(t)
	l, f := in.loaded("one origin floods its stdout")
	repeat(t, in, l, f, func(round int) []string { return floodRound(in, l, f, in.victims(round, 1)[0]) })
}

func floodRound(in *instance, l *load, f *fault, victim originStatus) (wrong []string) {
	before := in.mustStatus()
	// Its stdout is the file, and whoever writes to that prints.
	stdout, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", victim.PID), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return []string{err.Error()}
	}
	defer stdout.Close()
	block := bytes.Repeat([]byte("an origin that prints what nobody wants to read, again and again\n"), 1000)
	written := 0
	l.mark()
	for time.Since(l.marked) < felt {
		n, err := stdout.Write(block)
		written += n
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			wrong = append(wrong, err.Error())
		}
		time.Sleep(time.Millisecond) // 60 MB/s, and the other core for the rest
	}
	start := time.Now()
	for size := int64(-1); size < 0 || size > outputMost; time.Sleep(20 * time.Millisecond) {
		info, err := stdout.Stat()
		if err != nil {
			return append(wrong, err.Error())
		}
		if size = info.Size(); size > outputMost && time.Since(start) > 2*time.Second {
			wrong = append(wrong, fmt.Sprintf("%d bytes are kept of %d that %s has printed, %d are allowed", size, written, victim.ID, outputMost))
			break
		}
	}
	if written < 2*outputMost {
		wrong = append(wrong, fmt.Sprintf("%d bytes are no flood", written))
	}
	wrong = append(wrong, l.unharmed(nil, f)...)
	wrong = append(wrong, l.single()...)
	return append(wrong, in.siblings(before, nil)...)
}
