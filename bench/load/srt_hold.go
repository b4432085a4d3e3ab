package load

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"srs-proxy/protocol/srt"
)

// srtHeld is a player of SRT that is there and does nothing:
//
//	induction ─▶ cookie, conclusion ─▶ answer │ a keepalive each second
//
// gosrt wakes up every 10 ms for each connection, so that on two cores hundreds of
// idle ones are all that the machine does. What comes is neither kept nor acknowledged:
// a sender drops what is too late and stays (draft-sharabayko-srt-01, section 4.6).
type srtHeld struct {
	player *Player
	target target
	conn   *conn
	over   bool

	begun  int64 // when the handshake was; the timestamps count from it
	ask    srt.Handshake
	stage  srt.Stage // of what is waited for; 0 when the session is open
	remote uint32    // the server's socket id
	packet []byte
}

const (
	srtPatience  = 250 * time.Millisecond // as libsrt's
	srtTimeout   = 3 * time.Second
	srtKeepalive = time.Second
	srtMTU       = 1500
	srtWindow    = 8192
	srtVersion   = 0x00010503
	srtLatency   = 120 // ms
	// srtFlags are libsrt's of a live session: packets by their time, late ones dropped,
	// losses told, and marked when sent again (section 3.2.1.1.1).
	srtFlags = 0xbf
)

func newSRTHeld(p *Player, t target) *srtHeld {
	s := &srtHeld{player: p, target: t, stage: srt.StageInduction}
	p.close = s.close
	return s
}

// begin is the induction, which is repeated until it is answered. The loop's timer then
// goes on to be that of the keepalives.
func (s *srtHeld) begin() {
	loop := s.player.load.playing
	s.begun = loop.now()
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	id := binary.BigEndian.Uint64(random[:])
	s.ask = srt.Handshake{
		Sequence: uint32(id>>32) & 0x7fffffff, MTU: srtMTU, FlowWindow: srtWindow, Stage: srt.StageInduction,
		SocketID: uint32(id)&0x3fffffff | 1, PeerIP: srt.PeerIP(s.target.addr.Addr()),
	}
	s.ask = s.ask.Induction()
	s.packet = s.ask.Append(nil, 0, 0)
	s.conn = &conn{loop: loop, fd: -1, session: s, udp: true, open: true}
	if err := s.conn.dialUDP(s.target.addr); err != nil {
		s.conn.close(fmt.Errorf("srt: %w", err))
		return
	}
	s.conn.send(s.packet)
	loop.every(s.begun+int64(srtPatience), s.tick)
}

// tick repeats what was not answered, or says that the session is alive.
func (s *srtHeld) tick(now int64) (next int64) {
	switch {
	case s.over:
		return 0
	case s.stage == 0:
		s.conn.send(s.control(srt.ControlKeepAlive, now))
		return now + int64(srtKeepalive)
	case now-s.begun > int64(srtTimeout):
		s.conn.close(errors.New("srt: no answer to a handshake"))
		return 0
	}
	s.conn.send(s.packet)
	return now + int64(srtPatience)
}

// control is a packet without content, but for libsrt's word of nothing.
func (s *srtHeld) control(kind srt.ControlType, now int64) []byte {
	b := binary.BigEndian.AppendUint32(s.packet[:0], (0x8000|uint32(kind))<<16)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32((now-s.begun)/1000))
	b = binary.BigEndian.AppendUint32(b, s.remote)
	s.packet = binary.BigEndian.AppendUint32(b, 0)
	return s.packet
}

func (s *srtHeld) opened() {}

// received takes the answers of the handshake and a good-bye; the rest is not looked at.
func (s *srtHeld) received(b []byte, now int64) error {
	p, err := srt.Parse(b)
	if err != nil {
		return nil // not from an SRT server, or cut short: the timer decides
	}
	if p.Is(srt.ControlShutdown) {
		return errors.New("srt: the server closed")
	}
	h, err := srt.ParseHandshake(p)
	if err != nil || s.stage == 0 {
		return nil
	}
	if reason, refused := h.Stage.Refused(); refused {
		return fmt.Errorf("srt: refused: %d", reason)
	}
	if h.Stage != s.stage {
		return nil
	}
	if h.Stage == srt.StageInduction {
		s.conclude(h.Cookie, now)
		return nil
	}
	s.stage, s.remote = 0, h.SocketID
	s.player.accepted(now)
	return nil
}

// conclude asks for the stream with the server's cookie.
func (s *srtHeld) conclude(cookie uint32, now int64) {
	s.stage = srt.StageConclusion
	s.ask.Version, s.ask.Encryption, s.ask.Extensions = srt.Version5, 0, srt.FlagHSReq|srt.FlagConfig
	s.ask.Stage, s.ask.Cookie = srt.StageConclusion, cookie
	b := s.ask.Append(s.packet[:0], 0, uint32((now-s.begun)/1000))
	b = binary.BigEndian.AppendUint16(b, uint16(srt.ExtensionHSReq))
	b = binary.BigEndian.AppendUint16(b, 3) // words
	b = binary.BigEndian.AppendUint32(b, srtVersion)
	b = binary.BigEndian.AppendUint32(b, srtFlags)
	b = binary.BigEndian.AppendUint32(b, srtLatency<<16|srtLatency)
	s.packet = srt.AppendStreamID(b, s.target.srtStreamID("request"))
	s.conn.send(s.packet)
}

// close ends the session from this side.
func (s *srtHeld) close(why error) {
	if s.conn == nil || s.over {
		return
	}
	if s.stage == 0 {
		s.conn.send(s.control(srt.ControlShutdown, s.player.load.now()))
	}
	s.conn.close(why)
}

// ended implements session.
func (s *srtHeld) ended(err error) {
	s.over = true
	s.player.ended(err)
}
