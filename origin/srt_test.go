package origin

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"
	"github.com/pion/webrtc/v4"

	"srs-proxy/testkit"
)

// srtConfig is rtcConfig with SRT.
func srtConfig() Config {
	cfg := rtcConfig()
	cfg.SRT = DefaultConfig().SRT
	cfg.SRT.Listen = "127.0.0.1:0"
	return cfg
}

func needSRT(t *testing.T) {
	t.Helper()
	testkit.NeedTools(t, "ffmpeg", "ffprobe")
	if out, err := exec.Command("ffmpeg", "-hide_banner", "-protocols").Output(); err != nil || !strings.Contains(string(out), "srt\n") {
		t.Skip("this ffmpeg has no SRT")
	}
}

// srtURL is for ffmpeg, which takes the stream id as it is.
func (o *testOrigin) srtURL(streamID string, more ...string) string {
	return "srt://" + o.SRTAddr().String() + "?" + strings.Join(append(more, "streamid="+streamID), "&")
}

func (o *testOrigin) publishSRT(clip, streamID string, more ...string) *ffmpeg {
	o.t.Helper()
	return startFFmpeg(o.t, "-re", "-stream_loop", "-1", "-i", clip, "-c", "copy", "-f", "mpegts", o.srtURL(streamID, more...))
}

// dialSRT returns a client of the library's, or why it was refused.
func (o *testOrigin) dialSRT(streamID, passphrase string) (gosrt.Conn, error) {
	o.t.Helper()
	c := gosrt.DefaultConfig()
	c.StreamId, c.Passphrase = streamID, passphrase
	conn, err := gosrt.Dial("srt", o.SRTAddr().String(), c)
	if err == nil {
		o.t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func TestSRTToEveryPlayer(t *testing.T) {
	t.Parallel()
	needSRT(t)
	file := clip(t)
	o := start(t, srtConfig())
	early := o.whep("a", webrtc.NetworkTypeUDP4)
	o.publishSRT(file, "#!::r=live/a,m=publish")
	s := o.awaitStream("/live/a", true, true)
	if s.Video.Width != 320 || s.Video.Height != 180 || s.Audio.SampleRate != 44100 {
		t.Errorf("stream %+v %+v", s.Video, s.Audio)
	}
	early.awaitKeyframe()
	for name, url := range map[string]string{
		"rtmp":        o.rtmpURL("/live/a"),
		"flv":         o.httpURL("/live/a.flv"),
		"ts":          o.httpURL("/live/a.ts"),
		"hls":         o.httpURL("/live/a.m3u8"),
		"srt":         o.srtURL("#!::r=live/a,m=request"),
		"srt, a path": o.srtURL("live/a"),
		"srt, vhost":  o.srtURL("#!::h=unknown.example,r=live/a"),
	} {
		t.Run(name, func(t *testing.T) {
			codecs, _ := probe(t, url)
			slices.Sort(codecs)
			if !slices.Equal(codecs, []string{"aac", "h264"}) {
				t.Errorf("ffprobe found %v, want aac and h264", codecs)
			}
		})
	}
}

func TestEverythingToSRT(t *testing.T) {
	t.Parallel()
	needSRT(t)
	file := clip(t)
	o := start(t, srtConfig())
	o.publish(file, "/live/rtmp")
	o.whip(file, "whip", webrtc.NetworkTypeUDP4)
	o.awaitStream("/live/rtmp", true, true)
	o.awaitStream("/live/whip", false, true)
	for name, want := range map[string][]string{"rtmp": {"aac", "h264"}, "whip": {"h264"}} {
		t.Run(name, func(t *testing.T) {
			codecs, _ := probe(t, o.srtURL("#!::r=live/"+name))
			slices.Sort(codecs)
			if !slices.Equal(codecs, want) {
				t.Errorf("ffprobe found %v, want %v", codecs, want)
			}
		})
	}
}

// TestHEVCOverSRT: enhanced RTMP is what comes of it; the transport stream is proof
// that the sequence header is right.
func TestHEVCOverSRT(t *testing.T) {
	t.Parallel()
	needSRT(t)
	file := hevcClip(t)
	o := start(t, srtConfig())
	o.publishSRT(file, "#!::r=live/a,m=publish")
	s := o.awaitStream("/live/a", false, true)
	if s.Video.Codec != "HEVC" || s.Video.Width != 320 {
		t.Errorf("video %+v", s.Video)
	}
	if codecs, _ := probe(t, o.httpURL("/live/a.ts")); !slices.Contains(codecs, "hevc") {
		t.Errorf("ffprobe found %v, want hevc", codecs)
	}
}

func hevcClip(t *testing.T) string {
	t.Helper()
	path := t.TempDir() + "/clip.ts"
	f := startFFmpeg(t, "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-t", "2", "-c:v", "libx265", "-preset", "ultrafast",
		"-x265-params", "keyint=25:log-level=none", "-pix_fmt", "yuv420p", "-f", "mpegts", path)
	<-f.done
	if f.cmd.ProcessState.ExitCode() != 0 {
		t.Skipf("ffmpeg makes no HEVC: %s", f.out)
	}
	return path
}

func TestSRTPassphrase(t *testing.T) {
	t.Parallel()
	needSRT(t)
	file := clip(t)
	cfg := srtConfig()
	cfg.SRT.Passphrase = "a_passphrase"
	o := start(t, cfg)
	for _, wrong := range []string{"", "another passphrase"} {
		if _, err := o.dialSRT("#!::r=live/a,m=publish", wrong); err == nil {
			t.Errorf("passphrase %q was accepted", wrong)
		}
	}
	o.publishSRT(file, "#!::r=live/a,m=publish", "passphrase=a_passphrase", "pbkeylen=32")
	o.awaitStream("/live/a", true, true)
	if codecs, _ := probe(t, o.srtURL("#!::r=live/a", "passphrase=a_passphrase")); len(codecs) != 2 {
		t.Errorf("ffprobe found %v", codecs)
	}
	plain := start(t, srtConfig())
	if _, err := plain.dialSRT("#!::r=live/a,m=publish", "a_passphrase"); err == nil {
		t.Error("a passphrase was accepted where none is set")
	}
}

func TestSRTClientsInTheAPI(t *testing.T) {
	t.Parallel()
	cfg := srtConfig()
	cfg.PublishFirst = time.Minute
	o := start(t, cfg)
	pub, err := o.dialSRT("#!::r=live/a,m=publish", "")
	if err != nil {
		t.Fatal(err)
	}
	play, err := o.dialSRT("#!::r=live/a,m=request", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.dialSRT("#!::r=live/a,m=publish", ""); err == nil {
		t.Error("a second publisher was accepted")
	}
	if _, err := o.dialSRT("#!::r=live/a,m=bidirectional", ""); err == nil {
		t.Error("a mode that does not exist was accepted")
	}

	// Whatever it is, SRT players get it as it came, though it has no tables.
	packets := make([]byte, srtPayload)
	for i := range packets {
		packets[i] = byte(i / tsPacketSize)
		if i%tsPacketSize == 0 {
			packets[i] = 0x47
		}
	}
	got := make(chan []byte, 1)
	go func() {
		b := make([]byte, srtPayload)
		if _, err := io.ReadFull(play, b); err == nil {
			got <- b
		}
		close(got)
	}()
	o.await("the player", func() bool { n, _, _ := o.hub.counts(); return n == 2 })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(15 * time.Second)
	for received := false; !received; {
		select {
		case <-timeout:
			t.Fatal("nothing arrived in 15 s")
		case b, ok := <-got:
			if !ok || string(b) != string(packets) {
				t.Fatalf("%d bytes arrived, and not those that were sent", len(b))
			}
			received = true
		case <-tick.C:
			if _, err := pub.Write(packets); err != nil {
				t.Fatal(err)
			}
		}
	}
	byType := func() map[string]apiClient {
		var r clientsReply
		o.api("/api/v1/clients/", &r)
		all := make(map[string]apiClient)
		for _, c := range r.Clients {
			all[c.Type] = c
		}
		return all
	}
	all := byType()
	if c := all["srt-publish"]; !c.Publish || c.RecvBytes == 0 || c.URL != "/live/a" || c.TcURL != "srt://__defaultVhost__/live" {
		t.Errorf("publisher %+v", c)
	}
	if c := all["srt-play"]; c.Publish || c.SendBytes == 0 {
		t.Errorf("player %+v", c)
	}
	for _, c := range all {
		if resp, body := request(t, http.MethodDelete, o.apiURL("/api/v1/clients/"+c.ID), ""); resp.StatusCode != http.StatusOK {
			t.Errorf("kick %s: %s %s", c.Type, resp.Status, body)
		}
	}
	o.await("no clients", func() bool { return len(byType()) == 0 })
	if _, err := io.Copy(io.Discard, play); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("the player that was ended: %v", err)
	}
}

// TestSilentSRTPublisher: one that connects and sends nothing must not keep its stream.
func TestSilentSRTPublisher(t *testing.T) {
	t.Parallel()
	cfg := srtConfig()
	cfg.PublishFirst, cfg.PublishNormal = time.Second, 500*time.Millisecond
	o := start(t, cfg)
	pub, err := o.dialSRT("#!::r=live/a,m=publish", "")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, _ = io.Copy(io.Discard, pub)
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("ended after %s, before the timeout", took)
	}
	o.await("no clients", func() bool { n, _, _ := o.hub.counts(); return n == 0 })
	if log := o.logs.String(); !strings.Contains(log, errSilent.Error()) {
		t.Error("the log does not say why")
	}
}

// TestSRTPortIsOurs: the library would share it.
func TestSRTPortIsOurs(t *testing.T) {
	t.Parallel()
	o := start(t, srtConfig())
	cfg := srtConfig()
	cfg.SRT.Listen = o.SRTAddr().String()
	second := New(cfg, discard())
	if err := second.Listen(); err == nil {
		second.release()
		t.Fatal("two origins listen on one port")
	}
}

// TestMalformedSRTHandshake: one datagram must not end the origin. The library panics
// where an extension is cut off.
func TestMalformedSRTHandshake(t *testing.T) {
	t.Parallel()
	o := start(t, srtConfig())
	addr, err := net.ResolveUDPAddr("udp", o.SRTAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUDP("udp", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	packet := make([]byte, 16+48+1)
	packet[0] = 0x80                                        // control, handshake
	binary.BigEndian.PutUint32(packet[16:], 5)              // version
	binary.BigEndian.PutUint16(packet[16+6:], 7)            // extensions: all
	binary.BigEndian.PutUint32(packet[16+20:], 0xffff_ffff) // conclusion
	for n := 16; n <= len(packet); n++ {
		if _, err := conn.Write(packet[:n]); err != nil {
			t.Fatal(err)
		}
	}
	o.await("the malformed one", func() bool { return strings.Contains(o.logs.String(), errHandshake.Error()) })
	if _, err := o.dialSRT("#!::r=live/a,m=request", ""); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
