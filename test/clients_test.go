package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	gortmp "github.com/yutopp/go-rtmp"
	"github.com/yutopp/go-rtmp/message"

	"srs-proxy/protocol/rtmp"
)

// TestClients: whoever speaks RTMP in a way of its own.
func TestClients(t *testing.T) {
	t.Parallel()
	in := up(t, 2)
	for name, test := range map[string]func(*testing.T, *instance){
		"rtmpdump plays":              rtmpdumpPlays,
		"GStreamer rtmpsink":          func(t *testing.T, in *instance) { gstPublishes(t, in, "rtmpsink", "gst1", " live=1") },
		"GStreamer rtmp2sink":         func(t *testing.T, in *instance) { gstPublishes(t, in, "rtmp2sink", "gst2", "") },
		"go-rtmp publishes":           goRTMPPublishes,
		"a stream that starts at 5 h": startsAtFiveHours,
		"a publisher reconnects":      publisherReconnects,
		"play before publish":         playBeforePublish,
		"enhanced RTMP HEVC":          enhancedHEVC,
		"a stolen name":               stolenName,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, in)
		})
	}
}

// rtmpdumpPlays: librtmp, as VLC, mplayer and old boxes have it.
func rtmpdumpPlays(t *testing.T, in *instance) {
	needTool(t, "rtmpdump", "package rtmpdump")
	pub := in.publish(t, "dump")
	file := filepath.Join(t.TempDir(), "dump.flv")
	startTool(t, "rtmpdump", "--live", "--quiet", "-r", in.stream("rtmp", "live/dump"), "-o", file)
	eventually(t, 20*time.Second, "30 frames in rtmpdump's file", func() (bool, string) {
		b, err := os.ReadFile(file)
		if err != nil {
			return false, err.Error()
		}
		r, n := newFLVReader(bytes.NewReader(b)), 0
		for {
			m, err := r.next()
			if err != nil {
				return n >= 30, fmt.Sprintf("%d frames in %d bytes", n, len(b))
			}
			if s, ok := findStamp(m.Payload); ok && s.stream == pub.id {
				n++
			}
		}
	})
}

func gstPublishes(t *testing.T, in *instance, sink, name, options string) {
	needTool(t, "gst-launch-1.0", "package gstreamer1.0-tools")
	for _, element := range []string{sink, "flvdemux", "flvmux", "h264parse", "aacparse"} {
		if command("gst-inspect-1.0", "--exists", element) != nil {
			t.Skipf("GStreamer has no %s (gstreamer1.0-plugins-good, gstreamer1.0-plugins-bad)", element)
		}
	}
	p := openWaiting(t, in, name)
	startTool(t, "gst-launch-1.0", "-q", "filesrc", "location="+suite.clip.path, "!", "flvdemux", "name=d",
		"flvmux", "name=m", "streamable=true", "!", sink, "location="+in.stream("rtmp", "live/"+name)+options,
		"d.video", "!", "queue", "!", "h264parse", "!", "m.", "d.audio", "!", "queue", "!", "aacparse", "!", "m.")
	expectMedia(t, p, 30, 10, 0)
}

// openWaiting plays a stream that nobody publishes yet.
func openWaiting(t *testing.T, in *instance, name string) *peer {
	t.Helper()
	p, err := openPlay(in.rtmp(), "rtmp://"+in.rtmp()+"/live", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.conn.Close() })
	return p
}

// expectMedia reads so many frames of video and of audio, all from a time on and
// in order.
func expectMedia(t *testing.T, p *peer, video, audio int, from uint32) {
	t.Helper()
	_ = p.conn.SetDeadline(time.Now().Add(20 * time.Second))
	last := map[uint8]uint32{}
	n := map[uint8]int{}
	for n[rtmp.TypeVideo] < video || n[rtmp.TypeAudio] < audio {
		m, err := p.media()
		if err != nil {
			t.Fatalf("after %d frames of video and %d of audio: %v", n[rtmp.TypeVideo], n[rtmp.TypeAudio], err)
		}
		if isHeader(m) {
			continue
		}
		if m.Timestamp < from {
			t.Fatalf("type %d at %d ms, want %d or later", m.Type, m.Timestamp, from)
		}
		if before, ok := last[m.Type]; ok && (m.Timestamp < before || m.Timestamp > before+1000) {
			t.Fatalf("type %d at %d ms after %d ms", m.Type, m.Timestamp, before)
		}
		last[m.Type] = m.Timestamp
		n[m.Type]++
	}
}

func goRTMPPublishes(t *testing.T, in *instance) {
	p := openWaiting(t, in, "go")
	c, err := gortmp.Dial("rtmp", in.rtmp(), &gortmp.ConnConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Connect(&message.NetConnectionConnect{Command: message.NetConnectionConnectCommand{
		App: "live", TCURL: "rtmp://" + in.rtmp() + "/live", FlashVer: "go-rtmp",
	}}); err != nil {
		t.Fatal(err)
	}
	stream, err := c.CreateStream(&message.NetConnectionCreateStream{}, 128)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Publish(&message.NetStreamPublish{PublishingName: "go", PublishingType: "live"}); err != nil {
		t.Fatal(err)
	}
	for _, m := range append(suite.clip.headers[:len(suite.clip.headers):len(suite.clip.headers)], suite.clip.frames...) {
		switch m.Type {
		case rtmp.TypeVideo:
			err = stream.Write(6, m.Timestamp, &message.VideoMessage{Payload: bytes.NewReader(m.Payload)})
		case rtmp.TypeAudio:
			err = stream.Write(4, m.Timestamp, &message.AudioMessage{Payload: bytes.NewReader(m.Payload)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	expectMedia(t, p, 30, 10, 0)
}

// startsAtFiveHours: timestamps that need the extended field of every chunk,
// from an encoder that cuts chunks at its own size.
func startsAtFiveHours(t *testing.T, in *instance) {
	start := uint32(18_000_000)
	if suite.srs != "" {
		start = 1000 // SRS lets each player begin at 0 (time_jitter full)
	}
	p := openWaiting(t, in, "late")
	ffmpegPublish(t, in.stream("rtmp", "live/late"), "-output_ts_offset", "18000")
	expectMedia(t, p, 45, 30, start-1000)
	flv := in.playWithoutStamps(t, "late")
	for {
		m, err := flv.next()
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == rtmp.TypeVideo && !isHeader(m) {
			if m.Timestamp < start-1000 {
				t.Errorf("HTTP-FLV has the frame at %d ms, want %d or later", m.Timestamp, start)
			}
			return
		}
	}
}

// playWithoutStamps is an HTTP-FLV player of somebody else's stream.
func (in *instance) playWithoutStamps(t *testing.T, name string) *flvReader {
	t.Helper()
	conn, err := net.Dial("tcp", in.http())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	flv, err := openFLV(conn, in.http(), "/live/"+name+".flv", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return flv
}
