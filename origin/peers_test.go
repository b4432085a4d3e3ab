package origin

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
	"github.com/sirupsen/logrus"
	gortmp "github.com/yutopp/go-rtmp"
	"github.com/yutopp/go-rtmp/message"

	"srs-proxy/protocol/rtmp"
	"srs-proxy/testkit"
)

// TestGoRTMPPublishes: another implementation's chunks and commands, at its small
// chunk size.
func TestGoRTMPPublishes(t *testing.T) {
	t.Parallel()
	o := start(t, testConfig())
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	client, err := gortmp.Dial("rtmp", o.RTMPAddrs()[0].String(), &gortmp.ConnConfig{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	err = client.Connect(&message.NetConnectionConnect{Command: message.NetConnectionConnectCommand{App: "live", TCURL: o.rtmpURL("/live")}})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.CreateStream(nil, 128)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Publish(&message.NetStreamPublish{PublishingName: "a", PublishingType: "live"}); err != nil {
		t.Fatal(err)
	}
	player := o.player("a")
	frame := avcFrame(true, 10_000)
	for i := range frame[20:] {
		frame[20+i] = byte(i)
	}
	for _, m := range []message.Message{
		&message.VideoMessage{Payload: bytes.NewReader(avcConfig())},
		&message.AudioMessage{Payload: bytes.NewReader(aacConfig())},
		&message.VideoMessage{Payload: bytes.NewReader(frame)},
	} {
		if err := stream.Write(5, 1234, m); err != nil {
			t.Fatal(err)
		}
	}
	got := player.media(3)
	if kinds := strings.Join(kinds(got), " "); kinds != "v:config@1234 a:config@1234 v:key@1234" {
		t.Errorf("got %s", kinds)
	}
	if !bytes.Equal(got[2].Payload, frame) {
		t.Error("the frame's bytes changed")
	}
}

// TestFFmpegDecodesWithoutComplaint plays each protocol with B-frames and audio, and
// fails on any warning: continuity, timestamps, missing references.
func TestFFmpegDecodesWithoutComplaint(t *testing.T) {
	t.Parallel()
	testkit.NeedTools(t, "ffmpeg", "ffprobe")
	o := start(t, testConfig())
	startFFmpeg(t, "-re", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=44100",
		"-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "flv", o.rtmpURL("/live/b"))
	o.awaitStream("/live/b", true, true)
	for name, url := range map[string]string{
		"rtmp": o.rtmpURL("/live/b"), "flv": o.httpURL("/live/b.flv"), "ts": o.httpURL("/live/b.ts"), "hls": o.httpURL("/live/b.m3u8"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "ffmpeg", "-v", "warning", "-nostdin", "-i", url, "-t", "2", "-f", "null", "-")
			out, err := cmd.CombinedOutput()
			if err != nil || len(bytes.TrimSpace(out)) > 0 {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestFFmpegFromFiveHours(t *testing.T) {
	t.Parallel()
	file := clip(t)
	o := start(t, testConfig())
	begun := time.Now()
	o.publish(file, "/live/late", "-output_ts_offset", "18000")
	o.awaitStream("/live/late", true, true)
	for name, url := range map[string]string{"rtmp": o.rtmpURL("/live/late"), "flv": o.httpURL("/live/late.flv"), "ts": o.httpURL("/live/late.ts"), "hls": o.httpURL("/live/late.m3u8")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			codecs, from := probe(t, url)
			// Subtests wait for their turn, and the stream goes on meanwhile.
			latest := 18_001 + time.Since(begun).Seconds()
			if len(codecs) != 2 || from < 18_000 || from > latest {
				t.Errorf("codecs %v from %v s, want 18000 to %.0f", codecs, from, latest)
			}
		})
	}
}

// TestFFmpegRepublishes: a player stays while publishers come and go.
func TestFFmpegRepublishes(t *testing.T) {
	t.Parallel()
	file := clip(t)
	o := start(t, testConfig())
	player := o.player("re")
	for round := range 2 {
		pub := o.publish(file, "/live/re")
		o.awaitStream("/live/re", true, true)
		player.media(60)
		second := o.publish(file, "/live/re")
		select {
		case <-second.done:
		case <-time.After(10 * time.Second):
			t.Fatalf("round %d: a second publisher was taken", round)
		}
		pub.stop()
		o.await("unpublish", func() bool {
			var r streamsReply
			o.api("/api/v1/streams/", &r)
			return len(r.Streams) == 1 && !r.Streams[0].Publish.Active
		})
		o.get(o.httpURL("/live/re.flv"), http.StatusNotFound)
	}
}

// hevcTags makes enhanced RTMP tags of a real HEVC stream: the sequence header, and
// a frame each.
func hevcTags(t *testing.T) (tags [][]byte) {
	t.Helper()
	testkit.NeedTools(t, "ffmpeg", "ffprobe")
	path := filepath.Join(t.TempDir(), "clip.hevc")
	f := startFFmpeg(t, "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-t", "4", "-pix_fmt", "yuv420p", "-c:v", "libx265",
		"-preset", "ultrafast", "-x265-params", "keyint=25:min-keyint=25:scenecut=0:bframes=0:log-level=none", path)
	<-f.done
	b, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("ffmpeg has no libx265: %s", f.out)
	}
	var config, frame []byte
	var key bool
	arrays := 0
	for u := range bytes.SplitSeq(b, []byte{0, 0, 1}) {
		if u = bytes.TrimRight(u, "\x00"); len(u) < 3 {
			continue
		}
		typ := h265.NALUType(u[0] >> 1 & 0x3f)
		switch typ {
		case h265.NALUType_VPS_NUT, h265.NALUType_SPS_NUT, h265.NALUType_PPS_NUT:
			if arrays == 3 {
				continue
			}
			arrays++
			if typ == h265.NALUType_SPS_NUT { // its profile_tier_level is the record's
				ptl := h264.EmulationPreventionRemove(u)[3:15]
				head := append([]byte{1}, ptl...)
				config = append(append(head, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 3), config...)
			}
			config = append(append(config, byte(typ), 0, 1, byte(len(u)>>8), byte(len(u))), u...)
			if arrays == 3 {
				tags = append(tags, append([]byte("\x90hvc1"), config...))
			}
			continue
		}
		if typ < 32 && u[2]&0x80 != 0 && frame != nil { // first slice of a picture
			tags = append(tags, hevcTag(key, frame))
			frame = nil
		}
		key = typ >= h265.NALUType_BLA_W_LP && typ <= h265.NALUType_CRA_NUT || key && typ >= 32
		frame = append(append(frame, byte(len(u)>>24), byte(len(u)>>16), byte(len(u)>>8), byte(len(u))), u...)
	}
	return append(tags, hevcTag(key, frame))
}

func hevcTag(key bool, frame []byte) []byte {
	head := "\xa1hvc1\x00\x00\x00"
	if key {
		head = "\x91hvc1\x00\x00\x00"
	}
	return append([]byte(head), frame...)
}

func TestEnhancedHEVC(t *testing.T) {
	t.Parallel()
	tags := hevcTags(t)
	o := start(t, testConfig())
	pub := o.publisher("hevc")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		video := func(ms uint32, tag []byte) error {
			return pub.w.WriteMessage(rtmp.Message{ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: ms, Payload: tag})
		}
		err := video(0, tags[0])
		for i := 0; err == nil; i++ {
			err = video(uint32(i*40), tags[1+i%(len(tags)-1)])
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	defer func() {
		close(stop)
		<-done
	}()
	s := o.awaitStream("/live/hevc", false, true)
	if *s.Video != (apiVideo{Codec: "HEVC", Profile: "Main", Level: s.Video.Level, Width: 320, Height: 180}) {
		t.Errorf("video %+v", s.Video)
	}
	if got := strings.Join(kinds(o.player("hevc").media(2)), " "); !strings.HasPrefix(got, "v:config@0 v:key@") {
		t.Errorf("a player gets %s", got)
	}
	for _, ext := range []string{".ts", ".m3u8"} {
		cmd := exec.CommandContext(t.Context(), "ffmpeg", "-v", "warning", "-nostdin", "-i", o.httpURL("/live/hevc"+ext), "-t", "2", "-f", "null", "-")
		if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s: %v: %s", ext, err, out)
		}
		if codecs, _ := probe(t, o.httpURL("/live/hevc"+ext), "-analyzeduration", "1000000"); len(codecs) != 1 || codecs[0] != "hevc" {
			t.Errorf("%s: codecs %v", ext, codecs)
		}
	}
}
