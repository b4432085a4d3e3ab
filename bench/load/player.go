package load

import (
	"fmt"
	"sync/atomic"
)

// Player counts what it gets. Its fields belong to the loop of players.
type Player struct {
	load   *Load
	stream *Publisher // whose frames it should get, if they are ours
	conn   *conn
	closed bool
	err    error
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
	newest        int64  // the newest frame's stamp
}

// clear forgets what was counted, not what came last.
func (t *tally) clear() { *t = tally{next: t.next, newest: t.newest} }

// Play begins to play a URL (rtmp://, http://...flv). The publisher says which frames
// have to arrive; nil is for streams of others, of which only bytes are counted.
func (l *Load) Play(url string, of *Publisher) (*Player, error) {
	t, err := parseTarget(url)
	if err != nil {
		return nil, err
	}
	p := &Player{load: l, stream: of}
	var s session
	switch t.protocol {
	case RTMP:
		s = &rtmpPlayer{Player: p, client: rtmpClient{target: t, started: p.accepted, message: p.rtmpMessage}}
	case FLV:
		s = newFLVPlayer(p, t)
	default:
		return nil, fmt.Errorf("%w: %s is not for players", ErrURL, t.protocol)
	}
	l.mu.Lock()
	l.players = append(l.players, p)
	l.mu.Unlock()
	l.playing.order(func() {
		p.dialed = l.now()
		p.conn = &conn{}
		p.conn = l.playing.connect(t.addr, s)
		if r, ok := s.(*rtmpPlayer); ok {
			r.client.conn = p.conn
		}
	})
	return p, nil
}

// rtmpPlayer plays over RTMP.
type rtmpPlayer struct {
	*Player
	client rtmpClient
}

func (p *rtmpPlayer) opened() { p.client.opened() }

func (p *rtmpPlayer) received(b []byte, now int64) error { return p.client.received(b, now) }

func (p *Player) ended(err error) {
	p.closed = true
	if p.err == nil && err != errEnded {
		p.err = err
	}
}

// Running says whether the first frame has come.
func (p *Player) Running() bool { return p.begun.Load() }

// Stop ends the player; it is no error.
func (p *Player) Stop() {
	p.load.playing.do(func() { p.conn.close(errEnded) })
}

func (p *Player) accepted(now int64) { p.prelude = max(1, now-p.dialed) }

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
	if p.first == 0 {
		p.first = max(1, now-p.dialed)
		p.begun.Store(true)
	}
	if len(head) < MinFrame {
		p.foreign++
		return
	}
	r, ok := getRecord(head[unitPrefix:])
	if !ok || r.run != p.load.run || p.stream != nil && r.stream != p.stream.id {
		p.foreign++
		return
	}
	p.count(r, length, now)
}

// count takes a frame of ours.
func (p *Player) count(r record, length int, now int64) {
	t := &p.tally
	late := r.seq < t.next
	if !late {
		t.next, t.newest = r.seq+1, r.stamp
	}
	if !p.load.within(r.stamp) {
		return
	}
	switch {
	case late:
		t.disordered++
	case length != int(r.size):
		t.damaged++
	default:
		t.frames++
		t.bytes += uint64(length)
		p.load.age.Record(now - r.stamp)
	}
}
