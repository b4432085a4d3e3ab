package load

import (
	"fmt"
	"sync/atomic"
)

// Player counts what it gets. Its fields belong to the loop of players.
type Player struct {
	load   *Load
	stream *Publisher      // whose frames it should get, if they are ours
	close  func(why error) // ends the session; the player hears so by ended
	closed bool
	err    error
	hold   bool        // running is being accepted: frames may never come
	begun  atomic.Bool // the first frame has come

	dialed  int64  // when the connection was begun
	prelude int64  // until the server accepted, 0 before
	first   int64  // until the first frame, 0 before
	all     uint64 // bytes of media, in and out of windows
	foreign uint64 // frames that no publisher of ours made
	tally   tally
}

// tally is what came of a window.
type tally struct {
	frames, bytes uint64
	disordered    uint64 // frames that came twice or after later ones
	damaged       uint64 // frames whose size is not what they say
	next          uint64 // the number after the newest frame's
	seen          uint64 // bit n: the frame n before the newest has come
	newest        int64  // the newest frame's stamp
}

// clear forgets what was counted, not what came last.
func (t *tally) clear() { *t = tally{next: t.next, seen: t.seen, newest: t.newest} }

// Play begins to play a URL (rtmp://, http://...flv, webrtc://, srt://). The publisher says which frames
// have to arrive; nil is for streams of others, of which only bytes are counted.
func (l *Load) Play(url string, of *Publisher) (*Player, error) {
	return l.play(url, &Player{load: l, stream: of})
}

// Hold is a player of a stream that has nothing to say, maybe: it runs as soon as the
// server has accepted it. Over WebRTC only the path is checked, and no keys are agreed on;
// over SRT what comes is not acknowledged.
func (l *Load) Hold(url string) (*Player, error) { return l.play(url, &Player{load: l, hold: true}) }

func (l *Load) play(url string, p *Player) (*Player, error) {
	t, err := parseTarget(url)
	if err != nil {
		return nil, err
	}
	p.close = func(error) {}
	var begin func() // on the loop
	switch t.protocol {
	case RTMP:
		begin = newRTMPPlayer(p, t).begin
	case FLV:
		begin = newFLVPlayer(p, t).begin
	case WebRTC:
		begin = newRTCPlayer(p, t).begin
	case SRT:
		if begin = newSRTPlayer(p, t).begin; p.hold {
			begin = newSRTHeld(p, t).begin
		}
	default:
		return nil, fmt.Errorf("%w: %s is not for players", ErrURL, t.protocol)
	}
	l.mu.Lock()
	l.players = append(l.players, p)
	l.mu.Unlock()
	l.playing.order(func() {
		p.dialed = l.now()
		begin()
	})
	return p, nil
}

// rtmpPlayer plays over RTMP.
type rtmpPlayer struct {
	*Player
	client rtmpClient
}

func newRTMPPlayer(p *Player, t target) *rtmpPlayer {
	return &rtmpPlayer{Player: p, client: rtmpClient{target: t, started: p.accepted, message: p.rtmpMessage}}
}

func (r *rtmpPlayer) begin() {
	r.client.conn = r.load.playing.connect(r.client.target.addr, r)
	r.Player.close = r.client.conn.close
}

func (r *rtmpPlayer) opened() { r.client.opened() }

func (r *rtmpPlayer) received(b []byte, now int64) error { return r.client.received(b, now) }

func (p *Player) ended(err error) {
	p.closed = true
	if p.err == nil && err != errEnded {
		p.err = err
	}
}

// Running says whether the first frame has come.
func (p *Player) Running() bool { return p.begun.Load() }

// Stop ends the player soon; it is no error.
func (p *Player) Stop() {
	p.load.playing.order(func() { p.close(errEnded) })
}

func (p *Player) accepted(now int64) {
	p.prelude = max(1, now-p.dialed)
	if p.hold {
		p.begun.Store(true)
	}
}

func (p *Player) rtmpMessage(m message, now int64) error {
	p.media(m.kind, m.head, m.length, now)
	return nil
}

// Tag types, which are RTMP's message types too.
const videoTag = 9

// media counts a message of audio or video by its beginning.
func (p *Player) media(kind uint8, head []byte, length int, now int64) {
	p.all += uint64(length)
	if kind != videoTag || !isFrame(head) {
		return
	}
	p.came(now)
	if len(head) < MinFrame {
		p.foreign++
		return
	}
	p.take(head[unitPrefix:], length, now)
}

// came notes the first frame's time.
func (p *Player) came(now int64) {
	if p.first == 0 {
		p.first = max(1, now-p.dialed)
		p.begun.Store(true)
	}
}

// take counts a frame, or packet, of a length whose record begins b.
func (p *Player) take(b []byte, length int, now int64) {
	r, ok := getRecord(b)
	if !ok || r.run != p.load.run || p.stream != nil && r.stream != p.stream.id {
		p.foreign++
		return
	}
	p.count(r, length, now)
}

// count takes a frame of ours.
func (p *Player) count(r record, length int, now int64) {
	t := &p.tally
	late, again := t.place(r)
	if !p.load.within(r.stamp) {
		return
	}
	if late {
		t.disordered++
	}
	switch {
	case again:
	case length != int(r.size):
		t.damaged++
	default:
		t.frames++
		t.bytes += uint64(length)
		p.load.age.Record(now - r.stamp)
	}
}

// place says whether a frame came after a later one, and whether it came before: one
// that is far behind counts as having come.
func (t *tally) place(r record) (late, again bool) {
	if r.seq >= t.next {
		t.seen = t.seen<<min(64, r.seq-t.next+1) | 1
		t.next, t.newest = r.seq+1, r.stamp
		return false, false
	}
	bit := uint64(1) << min(64, t.next-1-r.seq)
	again = bit == 0 || t.seen&bit != 0
	t.seen |= bit
	return true, again
}
