package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// output is what a process prints, in a file of its work dir.
//
// It is no pipe, because a pipe ends with its reader: after a kill -9 of this
// process the next line that an origin prints would fail, and a Go program whose
// stdout or stderr is a broken pipe is ended by SIGPIPE (os/signal). Nor may the
// origin hold the pipe's other end itself: the pipe would never break, but once
// full it would block, and SRS with it, with all its streams (it ignores SIGPIPE,
// _st_io_init in its st-srs/io.c, but prints from its only thread). A file does
// neither, and the next supervisor finds it by its name.
//
// It is open for appending, so it can be cut at any time. While a supervisor lives
// it is (outputs.run); an origin without one writes on.
type output struct {
	mu   sync.Mutex // guards the following
	f    *os.File   // nil when there is none, or nothing more to come
	kept []byte     // the end of what was cut off
	size int64      // at the last look
}

const (
	// originOutput is the name of the file.
	originOutput = "output.log"
	// outputShown is how much of the end is shown: SRS logs to a file of its own,
	// so what comes here is its first lines and its last words.
	outputShown = 16 << 10
	// outputLimit is how large the file may grow between two looks.
	outputLimit = 256 << 10
	// outputLook is how often a file is looked at that grew since the last look, and
	// looksPerRound after how many looks all others are: origins that are well print
	// nothing.
	outputLook    = 100 * time.Millisecond
	looksPerRound = 10
)

// newOutput begins a new file. What the process before it printed is kept as
// PATH.old: its last words say why it is no more.
func newOutput(path string) (*output, error) {
	if err := os.Rename(path, path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("output file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("output file: %w", err)
	}
	return &output{f: f}, nil
}

// reopenOutput goes on with the file of a process that is adopted. Without one
// there is nothing to show.
func reopenOutput(path string) *output {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return &output{}
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return &output{}
	}
	return &output{f: f}
}

// lines returns the last n lines, as they were printed but safe to show.
func (o *output) lines(n int) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return lastLines(string(o.tail()), n)
}

// tail is the end of all that was printed. The caller holds mu.
func (o *output) tail() []byte {
	text := o.kept
	if o.f != nil {
		if info, err := o.f.Stat(); err == nil {
			end := make([]byte, min(info.Size(), outputShown))
			n, _ := o.f.ReadAt(end, info.Size()-int64(len(end))) // less, when it is cut just now
			text = append(text[:len(text):len(text)], end[:n]...)
		}
	}
	return text[max(0, len(text)-outputShown):]
}

// bound cuts a file that has grown too large, and says whether it has grown at all.
// A line that is printed between the look and the cut is lost.
func (o *output) bound() (grew bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.f == nil {
		return false
	}
	info, err := o.f.Stat()
	if err != nil {
		return false
	}
	grew = info.Size() != o.size
	o.size = info.Size()
	if o.size > outputLimit {
		o.kept = o.tail()
		_ = o.f.Truncate(0) // where it fails the disk is the problem, and the next look tries again
	}
	return grew
}

// end keeps the last words, cuts what is too large a last time and closes the file.
func (o *output) end() {
	o.bound()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.f != nil {
		o.kept = o.tail()
		o.f.Close()
		o.f = nil
	}
}

// outputs bounds the files of all processes from one goroutine.
type outputs struct {
	mu    sync.Mutex       // guards all
	all   map[*output]bool // those that grew when they were looked at last, or are new
	added chan struct{}    // there is a new one
}

func newOutputs() *outputs {
	return &outputs{all: make(map[*output]bool), added: make(chan struct{}, 1)}
}

func (l *outputs) add(o *output) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[o] = true
	select {
	case l.added <- struct{}{}:
	default:
	}
}

// end ends an output that was added.
func (l *outputs) end(o *output) {
	l.mu.Lock()
	delete(l.all, o)
	l.mu.Unlock()
	o.end()
}

// run bounds them until ended is closed. While none grows it sleeps for a round: a proxy that
// has nothing else to do would wake up for each look.
func (l *outputs) run(ended <-chan struct{}) {
	next := time.NewTimer(outputLook)
	defer next.Stop()
	asleep := false
	for n := 0; ; {
		select {
		case <-ended:
			return
		case <-l.added:
			if asleep {
				asleep = false
				next.Reset(outputLook)
			}
		case <-next.C:
			asleep = !l.look(n%looksPerRound == 0)
			if n++; asleep {
				n = 0 // the next look is at all
				next.Reset(looksPerRound * outputLook)
			} else {
				next.Reset(outputLook)
			}
		}
	}
}

// look bounds those that grew, or all, and tells whether some still do.
func (l *outputs) look(all bool) (busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for o, grew := range l.all {
		if grew || all {
			grew = o.bound()
			l.all[o] = grew
		}
		busy = busy || grew
	}
	return busy
}
