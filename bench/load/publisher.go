package load

import (
	"fmt"
	"sync/atomic"
	"time"

	"srs-proxy/protocol/rtmp"
)

// Stream says what a publisher sends.
type Stream struct {
	FPS int // frames a second
	// FrameSize is a frame's size in bytes, MinFrame at least.
	FrameSize int
	// GOP is the number of frames from one key frame to the next.
	GOP int
	// Phase is the share of a frame's time by which the stream is ahead of others, 0 to 1.
	Phase float64
}

// StreamOf is a stream of a bit rate, in bits per second, with 25 frames a second and
// a key frame each two seconds.
func StreamOf(bitrate int) Stream {
	const fps = 25
	return Stream{FPS: fps, FrameSize: max(MinFrame, bitrate/8/fps), GOP: 2 * fps}
}

// Publisher sends frames to one stream. Its fields belong to the loop of publishers.
type Publisher struct {
	load   *Load
	id     uint32
	stream Stream
	client rtmpClient
	closed bool
	err    error
	begun  atomic.Bool // the server takes frames

	frame   []byte
	wire    []byte
	seq     uint64
	firstAt int64  // the first frame's time
	frames  uint64 // sent in the window
	bytes   uint64 // of these
	late    Histogram
}

// publishChunk is the chunk size of publishers: a frame is one chunk and one write.
const publishChunk = 65536

// Publish begins to publish to a URL (rtmp://). Errors of the session are in Report.
func (l *Load) Publish(url string, s Stream) (*Publisher, error) {
	t, err := parseTarget(url)
	if err != nil {
		return nil, err
	}
	if t.protocol != RTMP {
		return nil, fmt.Errorf("%w: publishing goes by rtmp://", ErrURL)
	}
	if s.FPS < 1 || s.FrameSize < MinFrame || s.FrameSize > maxMessage || s.GOP < 1 {
		return nil, fmt.Errorf("a stream of %d frames a second, %d bytes each, key frame each %d", s.FPS, s.FrameSize, s.GOP)
	}
	p := &Publisher{load: l, stream: s, frame: newFrame(s.FrameSize)}
	p.client = rtmpClient{target: t, publish: true, started: p.start, message: func(message, int64) error { return nil }}
	l.mu.Lock()
	l.named++
	p.id = l.named
	l.publishers = append(l.publishers, p)
	l.mu.Unlock()
	l.publishing.order(func() {
		p.client.conn = &conn{} // replaced by connect, unless that fails at once
		p.client.conn = l.publishing.connect(t.addr, p)
	})
	return p, nil
}

func (p *Publisher) opened() { p.client.opened() }

func (p *Publisher) received(b []byte, now int64) error { return p.client.received(b, now) }

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
	p.load.publishing.do(func() { p.client.conn.close(errEnded) })
}

// start is called when the server has accepted: the configuration goes first.
func (p *Publisher) start(now int64) {
	b := rtmp.AppendMessage(nil, rtmp.ControlMessage(rtmp.TypeSetChunkSize, publishChunk), rtmp.DefaultChunkSize)
	b = rtmp.AppendMessage(b, p.message(sequenceHeader(), 0), publishChunk)
	p.client.conn.send(b)
	p.begun.Store(true)
	interval := int64(time.Second) / int64(p.stream.FPS)
	p.firstAt = now - now%interval + interval + int64(p.stream.Phase*float64(interval))
	p.load.publishing.every(p.firstAt, p.tick)
}

func (p *Publisher) message(payload []byte, ms uint32) rtmp.Message {
	return rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: p.client.streamID, Timestamp: ms, Payload: payload}
}

// tick sends the frame that is due. A frame that the socket does not take at once
// keeps the stamp of the attempt: its age is what a viewer would see.
func (p *Publisher) tick(int64) int64 {
	if p.closed {
		return 0
	}
	due := p.firstAt + int64(p.seq)*int64(time.Second)/int64(p.stream.FPS)
	setKey(p.frame, p.seq%uint64(p.stream.GOP) == 0)
	now := p.load.now()
	record{run: p.load.run, seq: p.seq, stamp: now, stream: p.id, size: uint32(len(p.frame))}.put(p.frame[unitPrefix:])
	if p.load.within(now) {
		p.frames++
		p.bytes += uint64(len(p.frame))
		p.late.Record(now - due)
	}
	p.wire = rtmp.AppendMessage(p.wire[:0], p.message(p.frame, uint32((due-p.firstAt)/int64(time.Millisecond))), publishChunk)
	p.seq++
	p.client.conn.send(p.wire)
	if len(p.client.conn.out) > maxBacklog {
		p.client.conn.close(errBacklog)
		return 0
	}
	return p.firstAt + int64(p.seq)*int64(time.Second)/int64(p.stream.FPS)
}

// maxBacklog is what a publisher keeps for a server that does not read, in bytes.
const maxBacklog = 32 << 20

var errBacklog = fmt.Errorf("the server does not take what is published: %d bytes wait", maxBacklog)
