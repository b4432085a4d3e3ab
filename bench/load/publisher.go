package load

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Stream says what a publisher sends.
type Stream struct {
	FPS int // frames a second
	// FrameSize is a frame's size in bytes, MinFrame at least; over WebRTC and SRT it
	// is a packet's payload, and Burst of them make what is a frame elsewhere.
	FrameSize int
	Burst     int // 0 is 1
	// GOP is the number of frames from one key frame to the next.
	GOP int
	// Phase is the share of a frame's time by which the stream is ahead of others, 0 to 1.
	Phase float64
}

const (
	defaultFPS = 25
	// packetSize is what a packet of WebRTC carries at most, as senders choose it.
	packetSize = 1100
)

// StreamOf is a stream of a bit rate, in bits per second, with 25 frames a second and
// a key frame each two seconds.
func StreamOf(protocol Protocol, bitrate int) Stream {
	s := Stream{FPS: defaultFPS, FrameSize: max(MinFrame, bitrate/8/defaultFPS), Burst: 1, GOP: 2 * defaultFPS}
	switch protocol {
	case WebRTC:
		s.Burst = (s.FrameSize + packetSize - 1) / packetSize
		s.FrameSize = max(MinFrame, s.FrameSize/s.Burst)
	case SRT:
		s.Burst = max(1, (s.FrameSize+srtPayload/2)/srtPayload)
		s.FrameSize = srtPayload
	}
	return s
}

// Publisher sends frames to one stream. Its fields belong to the loop of publishers.
type Publisher struct {
	load   *Load
	id     uint32
	stream Stream
	carry  carrier
	closed bool
	err    error
	begun  atomic.Bool // the server takes frames

	ticks   int64  // of the clock that gives the frames their time
	seq     uint64 // frames, or packets, sent
	firstAt int64  // the first frame's time
	frames  uint64 // sent in the window
	bytes   uint64 // of these
	late    Histogram
}

// carrier takes the frames of a publisher to the server.
type carrier interface {
	// send sends a frame, or the nth packet of one, that says of itself what r says;
	// its size is the carrier's matter. ms is its time in the stream.
	send(r record, ms uint32, key bool, nth int) error
	// close ends the session; the publisher hears so by ended.
	close(why error)
}

// Publish begins to publish to a URL (rtmp://, webrtc://, srt://). Errors of the
// session are in Report.
func (l *Load) Publish(url string, s Stream) (*Publisher, error) {
	t, err := parseTarget(url)
	if err != nil {
		return nil, err
	}
	s.Burst = max(1, s.Burst)
	if s.FPS < 1 || s.FrameSize < MinFrame || s.FrameSize > maxMessage || s.GOP < 1 || s.Burst > 10_000 {
		return nil, fmt.Errorf("a stream of %d frames a second, %d x %d bytes each, key frame each %d", s.FPS, s.Burst, s.FrameSize, s.GOP)
	}
	p := &Publisher{load: l, stream: s}
	var begin func() // on the loop
	switch t.protocol {
	case RTMP:
		begin = newRTMPPublisher(p, t).begin
	case WebRTC:
		begin = newRTCPublisher(p, t).begin
	case SRT:
		begin = newSRTPublisher(p, t).begin
	default:
		return nil, fmt.Errorf("%w: %s is for players alone", ErrURL, t.protocol)
	}
	l.mu.Lock()
	l.named++
	p.id = l.named
	l.publishers = append(l.publishers, p)
	l.mu.Unlock()
	l.publishing.order(begin)
	return p, nil
}

func (p *Publisher) ended(err error) {
	p.closed = true
	p.begun.Store(false)
	if p.err == nil && err != errEnded {
		p.err = err
	}
}

// Running says whether the server takes frames.
func (p *Publisher) Running() bool { return p.begun.Load() }

// Stop ends the publisher; it is no error.
func (p *Publisher) Stop() {
	p.load.publishing.do(func() { p.carry.close(errEnded) })
}

// start is called when the server takes frames.
func (p *Publisher) start(now int64) {
	p.begun.Store(true)
	interval := int64(time.Second) / int64(p.stream.FPS)
	p.firstAt = now - now%interval + interval + int64(p.stream.Phase*float64(interval))
	p.load.publishing.every(p.firstAt, p.tick)
}

// due is the time of a tick.
func (p *Publisher) due(tick int64) int64 {
	return p.firstAt + tick*int64(time.Second)/int64(p.stream.FPS)
}

// tick sends the frame that is due. A frame that the socket does not take at once
// keeps the stamp of the attempt: its age is what a viewer would see.
func (p *Publisher) tick(int64) int64 {
	if p.closed {
		return 0
	}
	due := p.due(p.ticks)
	for nth := range p.stream.Burst {
		now := p.load.now()
		r := record{run: p.load.run, seq: p.seq, stamp: now, stream: p.id, size: uint32(p.stream.FrameSize)}
		p.seq++
		if p.load.within(now) {
			p.frames++
			p.bytes += uint64(p.stream.FrameSize)
			p.late.Record(now - due)
		}
		if err := p.carry.send(r, uint32((due-p.firstAt)/int64(time.Millisecond)), p.ticks%int64(p.stream.GOP) == 0, nth); err != nil {
			p.carry.close(err)
			return 0
		}
	}
	p.ticks++
	return p.due(p.ticks)
}
