package origin

import (
	"bytes"
	"sync"
	"time"

	"github.com/pion/webrtc/v4"

	"srs-proxy/protocol/rtmp"
	"srs-proxy/protocol/streamurl"
)

// chunkSize is what SRS announces by default (chunk_size 60000). Frames are cut
// into chunks once, for all RTMP players.
const chunkSize = 60000

// pureAudio is after how many audio frames without a video frame a stream counts
// as audio only, so that players do not wait for a keyframe that never comes (SRS:
// SRS_PURE_AUDIO_GUESS_COUNT).
const pureAudio = 115

// stream is what is published under one name: the state a new player needs, and
// the players.
type stream struct {
	hub *hub
	key streamurl.Stream
	id  string
	rtc rtcFan

	// hub.mu guards the following.
	publisher *client
	clients   int // the publisher, players and HLS viewers
	tcURL     string
	traffic   traffic

	mu         sync.Mutex // guards the following
	players    map[*player]struct{}
	meta       *frame
	videoSH    *frame
	audioSH    *frame
	videoInfo  videoInfo
	audioInfo  audioInfo
	gop        gopCache
	audioRun   int   // audio frames since the last video frame
	frames     int64 // video frames ever
	last       uint32
	lastValid  bool // a frame was ever sent to players
	remux      *remuxer
	direct     bool      // the publisher's own transport stream goes to SRT players
	hlsExpires time.Time // of a stream that nobody publishes
}

// player is one consumer of a stream.
type player struct {
	q         *queue
	audioOnly bool
	ts        bool // takes transport stream packets
	srt       bool // takes the publisher's own, where it has some
	live      bool // ends with the publication; others wait for the next one
}

func newStream(h *hub, key streamurl.Stream, tcURL string) *stream {
	s := &stream{hub: h, key: key, id: "vid-" + randomID(7), tcURL: tcURL, players: make(map[*player]struct{})}
	s.traffic.sample(time.Now())
	return s
}

// url is the stream's name as SRS's API gives it.
func (s *stream) url() string {
	u := "/" + s.key.App + "/" + s.key.Name
	if s.key.Vhost != streamurl.DefaultVhost {
		return s.key.Vhost + u
	}
	return u
}

// publication is the writing end of a stream. It belongs to the publisher's
// goroutine.
type publication struct {
	s       *stream
	based   bool
	offset  uint32 // added to the publisher's timestamps
	resumed bool   // players wait who have seen an earlier publication
	from    uint32 // the next timestamp they can take
	packets bool   // it comes as RTP, so WebRTC players get that
	rtp     rtpMaker
}

// begin starts a publication; the caller holds the stream by hub.join.
func (s *stream) begin() *publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &publication{s: s}
	s.hlsExpires = time.Time{}
	if s.lastValid && len(s.players) > 0 {
		p.resumed, p.from = true, s.last+40
	}
	if s.hub.cfg.HLSEnabled || s.remux != nil {
		if s.remux == nil {
			s.remux = newRemuxer(s.hub.cfg, s.key.Name)
		}
		s.remux.restart()
	}
	s.rtc.publish([rtcKinds]string{rtcVideo: webrtc.MimeTypeH264}, [rtcKinds]uint32{rtcVideo: rtpVideoRate}, nil)
	return p
}

// end forgets the publication's media and ends the players that do not wait for
// another. HLS keeps its segments for a while.
func (p *publication) end() {
	s := p.s
	s.rtc.unpublish()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.meta, s.videoSH, s.audioSH = nil, nil, nil
	s.videoInfo, s.audioInfo = videoInfo{}, audioInfo{}
	s.gop.clear()
	s.audioRun, s.direct = 0, false
	for pl := range s.players {
		if pl.live {
			pl.q.close(errEnded)
		}
	}
	if s.remux == nil {
		return
	}
	s.remux.finish()
	if s.hub.cfg.HLSEnabled {
		s.hlsExpires = time.Now().Add(s.hub.cfg.HLSDispose)
	} else {
		s.remux = nil
	}
}

// keepsHLS tells whether segments of an ended publication are still offered.
func (s *stream) keepsHLS(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.hlsExpires)
}

// expireHLS lets the segments go, even where a player still polls for new ones.
func (s *stream) expireHLS(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hlsExpires.IsZero() && !now.Before(s.hlsExpires) {
		s.remux, s.hlsExpires = nil, time.Time{}
	}
}

// write takes one audio, video or script tag; payload is kept.
func (p *publication) write(kind uint8, timestamp uint32, payload []byte) {
	if len(payload) == 0 {
		return
	}
	var t tagInfo
	switch kind {
	case kindAudio:
		t = parseAudioTag(payload)
	case kindVideo:
		t = parseVideoTag(payload)
	}
	f := &frame{kind: kind, payload: payload, key: t.key, config: t.config}
	f.time = p.rebase(timestamp, f.media())
	if kind != kindScript && t.codec == codecNone {
		return // too short to mean anything
	}
	f.wire = rtmp.AppendMessage(make([]byte, 0, len(payload)+24), rtmp.Message{
		ChunkStreamID: chunkStreamOf(kind), Type: kind, StreamID: streamID, Timestamp: f.time, Payload: payload,
	}, chunkSize)
	if len(payload) <= chunkSize {
		f.payload = f.wire[len(f.wire)-len(payload):] // one copy in memory is enough
	}
	f.seal()
	p.s.deliver(f, t)
	if !p.packets && p.s.rtc.active.Load() > 0 {
		p.rtp.write(&p.s.rtc, f, t, &p.s.videoInfo) // which only we change
	}
}

// chunkStreamOf gives each kind its own chunk stream, as SRS does (RTMP_CID_*).
func chunkStreamOf(kind uint8) uint32 {
	switch kind {
	case kindAudio:
		return 6
	case kindVideo:
		return 7
	}
	return 4
}

// rebase lets the time of a new publication go on where the last one ended, for
// the players that stayed. Without such players timestamps are the publisher's.
func (p *publication) rebase(t uint32, media bool) uint32 {
	if !p.resumed {
		return t
	}
	if !p.based {
		if !media {
			return p.from
		}
		p.based, p.offset = true, p.from-t
	}
	if !media && int32(t+p.offset-p.from) < 0 {
		return p.from
	}
	return t + p.offset
}

// deliver updates the caches and hands the frame to every player.
func (s *stream) deliver(f *frame, t tagInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.kind == kindScript:
		if isMetadata(f.payload) {
			s.meta = f
		}
	case f.config:
		s.setConfig(f, t)
	default:
		s.account(f, t)
	}
	hasVideo := s.hasVideo()
	for pl := range s.players {
		switch {
		case pl.ts, pl.audioOnly && f.kind != kindAudio:
		case pl.q.put(f, hasVideo && !pl.audioOnly):
			s.resync(pl, f)
		}
	}
	if s.remux == nil {
		return
	}
	if ts := s.remux.write(f, t, &s.videoInfo, &s.audioInfo, hasVideo); ts != nil {
		for pl := range s.players {
			if pl.ts && !(pl.srt && s.direct) && pl.q.put(ts, true) {
				pl.q.putAll(ts) // has the tables in it
			}
		}
	}
}

// relay hands packets of the publisher's own transport stream to the SRT players,
// codecs that we don't know included. Like SRS it lets them begin anywhere: tables
// and keyframes come again soon.
func (p *publication) relay(packets []byte) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.direct = true
	var f *frame
	for pl := range p.s.players {
		if !pl.srt {
			continue
		}
		if f == nil {
			f = &frame{kind: kindTS, key: true, payload: bytes.Clone(packets)}
		}
		if pl.q.put(f, false) {
			pl.q.putAll(f)
		}
	}
}

// hasVideo tells whether players should wait for a keyframe.
func (s *stream) hasVideo() bool { return s.videoInfo.codec != codecNone && s.audioRun < pureAudio }

func (s *stream) setConfig(f *frame, t tagInfo) {
	if f.kind == kindAudio {
		s.audioSH = f
		s.audioInfo = parseAudioConfig(f.payload, t)
		return
	}
	if s.videoSH != nil && !bytes.Equal(s.videoSH.payload, f.payload) {
		s.gop.clear() // of another sequence
	}
	s.videoSH = f
	s.videoInfo = parseVideoConfig(t.codec, f.payload[t.body:])
}

func (s *stream) account(f *frame, t tagInfo) {
	s.last, s.lastValid = f.time, true
	if f.kind == kindVideo {
		s.audioRun = 0
		if t.coded {
			s.frames++
		}
		if s.videoInfo.codec == codecNone {
			s.videoInfo.codec = t.codec
		}
	} else {
		s.audioRun++
		if s.audioInfo.codec == codecNone {
			s.audioInfo = parseAudioConfig(f.payload, t)
		}
		if s.audioRun == pureAudio {
			s.gop.clear()
		}
	}
	if s.hub.cfg.GOPCache {
		s.gop.add(f)
	}
}

// resync gives a player that dropped frames what it needs to go on at f.
func (s *stream) resync(pl *player, f *frame) {
	if pl.audioOnly {
		pl.q.putAll(s.audioSH, f)
		return
	}
	pl.q.putAll(s.meta, s.videoSH, s.audioSH, f)
}

// play adds a player and gives it the cached start of the stream.
func (s *stream) play(pl *player) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.players[pl] = struct{}{}
	switch {
	case pl.srt && s.direct:
	case pl.ts:
		if s.remux == nil {
			s.startRemuxer()
		}
		if len(s.remux.gop.frames) == 0 {
			pl.q.waitForKey()
		}
		pl.q.putAll(s.remux.gop.frames...)
	case pl.audioOnly:
		pl.q.putAll(s.audioSH)
	default:
		pl.q.putAll(s.meta, s.videoSH, s.audioSH)
		pl.q.putAll(s.gop.frames...)
	}
}

// startRemuxer makes the remuxer that no HLS needed so far, up to date.
func (s *stream) startRemuxer() {
	s.remux = newRemuxer(s.hub.cfg, s.key.Name)
	s.remux.restart()
	for _, f := range s.gop.frames {
		t := parseVideoTag(f.payload)
		if f.kind == kindAudio {
			t = parseAudioTag(f.payload)
		}
		s.remux.write(f, t, &s.videoInfo, &s.audioInfo, s.hasVideo())
	}
}

// leave removes a player.
func (s *stream) leave(pl *player) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.players, pl)
	if !pl.ts || s.hub.cfg.HLSEnabled {
		return
	}
	for other := range s.players {
		if other.ts {
			return
		}
	}
	s.remux = nil // nobody needs it now
}

// setDataFrame is what RTMP publishers put before metadata: the AMF0 string
// "@setDataFrame", which players do not get.
const setDataFrame = "\x02\x00\x0d@setDataFrame"

// onMetaData is how metadata begins in an FLV file.
const onMetaData = "\x02\x00\x0aonMetaData"

func isMetadata(p []byte) bool { return bytes.HasPrefix(p, []byte(onMetaData)) }
