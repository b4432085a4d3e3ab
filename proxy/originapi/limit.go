package originapi

import (
	"io"
	"sync/atomic"
)

// budget is a number of bytes that many share.
type budget struct {
	most int64
	used atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.most {
		b.used.Add(-n)
		return false
	}
	return true
}

// limitedReader reads up to a limit of its own and up to one that it shares. Over
// either it is full, and fails.
type limitedReader struct {
	r    io.Reader
	left int64
	all  *budget
	held int64
	full bool
	err  error // of the reader, other than its end
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if int64(n) > l.left || !l.all.take(int64(n)) {
		l.full = true
		return 0, ErrTooLarge
	}
	l.left -= int64(n)
	l.held += int64(n)
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// release gives back what was taken of the shared limit.
func (l *limitedReader) release() { l.all.used.Add(-l.held) }
