package origin

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// rtcFan gives the RTP packets of a stream to its WebRTC players. Each kind is one
// lane, whose sequence and clock go on when a publisher goes and another comes:
// a jump back would break the decryption at the players (RFC 3711 section 3.3.1).
//
// Packets are written where they come, in the publisher's goroutine: a player has
// neither queue nor goroutine for media. Writes don't wait: UDP drops, and so does
// the buffer of a player on TCP.
type rtcFan struct {
	active atomic.Int32 // players; what a publisher looks at before it makes packets

	mu       sync.Mutex // guards the following
	players  map[*rtcPlayer]struct{}
	lanes    [rtcKinds]rtcLane
	keyframe func() // asks the publisher for one; nil where it can't be asked
}

const (
	rtcAudio = iota
	rtcVideo
	rtcKinds
)

// rtcLane is what has been sent of one kind.
type rtcLane struct {
	mime      string // of the publication, "" where there is none
	rate      uint32 // of the clock, Hz
	based     bool   // the offsets are those of this publication
	seqOffset uint16
	tsOffset  uint32

	used    bool
	lastSeq uint16
	lastTS  uint32
	lastAt  time.Time
}

// rtcPlayer is the media side of a player's session.
type rtcPlayer struct {
	tracks [rtcKinds]*rtcTrack // nil for a kind that was not asked for
	meter  *meter
}

// publish begins a publication: mimes are of the audio and the video, "" for none.
// keyframe may be nil.
func (f *rtcFan) publish(mimes [rtcKinds]string, rates [rtcKinds]uint32, keyframe func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for kind := range f.lanes {
		l := &f.lanes[kind]
		l.mime, l.rate, l.based = mimes[kind], rates[kind], false
	}
	f.keyframe = keyframe
}

// unpublish ends it.
func (f *rtcFan) unpublish() { f.publish([rtcKinds]string{}, [rtcKinds]uint32{}, nil) }

// mime is the codec of what is published, "" for nothing.
func (f *rtcFan) mime(kind int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lanes[kind].mime
}

func (f *rtcFan) join(p *rtcPlayer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.players == nil {
		f.players = make(map[*rtcPlayer]struct{})
	}
	f.players[p] = struct{}{}
	f.active.Store(int32(len(f.players)))
}

func (f *rtcFan) leave(p *rtcPlayer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.players, p)
	f.active.Store(int32(len(f.players)))
}

// askKeyframe passes a player's wish on to the publisher.
func (f *rtcFan) askKeyframe() {
	f.mu.Lock()
	ask := f.keyframe
	f.mu.Unlock()
	if ask != nil {
		ask()
	}
}

// send writes one packet to all players that have its codec. Of the header it
// takes sequence number, time and marker; header extensions are between the
// publisher and us.
func (f *rtcFan) send(kind int, h rtp.Header, payload []byte) {
	if f.active.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := &f.lanes[kind]
	out := rtp.Header{Version: 2, Marker: h.Marker, PaddingSize: h.PaddingSize, Padding: h.Padding}
	out.SequenceNumber, out.Timestamp = l.place(h.SequenceNumber, h.Timestamp, time.Now())
	for p := range f.players {
		if t := p.tracks[kind]; t != nil {
			p.meter.out.Add(int64(t.write(l.mime, out, payload)))
		}
	}
}

// place gives a packet its place in the lane.
func (l *rtcLane) place(seq uint16, ts uint32, now time.Time) (uint16, uint32) {
	if !l.based {
		l.based, l.seqOffset, l.tsOffset = true, 0, 0
		if l.used {
			passed := max(now.Sub(l.lastAt).Milliseconds(), 1) * int64(l.rate) / 1000
			l.seqOffset, l.tsOffset = l.lastSeq+1-seq, l.lastTS+uint32(passed)-ts
		}
	}
	seq, ts = seq+l.seqOffset, ts+l.tsOffset
	if !l.used || int16(seq-l.lastSeq) > 0 {
		l.used, l.lastSeq, l.lastTS, l.lastAt = true, seq, ts, now
	}
	return seq, ts
}

// rtcTrack is one kind of media to one player. It implements webrtc.TrackLocal.
type rtcTrack struct {
	kind  webrtc.RTPCodecType
	mime  string
	label string
	bound atomic.Pointer[rtcBinding]
}

type rtcBinding struct {
	id   string
	ssrc uint32
	pt   uint8
	w    webrtc.TrackLocalWriter
}

var _ webrtc.TrackLocal = (*rtcTrack)(nil)

// Bind is called when the answer is made.
func (t *rtcTrack) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	for _, p := range c.CodecParameters() {
		if strings.EqualFold(p.MimeType, t.mime) {
			t.bound.Store(&rtcBinding{c.ID(), uint32(c.SSRC()), uint8(p.PayloadType), c.WriteStream()})
			return p, nil
		}
	}
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}

// Unbind is called when the session ends.
func (t *rtcTrack) Unbind(webrtc.TrackLocalContext) error {
	t.bound.Store(nil)
	return nil
}

// ID, RID, StreamID and Kind name the track in the answer.
func (t *rtcTrack) ID() string { return t.kind.String() + "-" + t.label }

// RID is of simulcast only.
func (*rtcTrack) RID() string { return "" }

// StreamID is the same of audio and video: they belong together.
func (t *rtcTrack) StreamID() string { return t.label }

// Kind is audio or video.
func (t *rtcTrack) Kind() webrtc.RTPCodecType { return t.kind }

// write returns what has been written. Before DTLS is done that is nothing.
func (t *rtcTrack) write(mime string, h rtp.Header, payload []byte) int {
	b := t.bound.Load()
	if b == nil || !strings.EqualFold(mime, t.mime) {
		return 0
	}
	h.SSRC, h.PayloadType = b.ssrc, b.pt
	n, err := b.w.WriteRTP(&h, payload)
	if err != nil {
		return 0 // the session's own timers notice
	}
	return n
}
