package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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

// publisherReconnects: it finds its players where it left them, ten times.
func publisherReconnects(t *testing.T, in *instance) {
	pub := in.publish(t, "again")
	player := in.playRTMP(t, "again")
	player.awaitFrames(t, 3, 10*time.Second)
	home, _ := in.home(t, "again")
	for range 10 {
		pub.stop()
		var again *publisher
		took := eventually(t, 5*time.Second, "the name can be published again", func() (bool, string) {
			p, err := startPublisher(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "again")
			if err != nil {
				return false, err.Error()
			}
			again = p
			return true, ""
		})
		if took > time.Second {
			t.Errorf("a re-publish took %s", took)
		}
		pub = again
		t.Cleanup(again.stop)
		eventually(t, 10*time.Second, "the player sees the new publisher", func() (bool, string) {
			s := player.seen()
			if s.err != nil {
				t.Fatalf("the player was disconnected: %v", s.err)
			}
			return s.last.stream == again.id, fmt.Sprintf("frames of %d, want %d", s.last.stream, again.id)
		})
	}
	if now, n := in.home(t, "again"); now != home || n != 1 {
		t.Errorf("the stream moved from %s to %s, on %d origins", home, now, n)
	}
}

// playBeforePublish: the player waits where the publisher will come.
func playBeforePublish(t *testing.T, in *instance) {
	for i := range 6 {
		name := fmt.Sprintf("early%d", i)
		players := []*player{in.playRTMP(t, name), in.playRTMP(t, name)}
		in.publish(t, name)
		awaitFrames(t, 5, 10*time.Second, players...)
		for _, p := range players {
			p.checkNoGap(t)
		}
	}
}

// stolenName: while a stream is live nobody else can publish its name.
func stolenName(t *testing.T, in *instance) {
	in.publish(t, "mine")
	player := in.playRTMP(t, "mine")
	player.awaitFrames(t, 3, 10*time.Second)
	for range 5 {
		if thief, err := openPublish(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "mine"); err == nil {
			// SRS says yes before it looks; then it closes.
			thief.awaitHangup(t, 5*time.Second)
			thief.conn.Close()
		}
	}
	player.awaitFrames(t, 5, 10*time.Second)
	player.checkNoGap(t)
	if _, n := in.home(t, "mine"); n != 1 {
		t.Errorf("the stream is on %d origins", n)
	}
}

// enhancedHEVC: messages of "Enhanced RTMP v1" arrive byte by byte as they were
// sent, after a sequence header that a real encoder made.
func enhancedHEVC(t *testing.T, in *instance) {
	p := openWaiting(t, in, "hevc")
	var sent []rtmp.Message
	video := func(ms uint32, head byte, body []byte) {
		sent = append(sent, rtmp.Message{
			ChunkStreamID: 6, Type: rtmp.TypeVideo, StreamID: 1, Timestamp: ms,
			Payload: append(append([]byte{head}, "hvc1"...), body...),
		})
	}
	const frames = 60
	video(0, 0x90, hevcConfig(t)) // a keyframe of packet type 0: the sequence's start
	for i := range uint32(frames) {
		unit := bytes.Repeat([]byte{byte(i + 1)}, 2000)
		unit[0], unit[1] = 0x02, 0x01 // TRAIL_R
		head := byte(0xa1)            // inter, packet type 1: with composition time
		if i%15 == 0 {
			unit[0], head = 0x26, 0x91 // IDR_W_RADL, a keyframe
		}
		body := append([]byte{0, 0, 40}, binary.BigEndian.AppendUint32(nil, uint32(len(unit)))...)
		video(i*40, head, append(body, unit...))
	}
	pub, err := openPublish(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "hevc")
	if err != nil {
		t.Fatal(err)
	}
	defer pub.conn.Close()
	if err := pub.w.WriteMessages(sent...); err != nil {
		t.Fatal(err)
	}
	_ = p.conn.SetDeadline(time.Now().Add(20 * time.Second))
	// SRS holds the last ones back until more come.
	for i, want := range sent[:frames-15] {
		got, err := p.media()
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", i, len(sent), err)
		}
		if got.Type != want.Type || !bytes.Equal(got.Payload, want.Payload) {
			t.Fatalf("message %d: type %d, %d bytes beginning % x; want type %d, %d bytes beginning % x",
				i, got.Type, len(got.Payload), got.Payload[:min(12, len(got.Payload))], want.Type, len(want.Payload), want.Payload[:12])
		}
	}
}

// hevcConfig is the decoder configuration record of an encoder, out of the hvcC
// box of an MP4 (ISO 14496-15, 8.3.2).
func hevcConfig(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hevc.mp4")
	if err := command("ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15",
		"-t", "0.5", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none", "-tag:v", "hvc1", path); err != nil {
		t.Skipf("ffmpeg has no encoder of HEVC: %v", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(b, []byte("hvcC"))
	if i < 4 {
		t.Fatal("no hvcC box")
	}
	return b[i+4 : i-4+int(binary.BigEndian.Uint32(b[i-4:]))]
}

// TestSecretsStayOutOfLogs: what comes after the question mark is nobody's business.
func TestSecretsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	in := up(t, 2, "--log-level", "debug")
	const secret = "Hush4711"
	query := "?token=" + secret
	in.publishAs(t, "rtmp://"+in.rtmp()+"/live"+query, "a"+query)
	in.publishAs(t, "rtmp://user:"+secret+"@"+in.rtmp()+"/live", "b")
	p, err := openPlay(in.rtmp(), "rtmp://"+in.rtmp()+"/live", "a"+query)
	if err != nil {
		t.Fatal(err)
	}
	defer p.conn.Close()
	expectMedia(t, p, 5, 5, 0)
	conn, err := net.Dial("tcp", in.http())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	flv, err := openFLV(conn, in.http(), "/live/a.flv"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := flv.next(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, path := range []string{"/live/a.m3u8", "/live/none.mp4", "/live/none.flvv", "/%0d%0a/x.ts", "/live/a-99.ts"} {
		_ = get(t, ctx, "http://"+in.http()+path+query, http.Header{"Authorization": {secret}, "Cookie": {secret}})
	}
	if _, err := openPublish(in.rtmp(), "rtmp://"+in.rtmp()+"/"+query, ""); err == nil {
		t.Error("a publish without a name is let in")
	}
	for _, what := range []string{"json", "wide"} {
		if out := srsProxy(t, "status", "-o", what, "--state-dir", in.stateDir).out; strings.Contains(out, secret) {
			t.Errorf("status -o %s tells the secret:\n%s", what, out)
		}
	}
	state, _ := os.ReadFile(filepath.Join(in.stateDir, "state.json"))
	logs := map[string]string{"the log": "", "the state file": string(state)}
	if suite.srs == "" { // SRS writes what it likes
		for _, o := range in.status().Origins {
			b, err := os.ReadFile(o.LogFile)
			if err != nil {
				t.Fatal(err)
			}
			logs["the log of "+o.ID] = string(b)
		}
	}
	in.stop() // the closing lines too
	logs["the log"] = in.err.String() + in.out.String()
	if !strings.Contains(logs["the log"], "live/a") {
		t.Error("the log does not name the stream: nothing was looked at")
	}
	for name, text := range logs {
		for line := range strings.Lines(text) {
			if strings.Contains(line, secret) {
				t.Errorf("%s tells the secret: %s", name, line)
			}
		}
	}
}

// TestIPv6: the same on ::1.
func TestIPv6(t *testing.T) {
	t.Parallel()
	if ln, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("no IPv6 here: %v", err)
	} else {
		ln.Close()
	}
	in := newInstance(t, 1)
	rtmpAddr, httpAddr := fmt.Sprintf("[::1]:%d", in.ports.RTMP), fmt.Sprintf("[::1]:%d", in.ports.HTTP)
	in.cmd.Args = append(in.cmd.Args, "--rtmp", rtmpAddr, "--http", httpAddr)
	in.start().waitReady(readyWithin)
	pub, err := startPublisher(rtmpAddr, "rtmp://"+rtmpAddr+"/live", "six")
	if err != nil {
		t.Fatal(err)
	}
	defer pub.stop()
	checkCodecs(t, "rtmp://"+rtmpAddr+"/live/six", "aac", "h264")
	checkCodecs(t, "http://"+httpAddr+"/live/six.flv", "aac", "h264")
}
