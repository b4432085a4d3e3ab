package load

import (
	"fmt"

	"srs-proxy/protocol/rtmp"
)

// rtmpPublisher publishes over RTMP: a frame is one chunk and one write.
type rtmpPublisher struct {
	*Publisher
	client rtmpClient
	frame  []byte
	wire   []byte
}

const publishChunk = 65536

func newRTMPPublisher(p *Publisher, t target) *rtmpPublisher {
	r := &rtmpPublisher{Publisher: p, frame: newFrame(p.stream.FrameSize)}
	r.client = rtmpClient{target: t, publish: true, started: r.accepted, message: func(message, int64) error { return nil }}
	r.client.conn = &conn{closed: true} // until begin
	p.carry = r
	return r
}

func (r *rtmpPublisher) begin() {
	r.client.conn = r.load.publishing.connect(r.client.target.addr, r)
}

func (r *rtmpPublisher) opened() { r.client.opened() }

func (r *rtmpPublisher) received(b []byte, now int64) error { return r.client.received(b, now) }

func (r *rtmpPublisher) close(why error) { r.client.conn.close(why) }

// accepted sends the configuration first.
func (r *rtmpPublisher) accepted(now int64) {
	r.client.conn.send(rtmp.AppendMessage(nil, r.message(sequenceHeader(), 0), publishChunk))
	r.start(now)
}

func (r *rtmpPublisher) message(payload []byte, ms uint32) rtmp.Message {
	return rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: r.client.streamID, Timestamp: ms, Payload: payload}
}

// maxBacklog is what is kept for a server that does not read, in bytes.
const maxBacklog = 32 << 20

func (r *rtmpPublisher) send(rec record, ms uint32, key bool, _ int) error {
	setKey(r.frame, key)
	rec.put(r.frame[unitPrefix:])
	r.wire = rtmp.AppendMessage(r.wire[:0], r.message(r.frame, ms), publishChunk)
	r.client.conn.send(r.wire)
	if n := len(r.client.conn.out); n > maxBacklog {
		return fmt.Errorf("the server does not take what is published: %d bytes wait", n)
	}
	return nil
}
