package origin

import (
	"bytes"
	"fmt"
	"testing"

	"srs-proxy/protocol/streamurl"
)

// tagsOf demuxes a transport stream, cut into pieces of n bytes, and lists the tags
// that come of it.
func tagsOf(ts []byte, n int) (tags []string) {
	s := newStream(newHub(DefaultConfig()), streamurl.Stream{Vhost: streamurl.DefaultVhost, App: "live", Name: "a"}, "")
	pl := &player{q: newQueue()}
	s.play(pl)
	p := s.begin()
	d := tsDemuxer{out: &ingest{p: p}}
	for len(ts) > 0 {
		k := min(n, len(ts))
		d.push(ts[:k])
		ts = ts[k:]
	}
	for _, t := range []*tsTrack{&d.video, &d.audio} {
		d.finish(t)
	}
	p.end()
	frames, _ := pl.q.take(nil, 1<<30)
	for _, f := range frames {
		t := parseVideoTag(f.payload)
		kind := "v"
		if f.kind == kindAudio {
			kind, t = "a", parseAudioTag(f.payload)
		}
		switch {
		case t.config:
			kind += ":config"
		case t.key:
			kind += ":key"
		}
		text := fmt.Sprintf("%s@%d+%d", kind, f.time, len(f.payload)-t.body)
		if t.cts != 0 {
			text += fmt.Sprintf(" cts %d", t.cts)
		}
		tags = append(tags, text)
	}
	return tags
}

// muxed is a stream of two keyframes, a frame with a composition time, and audio, as
// our own muxer writes it; at is its first time in 90 kHz.
func muxed(at int64) []byte {
	var m tsMuxer
	m.setTracks(tsH264, tsAAC)
	config := avcConfig()
	var v videoInfo
	if v.parseAVC(config[5:]) != nil {
		panic("avcConfig")
	}
	a := audioInfo{codec: codecAAC, objectType: 2, rateIndex: 4, channelConfig: 2}
	video := func(dst []byte, t, cts int64, key bool, n int) []byte {
		es, _ := appendAnnexB(nil, nil, &v, false) // the delimiter
		if key {
			es = append(es, v.params...)
			es = append(es, 0, 0, 0, 1, 0x65)
		} else {
			es = append(es, 0, 0, 0, 1, 0x41)
		}
		es = append(es, bytes.Repeat([]byte{0x55}, n-1)...)
		return m.appendPES(dst, pes{video: true, dts: t, pts: t + cts, pcr: true, key: key, data: es})
	}
	audio := func(dst []byte, t int64, sizes ...int) []byte {
		var es []byte
		for _, n := range sizes {
			es = append(a.appendADTS(es, n), bytes.Repeat([]byte{0x66}, n)...)
		}
		return m.appendPES(dst, pes{dts: t, pts: t, data: es})
	}
	ts := m.appendTables(nil)
	ts = video(ts, at, 0, true, 3000)
	ts = audio(ts, at, 100, 200)
	ts = video(ts, at+3600, 7200, false, 500)
	ts = audio(ts, at+7200, 50)
	ts = m.appendTables(ts)
	return video(ts, at+7200, 0, true, 1000)
}

func TestTSDemuxer(t *testing.T) {
	want := []string{
		"a:config@1000+2", "a@1000+100", "a@1023+200",
		"v:config@1000+42", "v:key@1000+3004", "a@1080+50",
		"v@1040+504 cts 80", "v:key@1080+1004",
	}
	for _, n := range []int{srtPayload, tsPacketSize, 100, 1, 1 << 20} {
		if got := tagsOf(muxed(90000), n); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("in pieces of %d bytes:\n%q, want\n%q", n, got, want)
		}
	}
	garbage := append([]byte("0123456789"), muxed(90000)...)
	if got := tagsOf(garbage, srtPayload); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("behind garbage:\n%q, want\n%q", got, want)
	}
}

// TestTSDemuxerWrap: the 33-bit clock wraps every 26.5 hours.
func TestTSDemuxerWrap(t *testing.T) {
	const wrap = 1 << 33
	got := tagsOf(muxed(wrap-3600), srtPayload)
	base := uint32((wrap - 3600) / 90)
	last := fmt.Sprintf("v:key@%d+1004", base+80)
	if len(got) == 0 || got[len(got)-1] != last {
		t.Errorf("tags %q, want the last one to be %s", got, last)
	}
}

// TestTSDemuxerLoss: a lost packet costs the access unit it was in.
func TestTSDemuxerLoss(t *testing.T) {
	ts := muxed(90000)
	packets := len(ts) / tsPacketSize
	for lost := 2; lost < packets-1; lost++ {
		b := append(bytes.Clone(ts[:lost*tsPacketSize]), ts[(lost+1)*tsPacketSize:]...)
		for _, tag := range tagsOf(b, srtPayload) {
			switch tag {
			case "a:config@1000+2", "a@1000+100", "a@1023+200", "a@1080+50",
				"v:config@1000+42", "v:key@1000+3004", "v@1040+504 cts 80", "v:key@1080+1004", "v:config@1080+42", "a:config@1080+2":
			default:
				t.Errorf("without packet %d: %s, which was never sent", lost, tag)
			}
		}
	}
}

func FuzzTSDemuxer(f *testing.F) {
	f.Add(muxed(90000))
	f.Add(muxed(0)[:3*tsPacketSize])
	f.Add([]byte{0x47, 0x40, 0, 0x30, 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := tagsOf(b, 1<<20)
		if len(b)%tsPacketSize == 0 && len(b) < 1<<14 {
			if cut := tagsOf(b, tsPacketSize); len(b) > 0 && b[0] == 0x47 && len(cut) > len(whole)+len(b) {
				t.Errorf("%d tags in packets, %d at once", len(cut), len(whole))
			}
		}
	})
}

func TestSplitAnnexB(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", "[]"},
		{"abc", "[]"},
		{"\x00\x00\x01", "[]"},
		{"\x00\x00\x00\x01a\x00\x00\x01bc\x00", `["a" "bc"]`},
		{"\x00\x00\x01a\x00\x00\x00\x00\x01\x00\x00\x01b", `["a" "b"]`},
	}
	for _, tt := range tests {
		if got := fmt.Sprintf("%q", splitAnnexB(nil, []byte(tt.in))); got != tt.want {
			t.Errorf("splitAnnexB(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

// TestDirectTransportStream: SRT players get the publisher's own packets and nothing
// of the remuxer, other players the remuxer's alone.
func TestDirectTransportStream(t *testing.T) {
	s := newStream(newHub(DefaultConfig()), streamurl.Stream{Vhost: streamurl.DefaultVhost, App: "live", Name: "a"}, "")
	srt, http := &player{q: newQueue(), ts: true, srt: true}, &player{q: newQueue(), ts: true}
	s.play(srt)
	s.play(http)
	p := s.begin()
	d := tsDemuxer{out: &ingest{p: p}}
	ts := muxed(90000)
	for b := ts; len(b) > 0; {
		n := min(len(b), srtPayload)
		p.relay(b[:n])
		d.push(b[:n])
		b = b[n:]
	}
	bytesOf := func(pl *player) (out []byte) {
		frames, _ := pl.q.take(nil, 1<<30)
		for _, f := range frames {
			out = append(out, f.payload...)
		}
		return out
	}
	if got := bytesOf(srt); !bytes.Equal(got, ts) {
		t.Errorf("the SRT player got %d bytes, want the %d that were published", len(got), len(ts))
	}
	if got := bytesOf(http); len(got) == 0 || bytes.Contains(got, ts[:tsPacketSize*4]) {
		t.Errorf("the HTTP player got %d bytes, want the remuxer's", len(got))
	}
	p.end()
	if s.direct {
		t.Error("the next publication is taken for one of SRT")
	}
}
