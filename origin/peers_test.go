package origin

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	gortmp "github.com/yutopp/go-rtmp"
	"github.com/yutopp/go-rtmp/message"
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
	needFFmpeg(t)
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
	o.publish(file, "/live/late", "-output_ts_offset", "18000")
	o.awaitStream("/live/late", true, true)
	for name, url := range map[string]string{"rtmp": o.rtmpURL("/live/late"), "flv": o.httpURL("/live/late.flv"), "ts": o.httpURL("/live/late.ts"), "hls": o.httpURL("/live/late.m3u8")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			codecs, from := probe(t, url)
			if len(codecs) != 2 || from < 18_000 || from > 18_030 {
				t.Errorf("codecs %v from %v s", codecs, from)
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
