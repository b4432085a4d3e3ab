package origin

import (
	"context"
	"net"
	"strconv"
	"time"
)

// A player's writes. One batch at a time goes out, as one writev(2), so that a
// slow player pins little, and its deadline says something about progress.
const (
	batchBytes = 256 << 10
	// writeStall is without progress for how long a player is given up. Deadlines
	// are moved only when a sixth of it has passed, so it is 25 to 30 s in fact.
	writeStall = 30 * time.Second
)

// framing turns frames into what a protocol puts on the wire.
type framing interface {
	// append adds the bytes of frames to bufs. scratch is empty at the start of a
	// batch and may be used for bytes that no frame has.
	append(bufs net.Buffers, scratch *[]byte, frames []*frame) net.Buffers
}

// sink is the goroutine side of a player: it moves frames from the queue to the
// connection.
type sink struct {
	conn    *conn
	framing framing
	chunked bool // HTTP/1.1 chunked coding around each batch
	merge   time.Duration
	stall   time.Duration

	deadline time.Time
	frames   []*frame
	bufs     net.Buffers
	scratch  []byte
	chunk    [20]byte
	tail     [2]byte
}

// run returns when ctx or the queue ends, or a write fails. The frames of an
// ended queue are written first.
func (s *sink) run(ctx context.Context, q *queue) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-q.ready:
		}
		for {
			var err error
			s.frames, err = q.take(s.frames[:0], batchBytes)
			if err != nil {
				return err
			}
			if len(s.frames) == 0 {
				break
			}
			if err := s.write(s.frames); err != nil {
				return err
			}
			clear(s.frames)
			if s.merge > 0 && !s.wait(ctx) {
				return context.Cause(ctx)
			}
		}
	}
}

// wait lets frames gather for the next write.
func (s *sink) wait(ctx context.Context) bool {
	t := time.NewTimer(s.merge)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (s *sink) write(frames []*frame) error {
	s.scratch = s.scratch[:0]
	bufs := s.bufs[:0]
	if s.chunked {
		bufs = append(bufs, nil)
	}
	bufs = s.framing.append(bufs, &s.scratch, frames)
	if s.chunked {
		size := 0
		for _, b := range bufs[1:] {
			size += len(b)
		}
		if size == 0 {
			return nil // an empty chunk would end the response
		}
		bufs[0] = append(strconv.AppendInt(s.chunk[:0], int64(size), 16), '\r', '\n')
		bufs = append(bufs, append(s.tail[:0], "\r\n"...))
	}
	if len(bufs) == 0 {
		return nil
	}
	s.bufs = bufs // WriteTo eats the copy
	if err := s.extend(); err != nil {
		return err
	}
	err := s.conn.writeBuffers(&bufs)
	clear(s.bufs)
	return err
}

// extend moves the write deadline, but not each time: a timer costs more than a
// look at the clock.
func (s *sink) extend() error {
	now := time.Now()
	if s.deadline.Sub(now) > s.stall-s.stall/6 {
		return nil
	}
	s.deadline = now.Add(s.stall)
	return s.conn.SetWriteDeadline(s.deadline)
}
