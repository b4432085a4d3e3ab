package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/asticode/go-astits"

	"srs-proxy/protocol/streamurl"
)

func TestTagHeaders(t *testing.T) {
	t.Parallel()
	cts := []byte{0x17, 1, 0xff, 0xff, 0xd8, 0}
	for _, tt := range []struct {
		name  string
		video bool
		tag   []byte
		want  tagInfo
	}{
		{"AVC sequence header", true, []byte{0x17, 0, 0, 0, 0, 1}, tagInfo{codec: codecH264, config: true, body: 5}},
		{"AVC keyframe", true, []byte{0x17, 1, 0, 0, 80, 1}, tagInfo{codec: codecH264, key: true, coded: true, body: 5, cts: 80}},
		{"AVC negative composition time", true, cts, tagInfo{codec: codecH264, key: true, coded: true, body: 5, cts: -40}},
		{"AVC inter frame", true, []byte{0x27, 1, 0, 0, 0, 1}, tagInfo{codec: codecH264, coded: true, body: 5}},
		{"AVC end of sequence", true, []byte{0x17, 2, 0, 0, 0}, tagInfo{codec: codecH264, body: 5}},
		{"HEVC as 12", true, []byte{0x1c, 1, 0, 0, 0, 1}, tagInfo{codec: codecHEVC, key: true, coded: true, body: 5}},
		{"enhanced HEVC start", true, []byte("\x90hvc1\x01"), tagInfo{codec: codecHEVC, config: true, body: 5}},
		{"enhanced HEVC frame", true, []byte("\x91hvc1\x00\x00\x28x"), tagInfo{codec: codecHEVC, key: true, coded: true, body: 8, cts: 40}},
		{"enhanced HEVC frame without composition time", true, []byte("\xa3hvc1x"), tagInfo{codec: codecHEVC, coded: true, body: 5}},
		{"enhanced AV1 frame", true, []byte("\x91av01x"), tagInfo{codec: codecAV1, key: true, coded: true, body: 5}},
		{"enhanced metadata", true, []byte("\x94hvc1x"), tagInfo{codec: codecHEVC, body: 5}},
		{"enhanced, cut", true, []byte("\x91hvc"), tagInfo{}},
		{"VP6 keyframe", true, []byte{0x14, 1}, tagInfo{codec: codecVP6, key: true, coded: true, body: 1}},
		{"video, empty", true, nil, tagInfo{}},
		{"AAC config", false, []byte{0xaf, 0, 0x12, 0x10}, tagInfo{codec: codecAAC, config: true, body: 2}},
		{"AAC frame", false, []byte{0xaf, 1, 1}, tagInfo{codec: codecAAC, coded: true, body: 2}},
		{"AAC, cut", false, []byte{0xaf}, tagInfo{codec: codecAAC, body: 1}},
		{"MP3", false, []byte{0x2f, 0xff}, tagInfo{codec: codecMP3, coded: true, body: 1}},
		{"enhanced Opus", false, []byte("\x91Opusx"), tagInfo{codec: codecOpus, coded: true, body: 5}},
		{"enhanced AAC config", false, []byte("\x90mp4a\x12\x10"), tagInfo{codec: codecAAC, config: true, body: 5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parse := parseAudioTag
			if tt.video {
				parse = parseVideoTag
			}
			if got := parse(tt.tag); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestSequenceHeaders(t *testing.T) {
	t.Parallel()
	v := parseVideoConfig(codecH264, avcConfig()[5:])
	if v.profile != "High" || v.level != "3" || v.width != 640 || v.height != 360 || v.lengthSize != 4 || len(v.params) != 4+25+4+6 {
		t.Errorf("AVC: %+v", v)
	}
	for cut := range len(avcConfig()) - 5 - 7 { // any shorter record is refused, not believed
		if v := parseVideoConfig(codecH264, avcConfig()[5:5+7+cut]); v.params != nil || v.profile != "Other" {
			t.Fatalf("AVC cut to %d bytes: %+v", 7+cut, v)
		}
	}
	a := parseAudioConfig(aacConfig(), parseAudioTag(aacConfig()))
	if a.profile != "LC" || a.rate != 44100 || a.channels != 2 || !a.adts() {
		t.Errorf("AAC: %+v", a)
	}
	if got, want := a.appendADTS(nil, 100), []byte{0xff, 0xf1, 0x50, 0x80, 0x0d, 0x7f, 0xfc}; !bytes.Equal(got, want) {
		t.Errorf("ADTS % x, want % x", got, want)
	}
}

func frames(n int, first frame) (out []*frame) {
	for range n {
		f := first
		out = append(out, &f)
		first.key = false
		first.time += 40
	}
	return out
}

func TestGOPCache(t *testing.T) {
	t.Parallel()
	var g gopCache
	inter := frame{kind: kindVideo, payload: make([]byte, 10)}
	key := inter
	key.key = true

	g.add(&inter)
	if len(g.frames) != 0 {
		t.Error("frames before a keyframe are kept")
	}
	for _, f := range frames(3, key) {
		g.add(f)
	}
	second := frames(2, key)
	for _, f := range second {
		g.add(f)
	}
	if !slices.Equal(g.frames, second) || g.bytes != 20 {
		t.Errorf("kept %d frames, %d bytes; want the newest GOP alone", len(g.frames), g.bytes)
	}

	for _, f := range frames(gopMaxFrames+1, key) {
		g.add(f)
	}
	if len(g.frames) != 0 || g.bytes != 0 {
		t.Errorf("past the bound %d frames are kept, want none before the next keyframe", len(g.frames))
	}
	big := key
	big.payload = make([]byte, gopMaxBytes)
	g.add(&big)
	if len(g.frames) != 1 {
		t.Error("a GOP of the maximum size is not kept")
	}
	g.add(&inter)
	if len(g.frames) != 0 {
		t.Error("a GOP past the maximum size is kept")
	}
}

func TestQueueDropsToTheNextKeyframe(t *testing.T) {
	t.Parallel()
	key := frame{kind: kindVideo, key: true, payload: make([]byte, 10)}
	for _, tt := range []struct {
		name     string
		first    frame
		step     uint32
		hasVideo bool
		fits     int
	}{
		{"by time", key, 1000, true, queueMaxMs/1000 + 1},
		{"by count", key, 0, true, queueMaxFrames},
		{"by bytes", frame{kind: kindVideo, key: true, payload: make([]byte, queueMaxBytes/4)}, 0, true, 4},
		{"audio", frame{kind: kindAudio, payload: make([]byte, 10)}, 1000, false, queueMaxMs/1000 + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := newQueue()
			put := func(i int, key bool) bool {
				f := tt.first
				f.key, f.time = key, uint32(i)*tt.step
				return q.put(&f, tt.hasVideo)
			}
			for i := range tt.fits {
				put(i, i == 0)
			}
			if n := q.dropped(); n != 0 || len(q.frames) != tt.fits {
				t.Fatalf("%d frames queued and %d dropped, want %d and none", len(q.frames), n, tt.fits)
			}
			put(tt.fits, false)
			if len(q.frames) != 0 || q.bytes != 0 || q.dropped() != int64(tt.fits)+1 {
				t.Fatalf("past the bound %d frames are queued, %d dropped", len(q.frames), q.dropped())
			}
			if tt.hasVideo && put(tt.fits+1, false) {
				t.Error("resumes at an inter frame")
			}
			if !put(tt.fits+2, tt.hasVideo) {
				t.Error("does not resume")
			}
		})
	}
}

func TestQueueTakesALongGOP(t *testing.T) {
	t.Parallel()
	q := newQueue()
	gop := frames(1000, frame{kind: kindVideo, key: true, payload: make([]byte, 10)}) // 40 s
	q.putAll(gop...)
	live := frame{kind: kindVideo, time: 40_000, payload: make([]byte, 10)}
	if q.put(&live, true) || q.dropped() != 0 {
		t.Fatal("a player that joins a long GOP counts as slow")
	}
	got, err := q.take(nil, 1<<20)
	if err != nil || len(got) != 1001 {
		t.Fatalf("took %d frames, %v", len(got), err)
	}
}

func TestQueueTake(t *testing.T) {
	t.Parallel()
	q := newQueue()
	q.putAll(frames(10, frame{kind: kindVideo, payload: make([]byte, 100)})...)
	q.close(errEnded)
	var sizes []int
	for {
		got, err := q.take(nil, 350)
		if err != nil {
			if !errors.Is(err, errEnded) {
				t.Error(err)
			}
			break
		}
		sizes = append(sizes, len(got))
	}
	if !slices.Equal(sizes, []int{3, 3, 3, 1}) {
		t.Errorf("took %v", sizes)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	var tr traffic
	now := time.Unix(1000, 0)
	tr.sample(now)
	for range 100 { // 1000 bytes in and 2000 out a second
		now = now.Add(time.Second)
		tr.add(1000, 2000)
		tr.sample(now)
	}
	if r, s := tr.kbps(now); r != 8 || s != 16 {
		t.Errorf("%d and %d kb/s, want 8 and 16", r, s)
	}
	for range 35 { // and silence
		now = now.Add(time.Second)
		tr.sample(now)
	}
	if r, s := tr.kbps(now); r != 0 || s != 0 {
		t.Errorf("%d and %d kb/s after half a minute of silence", r, s)
	}
}

// TestTransportStream lets another library read what the remuxer writes.
func TestTransportStream(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	s := newStream(newHub(cfg), streamurl.Stream{App: "live", Name: "a"}, "")
	s.remux = newRemuxer(cfg, "a")
	pl := &player{q: newQueue(), ts: true}
	s.play(pl)
	p := s.begin()

	// Sizes around the edges of a packet; times over the wrap of 32 bits of
	// milliseconds, which is past the wrap of PES times too.
	base := uint32(1<<32 - 200)
	p.write(kindVideo, base, avcConfig())
	p.write(kindAudio, base, aacConfig())
	const n = 400
	var got []*frame
	for i := range uint32(n) {
		f := avcFrame(i%25 == 0, 20+int(i))
		f[4] = 80 // composition time
		p.write(kindVideo, base+i*40, f)
		p.write(kindAudio, base+i*40+1, aacFrame(1+int(i)))
		var err error
		if got, err = pl.q.take(got, 1<<30); err != nil {
			t.Fatal(err)
		}
	}

	var ts bytes.Buffer
	joins := 0
	next := map[byte]int{}
	for _, f := range got {
		ts.Write(f.payload)
		if f.key {
			joins++
		}
		if pat := f.payload[1] == 0x40 && f.payload[2] == 0; pat != f.key {
			t.Fatal("tables are at keyframes, and there alone")
		}
		for pkt := range slices.Chunk(f.payload, tsPacketSize) {
			pid := byte(pkt[1]&0x1f)<<4 | pkt[2] // enough to tell ours apart
			cc := int(pkt[3] & 0x0f)
			if want, seen := next[pid]; seen && cc != want {
				t.Fatalf("pid %#x: continuity counter %d, want %d", pid, cc, want)
			}
			next[pid] = (cc + 1) & 0x0f
		}
	}
	dmx := astits.NewDemuxer(context.Background(), &ts)
	var video, audio, tables int
	for {
		d, err := dmx.NextData()
		if errors.Is(err, astits.ErrNoMorePackets) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case d.PMT != nil:
			tables++
			if len(d.PMT.ElementaryStreams) != 2 || d.PMT.PCRPID != pidVideo {
				t.Fatalf("PMT %+v", d.PMT)
			}
		case d.PID == pidVideo && d.PES != nil:
			ms := int64(base) + int64(video)*40
			dts := (ms*90 + pcrLead) & (1<<33 - 1)
			pts := (dts + 80*90) & (1<<33 - 1)
			h := d.PES.Header.OptionalHeader
			if h.DTS.Base != dts || h.PTS.Base != pts {
				t.Fatalf("frame %d: dts %d pts %d, want %d %d", video, h.DTS.Base, h.PTS.Base, dts, pts)
			}
			if af := d.FirstPacket.AdaptationField; !af.HasPCR || af.PCR.Base != (dts-pcrLead)&(1<<33-1) || af.RandomAccessIndicator != (video%25 == 0) {
				t.Fatalf("frame %d: adaptation field %+v", video, af)
			}
			wantLen := 6 + 20 + video - 9 + 4 // delimiter, the unit with a start code
			if video%25 == 0 {
				wantLen += 4 + 25 + 4 + 6
			}
			if len(d.PES.Data) != wantLen {
				t.Fatalf("frame %d has %d bytes, want %d", video, len(d.PES.Data), wantLen)
			}
			video++
		case d.PID == pidAudio && d.PES != nil:
			if len(d.PES.Data) != adtsSize+1+audio {
				t.Fatalf("audio frame %d has %d bytes", audio, len(d.PES.Data))
			}
			audio++
		}
	}
	if video != n || audio != n || joins != n/25 || tables == 0 {
		t.Errorf("%d video and %d audio frames, %d points to join, want %d, %d, %d; %d PMTs", video, audio, joins, n, n, n/25, tables)
	}
}

// TestFanOutDoesNotAllocate: what a frame costs must not grow with the players.
func TestFanOutDoesNotAllocate(t *testing.T) {
	s := newStream(newHub(DefaultConfig()), streamurl.Stream{App: "live", Name: "a"}, "")
	p := s.begin()
	p.write(kindVideo, 0, avcConfig())
	cost := func(players int) float64 {
		var all []*player
		for range players {
			pl := &player{q: newQueue()}
			s.play(pl)
			all = append(all, pl)
		}
		payload, ms := avcFrame(true, 1000), uint32(0)
		scratch := make([]*frame, 0, 16)
		defer func() {
			for _, pl := range all {
				s.leave(pl)
			}
		}()
		return testing.AllocsPerRun(100, func() {
			ms += 40
			p.write(kindVideo, ms, payload)
			for _, pl := range all {
				var err error
				if scratch, err = pl.q.take(scratch[:0], 1<<20); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	one, many := cost(1), cost(200)
	if many > one {
		t.Errorf("a frame costs %v allocations with 200 players, %v with one", many, one)
	}
	if one > 3 {
		t.Errorf("a frame costs %v allocations", one)
	}
}

func FuzzPublication(f *testing.F) {
	f.Add(true, avcConfig(), avcFrame(true, 40))
	f.Add(true, []byte("\x90hvc1"+string(make([]byte, 30))), []byte("\x91hvc1\x00\x00\x00\x00\x00\x00\x01\x26"))
	f.Add(false, aacConfig(), aacFrame(20))
	f.Add(false, []byte{0x2f, 0xff, 0xfb, 0x90, 0}, []byte{0x2f})
	f.Fuzz(func(t *testing.T, video bool, config, media []byte) {
		cfg := DefaultConfig()
		cfg.HLSEnabled = true
		s := newStream(newHub(cfg), streamurl.Stream{App: "live", Name: "a"}, "")
		p := s.begin()
		kind := uint8(kindAudio)
		if video {
			kind = kindVideo
		}
		pl, ts := &player{q: newQueue()}, &player{q: newQueue(), ts: true}
		s.play(pl)
		s.play(ts)
		for i := range uint32(3) {
			p.write(kind, i*5000, bytes.Clone(config))
			p.write(kind, i*5000, bytes.Clone(media))
			p.writeData(i, bytes.Clone(media))
		}
		for _, fr := range []framing{&flvFraming{}, &aacFraming{}, mp3Framing{}, rtmpFraming{}} {
			got := append([]*frame{}, s.gop.frames...)
			for _, sh := range []*frame{s.videoSH, s.audioSH} {
				if sh != nil {
					got = append(got, sh)
				}
			}
			var scratch []byte
			bufs := fr.append(nil, &scratch, got)
			_, _ = bufs.WriteTo(io.Discard)
		}
		for _, sg := range s.remux.hls.segments {
			for _, c := range sg.chunks {
				if len(c)%tsPacketSize != 0 || c[0] != 0x47 {
					t.Fatalf("a chunk of %d bytes begins with %#x", len(c), c[0])
				}
			}
		}
		p.end()
	})
}
