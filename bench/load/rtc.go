package load

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/pion/rtp"
)

// rtcSession is a session of WebRTC on a loop.
type rtcSession struct {
	load    *Load
	loop    *loop
	target  target
	publish bool
	hold    bool // no media: the path alone is checked, and kept alive
	ssrc    uint32

	setup    *rtcSetup
	conn     *conn
	isOver   bool
	whenOver func(error)
	ready    func(now int64)
	media    func(packet []byte, now int64) error
}

// keepalive is how often a session is checked again; servers forget one after 30 s or so.
const keepalive = 2 * time.Second

// begin sets the session up beside the loop.
func (s *rtcSession) begin() {
	s.load.aside(func() {
		cert, err := s.load.certificate()
		var setup *rtcSetup
		if err == nil {
			setup, err = setupRTC(s.load.ctx, s.target, s.publish, s.hold, s.ssrc, cert)
		}
		s.loop.orderOr(func() { s.adopt(setup, err) }, func() {
			if setup != nil {
				setup.bye(s.load.ctx)
			}
		})
	})
}

// adopt begins the session's life on the loop.
func (s *rtcSession) adopt(setup *rtcSetup, err error) {
	s.setup = setup
	if s.isOver || err != nil {
		s.over(err)
		return
	}
	s.conn = &conn{loop: s.loop, fd: setup.fd, session: s, udp: true, open: true}
	if err := s.conn.adopt(); err != nil {
		s.over(err)
		return
	}
	s.ready(s.loop.now())
	s.loop.every(s.loop.now()+int64(keepalive), func(now int64) int64 {
		if s.isOver {
			return 0
		}
		s.conn.send(s.setup.check)
		return now + int64(keepalive)
	})
}

func (s *rtcSession) opened() {}

// received sorts by the first bytes (RFC 7983, RFC 5761): only RTP counts.
func (s *rtcSession) received(b []byte, now int64) error {
	if len(b) < 12 || b[0]>>6 != 2 || b[1]&0x7f >= 64 && b[1]&0x7f < 96 || s.media == nil {
		return nil
	}
	return s.media(b, now)
}

// ended implements session: the loop closes.
func (s *rtcSession) ended(err error) { s.over(err) }

func (s *rtcSession) close(why error) { s.over(why) }

// over ends the session; the good-byes are said beside the loop.
func (s *rtcSession) over(why error) {
	if !s.isOver {
		s.isOver = true
		s.whenOver(why)
	}
	setup := s.setup
	s.setup = nil
	if setup == nil {
		return
	}
	if s.conn != nil {
		s.conn.abandon()
	}
	s.load.aside(func() { setup.bye(s.load.ctx) })
}

// rtcPublisher publishes over WebRTC: each packet is a NAL unit.
type rtcPublisher struct {
	rtcSession
	publisher *Publisher
	packet    []byte // RTP
	out       []byte // SRTP
	header    rtp.Header
}

const (
	rtpHeader = 12
	rtpClock  = 90 // ticks a ms
)

func newRTCPublisher(p *Publisher, t target) *rtcPublisher {
	r := &rtcPublisher{publisher: p, packet: make([]byte, rtpHeader+p.stream.FrameSize)}
	for i := range r.packet {
		r.packet[i] = filler
	}
	r.packet[0], r.packet[rtpHeader] = 0x80, 0x41
	r.rtcSession = rtcSession{load: p.load, loop: p.load.publishing, target: t, publish: true, ssrc: 0x5b000000 + uint32(t.addr.Port()), whenOver: p.ended, ready: p.start}
	p.carry = r
	return r
}

func (r *rtcPublisher) send(rec record, ms uint32, _ bool, nth int) error {
	b := r.packet
	b[1] = rtcPayloadType
	if nth == r.publisher.stream.Burst-1 {
		b[1] |= 0x80 // the marker: the picture is whole
	}
	binary.BigEndian.PutUint16(b[2:], uint16(rec.seq))
	binary.BigEndian.PutUint32(b[4:], ms*rtpClock)
	binary.BigEndian.PutUint32(b[8:], r.ssrc)
	rec.put(b[rtpHeader+1:])
	if _, err := r.header.Unmarshal(b); err != nil {
		return err
	}
	var err error
	if r.out, err = r.setup.send.EncryptRTP(r.out[:0], b, &r.header); err != nil {
		return fmt.Errorf("srtp: %w", err)
	}
	r.conn.send(r.out)
	return nil
}

// rtcPlayer plays over WebRTC.
type rtcPlayer struct {
	rtcSession
	player *Player
	header rtp.Header
	plain  []byte
}

func newRTCPlayer(p *Player, t target) *rtcPlayer {
	r := &rtcPlayer{player: p}
	r.rtcSession = rtcSession{load: p.load, loop: p.load.playing, target: t, hold: p.hold, whenOver: p.ended, ready: p.accepted}
	if !p.hold {
		r.media = r.rtp
	}
	p.close = r.close
	return r
}

func (r *rtcPlayer) rtp(b []byte, now int64) error {
	n, err := r.header.Unmarshal(b)
	if err != nil {
		return nil // not what we would have sent; it is missed as a loss
	}
	if r.plain, err = r.setup.receive.DecryptRTP(r.plain[:0], b, &r.header); err != nil {
		r.player.tally.damaged++
		return nil
	}
	payload := r.plain[n:]
	r.player.all += uint64(len(payload))
	r.player.came(now)
	if len(payload) < 1+recordSize {
		r.player.foreign++
		return nil
	}
	r.player.take(payload[1:], len(payload), now)
	return nil
}
