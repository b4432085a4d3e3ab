package main

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fetches counts how often SRS opens each of its HLS segments, which it does once for each
// request, by inotify(7). The built-in origin has no files.
type fetches struct {
	queue *os.File
	done  chan struct{}
	// opens is by the segment's name; run has it until done is closed.
	opens map[string]int
}

// fetchEvents has what comes between two times that a file is opened, too: the kernel
// makes one event of two that are the same.
const fetchEvents = unix.IN_OPEN | unix.IN_ACCESS | unix.IN_CLOSE_NOWRITE

// watchFetches begins to count in all folders under dir that have segments. It returns
// nil where there are none.
func watchFetches(dir string) (*fetches, error) {
	var folders []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ts") {
			if folder := filepath.Dir(path); len(folders) == 0 || folders[len(folders)-1] != folder {
				folders = append(folders, folder)
			}
		}
		return nil // SRS removes files meanwhile
	})
	if err != nil || len(folders) == 0 {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	f := &fetches{queue: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{}), opens: map[string]int{}}
	for _, folder := range folders {
		if _, err := unix.InotifyAddWatch(fd, folder, fetchEvents); err != nil {
			f.queue.Close()
			return nil, fmt.Errorf("watch %s: %w", folder, err)
		}
	}
	go f.run()
	return f, nil
}

// run takes events until the deadline that end sets, and then those that are left.
func (f *fetches) run() {
	defer close(f.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := f.queue.Read(buf)
		if err != nil {
			break
		}
		f.count(buf[:n])
	}
	raw, err := f.queue.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // fails only on a closed file
		for {
			n, err := unix.Read(int(fd), buf)
			if err != nil || n <= 0 {
				return
			}
			f.count(buf[:n])
		}
	})
}

// count takes events: each is a header and the file's name with NULs.
func (f *fetches) count(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:size]), "\x00")
		if binary.NativeEndian.Uint32(b[4:])&unix.IN_OPEN != 0 && strings.HasSuffix(name, ".ts") {
			f.opens[name]++
		}
		b = b[size:]
	}
}

// end is how often a segment was fetched on average.
func (f *fetches) end() float64 {
	_ = f.queue.SetReadDeadline(time.Unix(1, 0)) // of what inotify gives, always possible
	<-f.done
	f.queue.Close()
	all := 0
	for _, n := range f.opens {
		all += n
	}
	return float64(all) / float64(max(1, len(f.opens)))
}
