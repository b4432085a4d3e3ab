package load

import (
	"errors"
	"fmt"

	srt "github.com/datarhei/gosrt"
)

// srtPayload is what a packet of SRT carries: seven packets of a transport stream.
const (
	tsPacket   = 188
	srtPayload = 7 * tsPacket
	tsHeader   = 4
)

// srtSession is a session of SRT. Its protocol is gosrt's, with its own goroutines; what
// it counts is counted on the loop.
type srtSession struct {
	load   *Load
	loop   *loop
	target target
	mode   string
	conn   srt.Conn
	over   bool
	opened func(now int64)
	packet func(b []byte) // beside the loop; nil for publishers
	ended  func(error)
}

func (s *srtSession) begin() {
	s.load.aside(func() {
		c := srt.DefaultConfig()
		c.StreamId = s.target.srtStreamID(s.mode)
		conn, err := srt.Dial("srt", s.target.addr.String(), c)
		if err != nil {
			err = fmt.Errorf("srt: %w", err)
		}
		if !s.loop.order(func() { s.adopt(conn, err) }) && conn != nil {
			_ = conn.Close() // nobody is left to care
		}
	})
}

func (s *srtSession) adopt(conn srt.Conn, err error) {
	s.conn = conn
	if err != nil || s.over {
		s.close(err)
		return
	}
	s.opened(s.loop.now())
	s.load.aside(func() { s.read(conn) })
}

// read takes packets until the connection ends; a publisher gets none.
func (s *srtSession) read(conn srt.Conn) {
	b := make([]byte, 2048)
	for {
		n, err := conn.Read(b)
		if err != nil {
			s.loop.order(func() { s.close(fmt.Errorf("srt: %w", err)) })
			return
		}
		if s.packet != nil {
			s.packet(b[:n])
		}
	}
}

func (s *srtSession) close(why error) {
	if !s.over {
		s.over = true
		s.ended(why)
	}
	if conn := s.conn; conn != nil {
		s.conn = nil
		s.load.aside(func() { _ = conn.Close() }) // it waits for its goroutines
	}
}

// srtPublisher publishes over SRT, in null packets of a transport stream.
type srtPublisher struct {
	srtSession
	payload []byte
}

func newSRTPublisher(p *Publisher, t target) *srtPublisher {
	r := &srtPublisher{payload: make([]byte, srtPayload)}
	for i := range r.payload {
		r.payload[i] = filler
	}
	for i := 0; i < srtPayload; i += tsPacket {
		copy(r.payload[i:], []byte{0x47, 0x1f, 0xff, 0x10})
	}
	r.srtSession = srtSession{load: p.load, loop: p.load.publishing, target: t, mode: "publish", opened: p.start, ended: p.ended}
	p.carry = r
	return r
}

var errSRTQueue = errors.New("srt: the queue of what is published is full")

func (r *srtPublisher) send(rec record, _ uint32, _ bool, _ int) error {
	rec.put(r.payload[tsHeader:])
	if _, err := r.conn.Write(r.payload); err != nil {
		return errSRTQueue
	}
	return nil
}

// srtStreamID is how SRT names the target; the mode is "publish" or "request".
func (t target) srtStreamID(mode string) string {
	if t.streamID != "" {
		return t.streamID
	}
	return "#!::r=" + t.app + "/" + t.stream + ",m=" + mode
}

func newSRTPlayer(p *Player, t target) *srtSession {
	s := &srtSession{load: p.load, loop: p.load.playing, target: t, mode: "request", opened: p.accepted, ended: p.ended}
	s.packet = func(b []byte) {
		now, length := p.load.now(), len(b)
		var head [recordSize]byte
		if length >= tsHeader+recordSize {
			copy(head[:], b[tsHeader:])
		}
		s.loop.order(func() {
			p.all += uint64(length)
			p.came(now)
			p.take(head[:], length, now)
		})
	}
	p.close = s.close
	return s
}
