package load

import (
	"net"
	"strconv"
	"testing"
	"time"

	"srs-proxy/origin"
)

// fullOrigin runs the built-in origin with all its protocols.
func fullOrigin(t *testing.T) (cfg origin.Config) {
	t.Helper()
	cfg = origin.DefaultConfig()
	udp := func() string {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().String()
	}
	tcp := func() string {
		c, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Addr().String()
	}
	cfg.RTMPListen, cfg.HTTPListen, cfg.APIListen = []string{tcp()}, []string{tcp()}, []string{tcp()}
	cfg.RTC.Listen, cfg.RTC.Candidate = udp(), "127.0.0.1"
	cfg.SRT.Listen, cfg.SRT.ToRTMP = udp(), false
	cfg.HLSEnabled, cfg.HLSFragment = true, time.Second
	runOrigin(t, cfg)
	return cfg
}

func checkClean(t *testing.T, r *Report, least uint64) {
	t.Helper()
	if r.Delivered != r.Expected || r.Delivered.Frames < least || r.Damaged+r.Foreign+r.Disordered != 0 || r.Failed() != 0 || r.Age.Count() != r.Delivered.Frames {
		t.Errorf("delivered %+v of %+v: %v", r.Delivered, r.Expected, r)
	}
}

func TestWebRTC(t *testing.T) {
	o := fullOrigin(t)
	l := newLoad(t)
	url := "webrtc://" + o.APIListen[0] + "/live/a?media=" + o.RTC.Listen
	s := StreamOf(WebRTC, 1e6)
	if rate := s.FPS * s.Burst * s.FrameSize * 8; rate < 9e5 || rate > 1.1e6 || s.FrameSize > packetSize {
		t.Errorf("a stream of 1 Mb/s is %+v, %d b/s", s, rate)
	}
	p, err := l.Publish(url, s)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the publisher runs", p.Running)
	for range 3 {
		play(t, l, url, p)
	}
	checkClean(t, measure(t, l), 3*20)
	held, err := l.Hold(url)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a session without media", held.Running)
	if r := l.Report(); r.Failed() != 0 || r.RunningPlayers != 4 {
		t.Errorf("%v", r)
	}
	if _, err := l.Play("webrtc://"+o.RTMPListen[0]+"/live/a", nil); err != nil { // that is no API
		t.Fatal(err)
	}
	waitFor(t, "the error", func() bool { return l.Report().Failed() == 1 })
}

func TestSRT(t *testing.T) {
	o := fullOrigin(t)
	l := newLoad(t)
	p, err := l.Publish("srt://"+o.SRT.Listen+"/live/a", StreamOf(SRT, 2e6))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the publisher runs", p.Running)
	for range 2 {
		play(t, l, "srt://"+o.SRT.Listen+"?streamid="+"%23!::r=live/a,m=request", p)
	}
	checkClean(t, measure(t, l), 2*20)
	held, err := l.Hold("srt://" + o.SRT.Listen + "/live/a")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a session that does nothing", held.Running)
	// gosrt ends a connection that is silent for 2 s.
	if err := Sleep(t.Context(), 3*time.Second); err != nil {
		t.Fatal(err)
	}
	if r := l.Report(); r.Failed() != 0 || r.RunningPlayers != 3 || r.Prelude.Count() != 3 {
		t.Errorf("%v", r)
	}
	held.Stop()
	if _, err := l.Hold("srt://" + o.RTMPListen[0] + "/live/a"); err != nil { // nobody answers
		t.Fatal(err)
	}
	waitFor(t, "its error", func() bool { return l.Report().Errors["play: srt: no answer to a handshake"] == 1 })
	if _, err := l.Play("srt://"+o.RTMPListen[0]+"/live/a", nil); err != nil {
		t.Fatal(err)
	}
}

func TestHLS(t *testing.T) {
	o := fullOrigin(t)
	l := newLoad(t)
	publish(t, l, "rtmp://"+o.RTMPListen[0]+"/live/a")
	var pollers []*Poller
	for i := range 3 {
		p, err := l.Poll("http://"+o.HTTPListen[0]+"/live/a.m3u8?n="+strconv.Itoa(i), 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		pollers = append(pollers, p)
	}
	for _, p := range pollers {
		waitFor(t, "the first segment", p.Running)
	}
	l.Window(10*time.Millisecond, time.Minute)
	waitFor(t, "three more segments", func() bool { return l.Report().Delivered.Frames >= 3 })
	r := l.Report()
	// A segment is of a second's 50 frames of 3,000 bytes.
	if r.Delivered.Bytes < r.Delivered.Frames*100_000 || r.Lost() != 0 || r.Failed() != 0 || r.First.Count() != 3 {
		t.Errorf("%d segments of %d bytes in all: %v", r.Delivered.Frames, r.Delivered.Bytes, r)
	}
	l.ReleasePollers(pollers)
	if r := l.Report(); r.Players != 0 {
		t.Errorf("%d players are left", r.Players)
	}
	if _, err := l.Poll("http://"+o.HTTPListen[0]+"/live/a.flv", time.Second); err == nil {
		t.Error("FLV is polled")
	}
}

func TestPlaylist(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       playlist
		wrong      bool
	}{
		{"media", "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2,\na.ts?x=1\n#EXTINF:2,\nb.ts\n", playlist{sequence: 7, segments: []string{"a.ts?x=1", "b.ts"}}, false},
		{"master", "#EXTM3U\r\n#EXT-X-STREAM-INF:BANDWIDTH=1\r\n/live/a.m3u8?hls_ctx=1\r\n", playlist{variant: "/live/a.m3u8?hls_ctx=1"}, false},
		{"a page", "<html>", playlist{}, true},
		{"a bad number", "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-1\n", playlist{}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parsePlaylist([]byte(tt.text))
			if (err != nil) != tt.wrong {
				t.Fatal(err)
			}
			if err == nil && (got.variant != tt.want.variant || got.sequence != tt.want.sequence || len(got.segments) != len(tt.want.segments)) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// A packet that comes late is not lost, and one that comes twice counts once.
func TestOrder(t *testing.T) {
	var ty tally
	for _, s := range []struct {
		seq         uint64
		late, again bool
	}{{10, false, false}, {12, false, false}, {11, true, false}, {11, true, true}, {12, true, true}, {200, false, false}, {100, true, true}, {199, true, false}, {199, true, true}} {
		if late, again := ty.place(record{seq: s.seq}); late != s.late || again != s.again {
			t.Errorf("%d: late %v, again %v", s.seq, late, again)
		}
	}
}
